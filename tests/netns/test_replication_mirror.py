# SPDX-License-Identifier: GPL-2.0-or-later
"""The mirror keeps a backup's kernel equal to the held table; a dump does not undo events. Real tables."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tandem.conntrack.encode import Builder
from tandem.conntrack.filter import Filter
from tandem.conntrack.kernel_table import PIECE_SHARE, PORTION, KernelTable
from tandem.conntrack.record import DESTROY, NEW, UPDATE, Record
from tandem.conntrack.writer import Restorer
from tandem.log import Logger, StderrSink
from tandem.loop import Loop
from tandem.replication.cache import Cache
from tandem.replication.journal import CHANGED_MAX, Journal
from tandem.replication.mirror import Mirror
from tandem.replication.pacer import KEYS_A_STEP, LEAST, ROUND
from tandem.replication.survey import Survey
from tandem.replication.tables import Own
from tests.lab import netns
from tests.netns.test_replication_ctnetlink import dumped, entries, finish, flows, untimed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")


TRACK = """
table ip track {
    chain output {
        type filter hook output priority filter; policy accept;
        ct state new accept
    }
}
"""


class Backup:
    """A mirror of one held table, in a namespace, on a loop that is turned by hand."""

    def __init__(self, where: str, peers: int = 1, settle: int | None = None) -> None:
        self.where = where
        self.loop = Loop()
        self.journal = Journal()
        self.caches = [Cache(200_000, 1 << 30, journal=self.journal) for _ in range(peers)]
        self.restorer = netns.enter(where, Restorer)
        self.survey = None if settle is None else Survey(self.loop, settle)
        self.mirror = Mirror(self.loop, self.restorer, self.journal, lambda: self.caches, self.survey)
        self.mirror.established = 7440
        self.mirror.follow(whole=False)

    def hold(self, op: int, some: list[tuple[bytes, bytes]], peer: int = 0) -> None:
        records = [(op, key, b"" if op == DESTROY else body) for key, body in some]
        self.caches[peer].apply_all(records, self.loop.now())

    def second(self, times: int = 1) -> None:
        """Do `times` seconds' work of the mirror, and wait until all of it is done."""
        for _ in range(times):
            netns.enter(self.where, self.mirror.work)
            self.until(self.idle)

    def idle(self) -> bool:
        pacer = self.mirror.pacer
        return not (pacer.round or pacer._rounds or pacer._untouched)

    def complete(self) -> None:
        done: list[bool] = []
        self.mirror.complete(lambda: done.append(True))
        self.until(lambda: bool(done))

    def until(self, condition: Callable[[], bool]) -> None:
        def turn(now: int) -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.call_at("turn", self.loop.now(), turn)

        self.loop.call_at("turn", self.loop.now(), turn)
        netns.enter(self.where, self.loop.run)

    def kernel(self) -> dict[bytes, bytes]:
        return {key: untimed(body) for key, body in entries(dumped(self.where)).items()}

    def held(self) -> dict[bytes, bytes]:
        return {key: untimed(body) for cache in self.caches for part in cache.slices() for key, body in part}

    def close(self) -> None:
        self.restorer.close()


@pytest.fixture
def backup(where: str) -> Iterator[Backup]:
    made = Backup(where)
    yield made
    made.close()


def test_the_kernel_follows(backup: Backup) -> None:
    backup.hold(NEW, flows(3000))
    backup.second()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 3000
    backup.hold(UPDATE, flows(1000, state=7))
    backup.hold(DESTROY, flows(500, first=2000))
    backup.hold(NEW, flows(200, first=5000))
    backup.hold(DESTROY, flows(100, first=5000))  # come and gone between two looks
    backup.second()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 2600
    backup.hold(DESTROY, flows(10, first=1500))
    backup.hold(NEW, flows(10, first=1500, state=1))  # another connection of the same two ports
    backup.hold(NEW, flows(1, first=7000, snat="192.0.2.9"))
    backup.hold(UPDATE, flows(1, first=7000))  # with another NAT
    backup.complete()
    assert len(backup.kernel()) == 2601 and backup.kernel().keys() == backup.held().keys()
    assert not backup.mirror.refused and backup.mirror.steps[-1]["failed"] == 0


def test_what_came_back_while_its_end_was_under_way_and_ends_again_goes(backup: Backup) -> None:
    """The deletion left out what was held again: the kernel has it, unlike other entries that are new."""
    backup.hold(NEW, flows(1000))
    backup.second()
    backup.hold(DESTROY, flows(1000))
    netns.enter(backup.where, backup.mirror.work)  # the first step of several
    backup.hold(NEW, flows(1000))
    backup.until(backup.idle)
    backup.hold(DESTROY, flows(1000))
    backup.second(2)
    assert backup.kernel() == backup.held() == {}


def test_what_ends_during_the_walk_through_everything_goes(backup: Backup) -> None:
    """The walk has put it there, although it was noted as new."""
    backup.hold(NEW, flows(5000))
    backup.journal.doubt()
    backup.journal.whole = False
    netns.enter(backup.where, backup.mirror.work)
    backup.hold(NEW, flows(1000, first=5000))
    backup.until(backup.idle)
    backup.hold(DESTROY, flows(1000, first=5000))
    backup.second(2)
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 5000


def test_a_bulk_that_brings_nothing_new_is_no_work(backup: Backup) -> None:
    backup.hold(NEW, flows(500))
    backup.second()
    [cache] = backup.caches
    cache.begin_bulk()
    backup.hold(NEW, flows(400))
    cache.end_bulk()
    assert backup.journal.waiting == 0
    for second in range(100):  # the sweep
        for _ in cache.tidy(backup.loop.now() + second):
            pass
    assert len(backup.journal.gone) == 100
    backup.second()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 400


def test_more_changes_than_are_noted(backup: Backup) -> None:
    backup.second()
    assert backup.journal.whole
    backup.hold(NEW, flows(CHANGED_MAX + 100))
    assert not backup.journal.whole and backup.journal.waiting <= CHANGED_MAX
    backup.complete()
    assert backup.kernel().keys() == backup.held().keys()


def test_entries_that_the_kernel_lost_come_back_and_none_times_out(backup: Backup) -> None:
    backup.hold(NEW, flows(300, timeout=30, state=7))
    backup.second()
    left = [int.from_bytes(body[3:7], "big") for body in entries(dumped(backup.where)).values()]
    assert min(left) > LEAST - 5
    delete = ["ip", "netns", "exec", backup.where, "conntrack", "-D", "-p", "tcp", "--orig-port-src"]
    for key in list(backup.held())[:10]:
        netns.run([*delete, str(int.from_bytes(key[12:14], "big"))])
    assert len(backup.kernel()) == 290
    backup.second(ROUND)
    assert backup.kernel() == backup.held()


def test_it_says_when_the_kernel_has_caught_up(backup: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    backup.second()
    backup.until(lambda: backup.mirror.caught_up)
    backup.hold(NEW, flows(3000))
    backup.mirror.catch_up()
    netns.enter(backup.where, backup.mirror.work)  # the first step of several
    assert not backup.mirror.caught_up
    backup.until(lambda: backup.mirror.caught_up)
    assert len(backup.kernel()) == 3000
    backup.mirror.catch_up()
    with monkeypatch.context() as patch:
        patch.setattr("tandem.replication.mirror.table_size", lambda: (80, 100))
        backup.hold(NEW, flows(100, first=3000))
        backup.second(2)
        assert not backup.mirror.caught_up
    backup.second()
    backup.until(lambda: backup.mirror.caught_up)
    backup.mirror.leave()
    assert not backup.mirror.caught_up


def flush(backup: Backup) -> None:
    netns.run(["ip", "netns", "exec", backup.where, "conntrack", "-F"])
    assert not backup.kernel()


def test_a_table_that_was_flushed_is_there_again(backup: Backup) -> None:
    """Within a second, and when a takeover needs it before that."""
    backup.hold(NEW, flows(300))
    backup.second()
    flush(backup)
    backup.second()
    assert backup.kernel() == backup.held()
    flush(backup)
    backup.complete()
    assert backup.kernel().keys() == backup.held().keys()


def test_what_is_noted_is_not_lacking(backup: Backup) -> None:
    """A flow that comes during the walk is noted as changed, and may be in the kernel or not."""
    backup.hold(NEW, flows(100))
    backup.second()
    backup.journal.unsure = True
    backup.hold(NEW, flows(200)[100:])
    assert len(backup.journal.changed) == 100
    netns.enter(backup.where, backup.mirror.work)
    assert backup.journal.whole
    backup.second()
    assert backup.kernel() == backup.held()


def test_what_the_kernel_does_not_take_is_not_offered_every_second(
    backup: Backup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.replication.mirror.table_size", lambda: (0, 1000))
    backup.hold(NEW, flows(300))
    backup.second(3)
    begun: list[bool] = []
    monkeypatch.setattr(backup.restorer, "restore", lambda *_: begun.append(True))
    backup.second(3)
    assert backup.journal.whole and not begun


def test_a_kernel_that_is_nearly_full_is_left_room(backup: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own packets need entries too. What has ended goes; a takeover does not ask for room."""
    backup.hold(NEW, flows(100))
    backup.second()
    monkeypatch.setattr("tandem.replication.mirror.table_size", lambda: (80, 100))
    backup.hold(NEW, flows(100, first=100))
    backup.hold(DESTROY, flows(50))
    backup.second(3)
    assert len(backup.kernel()) == 50 and backup.journal.waiting == 100
    backup.complete()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 150


def test_nobody_waits_until_all_are_touched(backup: Backup) -> None:
    backup.hold(NEW, flows(20_000))
    backup.second()
    backup.mirror.follow(whole=True)  # as after the table was handed over: all is there, and runs down
    netns.enter(backup.where, backup.mirror.work)
    backup.complete()
    assert backup.mirror.pacer._untouched > 0
    assert backup.mirror.steps[-1]["entries"] == 0
    backup.second(2)
    assert backup.mirror.pacer._untouched == 0


def test_a_table_that_is_retired_leaves_the_kernel_but_for_what_is_held(where: str) -> None:
    backup = Backup(where, peers=2)
    backup.hold(NEW, flows(500))
    backup.second()
    old, backup.caches[0] = backup.caches[0], Cache(1000, 1 << 20, journal=backup.journal)
    backup.hold(NEW, flows(300, first=400), peer=1)
    backup.mirror.retire(old)
    backup.until(backup.idle)
    backup.second()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 300
    backup.close()


def test_what_the_first_table_says_of_a_flow_counts(where: str) -> None:
    """The others are of routers that were active before."""
    backup = Backup(where, peers=3)
    for peer in (2, 1):
        backup.hold(NEW, flows(500, first=200 * peer, state=4 + peer), peer=peer)
    backup.hold(NEW, flows(300, state=3))
    backup.complete()
    assert len(backup.kernel()) == 900
    expected: dict[bytes, bytes] = {}
    for cache in backup.caches:
        expected = {key: untimed(body) for part in cache.slices() for key, body in part} | expected
    assert backup.kernel() == expected
    backup.hold(UPDATE, flows(300, state=4))
    backup.hold(UPDATE, flows(500, first=200, state=7), peer=1)
    backup.second()
    known = backup.kernel()
    assert all(known[key] == untimed(body) for part in backup.caches[0].slices() for key, body in part)
    backup.close()


def test_no_step_looks_through_all_that_was_noted(where: str) -> None:
    """The active router's records wait during a step: 20,000 new flows a second cost 3 ms at once."""
    backup = Backup(where, peers=2)
    backup.second()
    looks = 0
    cache = backup.caches[1]
    get, step = cache.get, backup.restorer.step
    longest: list[int] = []

    def counted(key: bytes) -> bytes | None:
        nonlocal looks
        looks += 1
        return get(key)

    def stepped() -> bool:
        nonlocal looks
        done = step()
        longest.append(looks)
        looks = 0
        return done

    cache.get, backup.restorer.step = counted, stepped  # type: ignore[method-assign]
    backup.hold(NEW, flows(5000), peer=1)
    backup.second()
    backup.hold(NEW, flows(5000))
    backup.second()
    backup.hold(DESTROY, flows(5000))  # which the other peer still has
    assert len(backup.journal.gone) == 5000
    longest.clear()
    looks = 0
    backup.second()
    assert backup.kernel() == backup.held() and len(backup.kernel()) == 5000
    assert len(longest) >= 5000 // KEYS_A_STEP and max(longest) <= KEYS_A_STEP
    backup.close()


def test_the_active_s_kernel_is_left_alone(backup: Backup) -> None:
    backup.hold(NEW, flows(100))
    backup.second()
    backup.mirror.leave()
    backup.hold(DESTROY, flows(100))
    backup.second()
    assert len(backup.kernel()) == 100 and not backup.journal.waiting
    backup.mirror.follow(whole=False)
    backup.hold(NEW, flows(50, state=1))
    backup.complete()
    assert backup.held().items() <= {**backup.kernel(), **backup.held()}.items()


class Told(list[Record]):
    """The records that were pushed."""


@pytest.fixture
def table(where: str) -> Iterator[tuple[KernelTable, Own, Told]]:
    own, told = Own(lambda: Cache(1000, 1 << 20)), Told()

    def make() -> KernelTable:
        return KernelTable(Loop(), Logger("error", StderrSink()), own, Filter(), (), 1 << 20, told.extend)

    made = netns.enter(where, make)
    yield made, own, told
    made.close()


def put(where: str, some: list[tuple[bytes, bytes]]) -> None:
    restorer = netns.enter(where, Restorer)
    restorer.restore(Builder().chunks(some))
    finish(restorer)
    restorer.close()


def look_through(where: str, kernel: KernelTable) -> None:
    while kernel._dump is not None:
        netns.enter(where, lambda: kernel._loop.turn(0))


def test_a_slow_router_takes_a_piece_in_over_several_turns_and_believes_events_in_between(where: str) -> None:
    own, told = Own(lambda: Cache(1000, 1 << 20)), Told()
    clock = count(0, PIECE_SHARE)  # each look at the clock: a share of a turn is over

    def make() -> KernelTable:
        loop = Loop(clock=lambda: next(clock))
        return KernelTable(loop, Logger("error", StderrSink()), own, Filter(), (), 1 << 20, told.extend)

    kernel = netns.enter(where, make)
    put(where, flows(200))
    netns.enter(where, kernel.listen)
    while not kernel._piece:
        kernel._loop.turn(0)
    assert len(kernel._piece) > PORTION and 0 < len(own.cache) < 100
    netns.run(["ip", "netns", "exec", where, "conntrack", "-F"])
    kernel.read()
    look_through(where, kernel)
    assert len(own.cache) == 0
    kernel.close()


def test_a_dump_does_not_bring_back_what_an_event_ended(
    where: str, table: tuple[KernelTable, Own, Told]
) -> None:
    kernel, own, told = table
    put(where, flows(20))
    netns.enter(where, kernel.listen)  # the first piece of the dump is written now
    netns.run(["ip", "netns", "exec", where, "conntrack", "-F"])
    kernel.read()
    look_through(where, kernel)
    assert len(own.cache) == 0 and all(op == DESTROY for op, _, _ in told)


def test_what_a_dump_finds_changed_is_pushed(where: str, table: tuple[KernelTable, Own, Told]) -> None:
    """As after a restore of entries that had got further in the kernel, or when events were lost."""
    kernel, own, told = table
    own.cache.apply_all([(NEW, *flow) for flow in flows(20, state=1, timeout=9)], 0)
    put(where, flows(10, first=10) + flows(10, state=1) + flows(10, first=20))
    netns.enter(where, kernel.listen)
    look_through(where, kernel)
    # SYN_SENT is restored as SYN_RECV, so that all are news; the second time none is.
    assert {key for _, key, _ in told} == {key for key, _ in flows(30)}
    told.clear()
    netns.enter(where, kernel.dump)
    look_through(where, kernel)
    assert not told and len(own.cache) == 30


def test_what_is_told_once_stays_as_long_as_the_kernel_has_it(
    where: str, table: tuple[KernelTable, Own, Told]
) -> None:
    """A tunnel gives one event when it begins, and is not over after an hour."""
    kernel, own, _ = table
    put(where, flows(5, timeout=7440))
    netns.enter(where, kernel.listen)
    look_through(where, kernel)
    began = kernel._loop.now()
    for second in range(0, 4 * 7440, 2):
        kernel.work(began + second * 1_000_000_000)
        for _ in own.cache.tidy(began + second * 1_000_000_000):
            pass
    assert len(own.cache) == 5 and own.cache.expired == 0


def test_what_packets_of_this_router_use_is_left_there(where: str) -> None:
    """An entry with packets before the survey and none since is deleted; none is deleted earlier."""
    netns.write_sysctls(where, {"netfilter/nf_conntrack_acct": 1})
    netns.ip_batch(["link set lo up"], where)
    netns.run(["ip", "netns", "exec", where, "nft", "-f", "-"], stdin=TRACK)
    backup = Backup(where, settle=3600_000_000_000)

    def send(*ports: int) -> None:
        def body() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 999))
                for port in ports:
                    sock.sendto(b"", ("127.0.0.1", port))

        netns.enter(where, body)

    send(1001, 1002)
    backup.hold(NEW, flows(10))
    backup.second()
    tracked = {key[-2:]: (key, body) for key, body in entries(dumped(where)).items() if key[4] == 127}
    assert len(tracked) == 2
    backup.hold(NEW, list(tracked.values()))
    assert backup.survey is not None and not backup.survey.ready
    backup.hold(DESTROY, flows(1))
    backup.second()
    assert len(backup.kernel()) == 12
    netns.enter(where, lambda: backup.survey and backup.survey._begin(backup.loop.now()))
    backup.until(lambda: backup.survey is not None and backup.survey.ready)
    send(1002, 1003)
    backup.hold(DESTROY, [*tracked.values(), *flows(9)])
    backup.second()
    left = {key[-2:] for key in backup.kernel()}
    assert (1002).to_bytes(2, "big") in left and (1003).to_bytes(2, "big") in left
    assert len(left) == 3 and backup.mirror.kept == 1
    backup.close()
