# SPDX-License-Identifier: GPL-2.0-or-later
"""A pacer with tables, and a kernel that is a dictionary, for the tests of the pacer."""

from __future__ import annotations

from tandem.conntrack.record import DESTROY, NEW
from tandem.replication.cache import Cache
from tandem.replication.journal import Journal
from tandem.replication.pacer import (
    CREATE,
    DELETE,
    TOUCH,
    Pacer,
    Round,
)
from tests.unit.test_replication_cache import flow


class Scene:
    """A pacer with tables, and a kernel that is a dictionary."""

    def __init__(self, tables: int = 1, follow: bool = True) -> None:
        self.journal = Journal()
        self.tables = [Cache(10_000, 1 << 30, journal=self.journal) for _ in range(tables)]
        self.pacer = Pacer(self.journal, lambda: self.tables)
        self.kernel: dict[bytes, bytes] = {}
        self.most = 100_000
        self.ready = True
        self.rounds: list[str] = []
        self.refuses, self.offered = False, 0
        if follow:
            self.pacer.follow(whole=False)

    def hold(self, *numbers: int, table: int = 0, op: int = NEW, state: int = 3) -> None:
        records = [(op, *(flow(number, state=state))) for number in numbers]
        self.tables[table].apply_all(
            [(op, key, b"" if op == DESTROY else body) for op, key, body in records], 0
        )

    def size(self) -> tuple[int, int]:
        return len(self.kernel), self.most

    def write(self, most: int = 1000) -> list[Round]:
        """Do the rounds that there are, `most` of them at most."""
        done: list[Round] = []
        while len(done) < most and (found := self.pacer.next_round(self.size(), self.ready)):
            done.append(found)
            self.rounds.append(found.what)
            missing: list[bytes] = []
            if found.what == DELETE:
                for keys in found.keys:
                    for key in keys:
                        self.kernel.pop(key, None)
            entries = [*found.entries, *(entry for part in found.parts for entry in part)]
            if found.what == CREATE:
                self.offered += len(entries)
                if not self.refuses:
                    self.kernel.update(entries)
            elif found.what == TOUCH:
                missing = [key for key, _ in entries if key not in self.kernel]
            self.pacer.ended(missing)
        return done

    def second(self, times: int = 1) -> None:
        for _ in range(times):
            self.pacer.second(self.size() if self.pacer.asks_size else None, self.ready)
            if not self.pacer.rests:
                self.write()

    def wait(self, seconds: int) -> None:
        """The seconds as the mirror counts them."""
        for _ in range(seconds):
            if self.pacer.due():
                self.second()

    def equal(self) -> bool:
        held: dict[bytes, bytes] = {}
        for table in self.tables:
            held = {key: body for part in table.slices() for key, body in part} | held
        return self.kernel == held
