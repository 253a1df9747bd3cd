# SPDX-License-Identifier: GPL-2.0-or-later
"""When a router that becomes active looks through the kernel's whole table, which may stop its forwarding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tandem.conntrack import kernel_table
from tandem.conntrack.filter import Filter
from tandem.conntrack.kernel_table import LOOK_LATER, KernelTable
from tandem.log import Logger
from tandem.loop import Loop
from tests.lab.log import Lines


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
        self.now, self.dumps = 0, 0
        monkeypatch.setattr(kernel_table, "Events", Events)
        monkeypatch.setattr(kernel_table, "Dump", self.dump)
        self.loop = Loop(clock=lambda: self.now)
        monkeypatch.setattr(self.loop, "add_reader", lambda *_args, **_options: None)
        monkeypatch.setattr(self.loop, "remove_reader", lambda *_: None)
        cache = SimpleNamespace(begin_bulk=lambda: None, abort_bulk=lambda: None)
        own: Any = SimpleNamespace(cache=cache)
        log = Logger("error", Lines())
        self.table = KernelTable(self.loop, log, own, Filter(), (), 1 << 20, lambda _records: None)

    def dump(self, *_: object, **_options: object) -> SimpleNamespace:
        self.dumps += 1
        return SimpleNamespace(fileno=lambda: 0, close=lambda: None)

    def at(self, now: int) -> int:
        """Return how many dumps have begun when it is `now`."""
        self.now = now
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
