# SPDX-License-Identifier: GPL-2.0-or-later
"""A router with its ownership of connections, to play events through."""

from __future__ import annotations

from tandem.channel.events import (
    Closed,
    Event,
    HeldInStep,
    Opened,
    PeerStream,
)
from tandem.conntrack.record import NEW
from tandem.core.timers import SECOND
from tandem.replication.cache import Cache
from tandem.replication.ownership import (
    Action,
    Ownership,
)
from tests.unit.test_replication_cache import flow

BEGUN, ENDED = PeerStream(True, False), PeerStream(False, False)
WHOLE, ADOPTED = HeldInStep(False), HeldInStep(True)
GONE = Closed("dead")


def nothing() -> None:
    """The callback of a merge."""


class Scene:
    """A router with peers, and a clock."""

    def __init__(self, *peers: str) -> None:
        self.now = 1_000 * SECOND
        self.owns = Ownership(lambda: Cache(1000, 1 << 20))
        for name in peers or ("P",):
            self.owns.held(name)
            self.peer(Opened(), name=name)

    def peer(self, *events: Event, name: str = "P", heard: int = 0) -> list[Action]:
        told: list[Action] = []
        for event in events:
            told += self.owns.peer(name, event, self.now, heard)
        return told

    def tells(self, count: int = 1, name: str = "P", first: int = 0) -> None:
        """The peer streams, and we hold all of its table."""
        self.peer(BEGUN, name=name)
        self.hold(count, name, first)
        self.peer(WHOLE, name=name)

    def hold(self, count: int, name: str = "P", first: int = 0) -> None:
        records = [(NEW, *flow(number)) for number in range(first, first + count)]
        self.owns.held(name).apply_all(records, self.now)

    def owned(self, count: int, first: int = 100) -> None:
        """The kernel tells of flows."""
        records = [(NEW, *flow(number)) for number in range(first, first + count)]
        self.owns.own.cache.apply_all(records, self.now)

    def restore(self, group: str = "G", handed_over: bool = False) -> list[Action]:
        return self.owns.restore(group, handed_over, self.now)

    def completed(self, *heard: int) -> list[Action]:
        return self.owns.completed(self.now, heard)

    def promote(self) -> list[Action]:
        return self.owns.promoted(self.now)

    def demote(self) -> list[Action]:
        return self.owns.demoted(self.now)

    def after(self, ns: int) -> list[Action]:
        """Let time pass, and return the actions of the deadline."""
        self.now += ns
        return self.owns.timer(self.now)

    def seconds(self, count: int) -> list[Action]:
        actions: list[Action] = []
        for _ in range(count):
            self.now += SECOND
            actions += self.owns.second(self.now)
        return actions

    def sizes(self) -> tuple[int, ...]:
        return len(self.owns.own.cache), *(len(table) for table in self.owns.tables())
