# SPDX-License-Identifier: GPL-2.0-or-later
"""The bell: a new flow wakes the daemon. An end waits in the socket and overflows nothing."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

import pytest

from tandem.conntrack import socket_filter
from tandem.conntrack.encode import Builder
from tandem.conntrack.filter import Filter
from tandem.conntrack.kernel_table import KernelTable
from tandem.conntrack.record import DESTROY, NEW, Entry, Record
from tandem.conntrack.writer import Restorer
from tandem.core.timers import MILLISECOND
from tandem.log import Logger, StderrSink
from tandem.loop import Loop
from tandem.replication.cache import Cache
from tandem.replication.tables import Own
from tests.lab import netns
from tests.lab.wait import wait_until
from tests.netns.test_replication_ctnetlink import finish, flows

BUFFER = 1 << 20  # the least that receive_buffer can be


class Listener:
    """A kernel's table in a namespace that is heard; `told` are the records for peers."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.told: list[Record] = []
        self.own = Own(lambda: Cache(100_000, 1 << 24))
        self.loop = Loop()
        log = Logger("error", StderrSink())
        self.table = netns.enter(
            where, lambda: KernelTable(self.loop, log, self.own, Filter(), (), BUFFER, self.told.extend)
        )
        self.writer = netns.enter(where, Restorer)
        netns.enter(where, self.table.listen)
        while self.table._dump is not None:
            netns.enter(where, lambda: self.loop.turn(0))

    def put(self, entries: list[Entry]) -> None:
        self.writer.restore(Builder().chunks(entries))
        assert finish(self.writer).failed == 0

    def delete(self, entries: list[Entry]) -> None:
        self.writer.delete(Builder().deletes(key for key, _ in entries))
        assert finish(self.writer).failed == 0

    def be_prompt(self, yes: bool) -> None:
        netns.enter(self.where, lambda: self.table.be_prompt(yes))
        self.hears(lambda: self.table._dump is None)

    @property
    def wakes(self) -> bool:
        return bool(select.select([self.table.events], [], [], 0)[0])

    def hears(self, condition: Callable[[], bool]) -> None:
        def turned() -> bool:
            self.loop.turn(MILLISECOND)
            return condition()

        wait_until(turned, 5, "the events are read", every=0)

    def close(self) -> None:
        self.table.close()
        self.writer.close()
        self.loop.close()


@pytest.fixture
def listener(where: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(socket_filter, "ONE_IN", 1 << 31)  # so that no end rings by chance
    made = Listener(where)
    yield made
    made.close()


def test_an_end_waits_for_the_next_flow_and_is_told_before_it(listener: Listener) -> None:
    """The same addresses and ports are used again at once, and are another connection then."""
    before, after = flows(3, snat="192.168.0.5"), flows(3, snat="192.168.0.6")
    listener.put(before)
    assert listener.wakes
    listener.hears(lambda: len(listener.told) == 3)
    assert listener.own.cache.get(before[0][0]) and not listener.wakes
    listener.told.clear()
    listener.delete(before)
    assert not listener.wakes and listener.told == []
    listener.put(after)
    assert listener.wakes
    listener.hears(lambda: len(listener.told) == 6)
    assert [op for op, _, _ in listener.told] == [DESTROY] * 3 + [NEW] * 3
    assert all(listener.own.cache.get(key)[7:] == body[7:] for key, body in after)  # type: ignore[index]
    assert not listener.wakes


def test_an_end_is_told_within_a_second(listener: Listener) -> None:
    listener.put(flows(1))
    listener.hears(lambda: len(listener.told) == 1)
    listener.delete(flows(1))
    listener.table.work(listener.loop.now())
    assert [op for op, _, _ in listener.told] == [NEW, DESTROY] and len(listener.own.cache) == 0


def test_many_ends_and_nothing_else_overflow_no_buffer(where: str) -> None:
    listener = Listener(where)
    many = flows(10_000)
    for start in range(0, len(many), 500):
        listener.put(many[start : start + 500])
        listener.hears(lambda end=start + 500: len(listener.told) == end)  # type: ignore[misc]
    for start in range(0, len(many), 50):
        listener.delete(many[start : start + 50])
        listener.loop.turn(20 * MILLISECOND)
    assert listener.table.events.overruns == 0
    listener.table.drain()
    assert len(listener.told) == 20_000 and len(listener.own.cache) == 0
    listener.close()


def test_every_event_wakes_who_is_prompt(listener: Listener) -> None:
    """As with the guarantee; a reload turns it on and off."""
    listener.put(flows(2))
    listener.hears(lambda: len(listener.told) == 2)
    listener.be_prompt(True)
    listener.delete(flows(1))
    assert listener.wakes
    listener.hears(lambda: len(listener.told) == 3)
    listener.be_prompt(False)
    listener.delete(flows(1, first=1))
    assert not listener.wakes
    listener.put(flows(1))
    assert listener.wakes
    listener.hears(lambda: len(listener.told) == 5)
