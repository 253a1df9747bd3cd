# SPDX-License-Identifier: GPL-2.0-or-later
"""Adverse orders of events: what is held is never lost, and no group goes on without it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.channel.events import (
    Closed,
    HeldInStep,
    HeldOutOfStep,
    Opened,
    PeerHandedOver,
    PeerStream,
)
from tandem.conntrack.record import DESTROY, NEW, Record
from tandem.core.timers import MILLISECOND, SECOND
from tandem.replication.cache import Cache
from tandem.replication.journal import Journal
from tandem.replication.ownership import (
    Action,
    CatchUp,
    Complete,
    Follow,
    Leave,
    Look,
    Merged,
    Ownership,
    Refresh,
    Restored,
    Retire,
    Silence,
    Stream,
)
from tandem.replication.pacer import CREATE, DELETE, Pacer, Round
from tests.unit.test_replication_cache import flow

PEERS = ("P", "Q", "R")
FLOWS = 12
Entries = dict[bytes, bytes]


@dataclass
class World:
    """A router, with its kernel as a dictionary and peers that do what hypothesis wants."""

    now: int = 1_000 * SECOND
    kernel: Entries = field(default_factory=dict)
    streaming: set[str] = field(default_factory=set)
    up: set[str] = field(default_factory=set)
    active: bool = False
    listening: bool = False
    waiting: list[str] = field(default_factory=list)  # groups
    asked: int = 0  # merges that have not ended

    def __post_init__(self) -> None:
        self.journal = Journal()
        self.owns = Ownership(lambda: Cache(1000, 1 << 20, journal=self.journal))
        self.pacer = Pacer(self.journal, self.owns.tables)
        self.completing = False
        for name in PEERS:
            self.owns.held(name)
        self.pacer.follow(False)

    # State

    def held(self) -> Entries:
        """Return the entry of a flow; of several tables the first one counts."""
        found: Entries = {}
        for table in self.owns.tables():
            found = {key: body for part in table.slices() for key, body in part} | found
        return found

    # Actions

    def obey(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Complete(beside):
                    assert beside is self.active
                    self.pacer.complete(self.owns.own.cache.get if beside else None)
                    self.completing = True
                case Follow(whole):
                    self.completing = False
                    if whole:
                        assert self.held().items() <= self.kernel.items()
                    self.pacer.follow(whole)
                case Leave():
                    self.completing = False
                    self.pacer.leave()
                case Retire(table):
                    assert all(table is not other for other in [self.owns.own.cache, *self.owns.tables()])
                    self.pacer.retire(table)
                case Refresh(table):
                    assert self.active
                    self.pacer.refresh(table)
                case CatchUp():
                    self.pacer.catch_up()
                case Stream(adopted):
                    assert not self.listening
                    self.listening = True
                    if not adopted:
                        self.look()
                case Silence():
                    assert self.listening
                    self.listening = False
                case Look():
                    self.look()
                case Restored(group):
                    self.waiting.remove(group)
                case Merged(asked):
                    asked()

    def look(self) -> None:
        """A dump: what the kernel has is our own."""
        assert self.active
        self.owns.own.cache.apply_all([(NEW, key, body) for key, body in self.kernel.items()], self.now)

    def write(self, steps: int) -> None:
        """Let the pacer write; what is asked for is said when nothing is left."""
        for _ in range(steps):
            found = self.pacer.next_round((len(self.kernel), 1000), True)
            if found is None:
                if self.completing:
                    self.completing = False
                    self.check_kernel()
                    self.obey(self.owns.completed(self.now, [self.now] * len(self.streaming)))
                return
            self.begin(found)
            self.pacer.ended([])

    def begin(self, what: Round) -> None:
        if what.what == DELETE:
            for keys in what.keys:
                for key in keys:
                    assert key not in self.held(), "what is held is never deleted"
                    assert not self.active or key not in dict(self.own()), "nor what is our own"
                    self.kernel.pop(key, None)
        elif what.what == CREATE:
            for key, body in [*what.entries, *(entry for part in what.parts for entry in part)]:
                self.kernel[key] = body

    def own(self) -> Entries:
        return {key: body for part in self.owns.own.cache.slices() for key, body in part}

    def check_kernel(self) -> None:
        """Whoever waits may go on: the kernel has all that is held, as far as it was not known better."""
        missing = self.held().keys() - self.kernel.keys()
        assert not missing

    # Events

    def happen(self, what: str, name: str, number: int) -> None:
        peer = self.owns.peers[name]
        if what == "record" and name in self.streaming:
            record: Record = (NEW, *flow(number, state=3 + number % 2))
            peer.held.apply_all([record], self.now)
        elif what == "end" and name in self.streaming:
            peer.held.apply_all([(DESTROY, flow(number)[0], b"")], self.now)
        elif what == "event" and self.listening:
            self.kernel[flow(number)[0]] = flow(number)[1]
            self.owns.own.cache.apply_all([(NEW, *flow(number))], self.now)
        elif what == "begin" and name not in self.streaming:
            self.up.add(name)
            self.streaming.add(name)
            self.obey([*self.owns.peer(name, Opened(), self.now)])
            self.obey(self.owns.peer(name, PeerStream(True, False), self.now))
            if number % 2 and not self.active and peer.held.adopt():
                # The peer has what we told it; our own kernel has it as well.
                self.obey(self.owns.peer(name, HeldInStep(True), self.now))
        elif what == "in step" and name in self.streaming:
            self.obey(self.owns.peer(name, HeldInStep(False), self.now))
        elif what == "out of step" and name in self.streaming:
            self.obey(self.owns.peer(name, HeldOutOfStep("digest"), self.now))
        elif what == "hand over" and name in self.streaming:
            self.obey(self.owns.peer(name, PeerHandedOver(), self.now))
        elif what == "stop" and name in self.streaming:
            self.streaming.discard(name)
            self.obey(self.owns.peer(name, PeerStream(False, False), self.now))
        elif what == "close" and name in self.up:
            self.up.discard(name)
            self.streaming.discard(name)
            self.obey(self.owns.peer(name, Closed("dead"), self.now, self.now - number * SECOND))
        elif what == "restore":
            self.waiting.append(name)
            self.obey(self.owns.restore(name, number % 2 == 0, self.now))
        elif what == "promote" and not self.active:
            self.active = True
            before = {id(self.owns.own.cache)} | {id(table) for table in self.owns.tables()}
            self.obey(self.owns.promoted(self.now))
            assert not self.waiting and len(before & {id(self.owns.own.cache)}) == 1
        elif what == "demote" and self.active:
            self.active = False
            self.asked = 0
            self.obey(self.owns.demoted(self.now))
        elif what == "merge" and self.active:
            self.asked += 1
            self.obey(self.owns.merge(self.merged, number % 2 == 0, self.now))
        elif what == "write":
            self.write(1 + number)
        elif what == "second":
            self.now += SECOND
            self.obey(self.owns.second(self.now))
            if self.pacer.following and not self.pacer.at_full_speed:
                self.pacer.second((len(self.kernel), 1000), True)
        elif what == "time":
            self.now += number * 20 * MILLISECOND
        if (due := self.owns.deadline) is not None and self.now >= due:
            self.obey(self.owns.timer(self.now))

    def merged(self) -> None:
        self.asked -= 1

    def check(self) -> None:
        tables = [self.owns.own.cache, *self.owns.tables()]
        assert len({id(table) for table in tables}) == len(tables), "a table has one owner"
        assert self.owns.active is self.active is self.listening
        assert self.waiting == self.owns._groups
        assert {name for name, peer in self.owns.peers.items() if peer.streaming} == self.streaming
        assert {name for name, peer in self.owns.peers.items() if peer.up} == self.up

    def settle(self) -> None:
        """Nothing more happens: groups that wait go on, and entries that nobody holds leave the kernel."""
        for _ in range(300):
            self.write(100)
            self.happen("second", "P", 0)
            if not self.waiting and not self.asked and self.owns.deadline is None and not self.completing:
                break
        assert not self.waiting and not self.asked
        for _ in range(130):
            self.write(100)
            self.happen("second", "P", 0)
        self.write(100)
        if not self.active:
            self.check_kernel()


EVENTS = (
    *("record", "event", "begin", "in step", "restore", "promote", "write") * 2,
    *("record", "end", "out of step", "hand over", "stop", "close", "demote", "merge", "second", "time"),
)


@given(
    st.lists(
        st.tuples(st.sampled_from(EVENTS), st.sampled_from(PEERS), st.integers(0, FLOWS - 1)), max_size=80
    )
)
def test_adverse_orders(events: list[tuple[str, str, int]]) -> None:
    world = World()
    for event in events:
        world.happen(*event)
        world.check()
    world.settle()


def test_the_world_can_tell() -> None:
    """A pacer that leaves something out is noticed."""
    world = World()
    world.happen("begin", "P", 0)
    world.happen("record", "P", 1)
    world.journal.forget_changes()
    world.journal.whole = True
    world.happen("restore", "P", 1)
    with pytest.raises(AssertionError):
        world.write(100)
