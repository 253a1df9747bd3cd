# SPDX-License-Identifier: GPL-2.0-or-later
"""When a router that becomes active looks through the kernel's whole table, which may stop its forwarding."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.conntrack import kernel_table
from tandem.conntrack.filter import Filter
from tandem.conntrack.kernel_table import LOOK_LATER, PIECE_SHARE, KernelTable
from tandem.conntrack.record import DESTROY, NEW, Record
from tandem.core.timers import MILLISECOND
from tandem.log import Logger
from tandem.loop import Loop
from tandem.replication.cache import SHARDS, Cache
from tandem.replication.tables import Own
from tests.lab.log import Lines
from tests.unit.test_replication_cache import flow


class Events:
    """The events' socket of a kernel in which nothing happens."""

    received = overruns = filtered = 0
    drained = True

    def __init__(self, *_: object, **_options: object) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def use_bell(self, _yes: bool) -> None: ...
    def close(self) -> None: ...
    def read(self, _most: int) -> list[bytes]:
        return []

    def fileno(self) -> int:
        return 0


class Bench:
    """A kernel's table whose dumps are only counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.dumps, self.tick = 0, 0, 0
        monkeypatch.setattr(kernel_table, "Events", Events)
        monkeypatch.setattr(kernel_table, "Dump", self.dump)
        self.loop = Loop(clock=self.clock)
        self.readers: list[Callable[[], None]] = []
        monkeypatch.setattr(self.loop, "add_reader", lambda _fd, callback, **_: self.readers.append(callback))
        monkeypatch.setattr(self.loop, "remove_reader", lambda *_: None)
        self.own: Any = Own(lambda: Cache(1 << 20, 1 << 30))
        self.told: list[Record] = []
        log = Logger("error", Lines())
        self.table = KernelTable(self.loop, log, self.own, Filter(), (), 1 << 20, self.told.extend)

    def clock(self) -> int:
        """Return the time, which goes on by `tick` whenever somebody looks."""
        self.now += self.tick
        return self.now

    def dump(self, *_: object, **_options: object) -> SimpleNamespace:
        self.dumps += 1
        empty = {"entries": 0, "done": True, "read": lambda _pieces: []}
        return SimpleNamespace(fileno=lambda: 0, close=lambda: None, **empty)

    def read_dumps(self) -> None:
        """The kernel answers: there is nothing."""
        while self.readers:
            self.readers.pop()()

    def at(self, now: int) -> int:
        """Return how many dumps have begun when it is `now`."""
        self.now = max(now, self.now)
        self.loop.turn(0)
        return self.dumps


def test_a_table_that_nobody_knows_is_looked_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.table.listen()
    assert bench.at(0) == 1
    assert bench.at(2 * LOOK_LATER) == 1


def test_a_table_that_was_adopted_is_looked_through_when_hosts_have_their_gateway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch)
    bench.table.listen(known=True)
    assert bench.at(LOOK_LATER - 1) == 0
    assert bench.at(LOOK_LATER) == 1
    assert bench.at(3 * LOOK_LATER) == 1


def test_one_look_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.table.listen(known=True)
    bench.table.dump()
    assert bench.at(2 * LOOK_LATER) == 1


def test_a_role_that_ends_meanwhile_needs_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.table.listen(known=True)
    bench.table.deafen()
    assert bench.at(2 * LOOK_LATER) == 0


def test_the_ends_that_a_look_finds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the peer's digest differs, and the whole table is sent: a DHCP answer did that."""
    bench = Bench(monkeypatch)
    flows = [flow(number) for number in range(3000)]
    bench.own.cache.apply_all([(NEW, *one) for one in flows], 0)
    bench.table.listen()
    bench.readers.pop(0)
    bench.tick = MILLISECOND
    bench.read_dumps()
    told_at_once = len(bench.told)
    shards = PIECE_SHARE // MILLISECOND  # a look at the clock follows each, and takes 1 ms here
    assert 0 < told_at_once <= 3 * shards * 3000 / SHARDS, "one turn of the loop"
    assert bench.own.digest() is None, "no digest is sent meanwhile"
    while bench.own.cache.sweeping:
        bench.at(bench.now + 1)
    assert sorted(bench.told) == sorted((DESTROY, key, b"") for key, _ in flows)
    assert bench.own.digest()[0] == 0


def test_a_role_that_ends_tells_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.own.cache.apply_all([(NEW, *flow(number)) for number in range(3000)], 0)
    bench.table.listen()
    bench.readers.pop(0)
    bench.read_dumps()
    bench.table.deafen()
    told = len(bench.told)
    for _ in range(40):
        bench.at(bench.now + 1)
    assert len(bench.told) == told
