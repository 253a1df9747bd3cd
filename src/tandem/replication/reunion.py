# SPDX-License-Identifier: GPL-2.0-or-later
"""Exchange: the part of a reunion in which two active routers tell each other their connections; pure.

core/reunion.py decides which of the two waits for what. Here the better one and the lesser one do the same:
they look for each other at once, and each tells the other its table. Then this router puts what it holds of
the other one into its kernel, beside its own connections, and does so once more when the other one has ended
its stream: the last of what it told comes with the end.

    CLOSED     no group waits
    LOOKING    a group waits, and the tables of the other routers are not all here
    OPEN       they were merged; what the others still tell is merged when one of them ends its stream
"""

from __future__ import annotations

from enum import Enum

from tandem.core.limits import EXCHANGE_LIMIT
from tandem.core.timers import MILLISECOND, SECOND, earliest

LOOK = 10 * MILLISECOND  # between two looks at what is held
PAUSE = SECOND  # between two announcements to all groups: a peer may end as many streams as it likes


class State(Enum):
    """How far the exchange has come."""

    CLOSED = "closed"
    LOOKING = "looking"
    OPEN = "open"


# Events
BEGIN = "a group meets another active router"
ALL_HELD = "all that peers stream is held"
STREAM_ENDED = "a peer ends its stream"
HANDED_OVER = "a peer has told the last of a group"
OVERDUE = "the limit has passed"
STOP = "the role ends"

# Actions
SEEK = "look for the peers at once"
MERGE = "merge what is held"
MERGE_LAST = "merge what is held, nothing follows"
TELL = "tell the groups that wait"
TELL_ALL = "tell all groups"

_CLOSED, _LOOKING, _OPEN = State

TABLE: dict[tuple[State, str], tuple[State, tuple[str, ...]]] = {
    (_CLOSED, BEGIN): (_LOOKING, (SEEK,)),
    (_CLOSED, ALL_HELD): (_CLOSED, ()),
    # Perhaps only the peer's adverts were lost. Hosts that have its MAC address then hear of ours.
    (_CLOSED, STREAM_ENDED): (_CLOSED, (MERGE_LAST,)),
    (_CLOSED, HANDED_OVER): (_CLOSED, ()),
    (_CLOSED, OVERDUE): (_CLOSED, ()),
    (_CLOSED, STOP): (_CLOSED, ()),
    (_LOOKING, BEGIN): (_LOOKING, (SEEK,)),
    (_LOOKING, ALL_HELD): (_OPEN, (MERGE,)),
    (_LOOKING, STREAM_ENDED): (_CLOSED, (MERGE_LAST,)),
    (_LOOKING, HANDED_OVER): (_CLOSED, (MERGE_LAST,)),
    (_LOOKING, OVERDUE): (_CLOSED, (MERGE_LAST,)),
    (_LOOKING, STOP): (_CLOSED, ()),
    (_OPEN, BEGIN): (_LOOKING, (SEEK,)),
    (_OPEN, ALL_HELD): (_OPEN, ()),
    (_OPEN, STREAM_ENDED): (_CLOSED, (MERGE_LAST,)),
    (_OPEN, HANDED_OVER): (_CLOSED, (MERGE_LAST,)),
    (_OPEN, OVERDUE): (_CLOSED, (MERGE_LAST,)),
    (_OPEN, STOP): (_CLOSED, ()),
}


class Exchange:
    """The exchange of one router; each method returns the actions. Times in ns."""

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._groups: list[str] = []  # groups that wait
        self._look_at: int | None = None
        self._ends_at: int | None = None
        self._tell_at: int | None = None
        self._told_at = -PAUSE  # when all groups were told last

    @property
    def deadline(self) -> int | None:
        """When `due` has something to do."""
        return earliest(self._look_at, self._ends_at, self._tell_at)

    def begin(self, group: str, now: int) -> tuple[str, ...]:
        """A group meets another active router."""
        if group not in self._groups:
            self._groups.append(group)
        self._look_at = now + LOOK
        return self.handle(BEGIN, now)

    def handle(self, event: str, now: int) -> tuple[str, ...]:
        """Take one of the other events."""
        self.state, actions = TABLE[self.state, event]
        if self.state is not State.LOOKING:
            self._look_at = None
        if self.state is State.CLOSED:
            self._ends_at = None
        elif event in (BEGIN, ALL_HELD):
            self._ends_at = now + EXCHANGE_LIMIT
        if event == STOP:
            self._groups, self._tell_at = [], None
        return actions

    def merged(self, last: bool, now: int) -> list[str]:
        """The held tables are in the kernel now: return the groups to tell."""
        groups, self._groups = self._groups, []
        if last:
            self._tell_at = max(now, self._told_at + PAUSE)
            return []
        return groups

    def due(self, all_held: bool, now: int) -> tuple[str, ...]:
        """Do what is due; `all_held`: all that peers stream is held, or there is nothing to wait for."""
        actions: tuple[str, ...] = ()
        if self._look_at is not None and self._look_at <= now:
            self._look_at = now + LOOK
            if all_held:
                actions = self.handle(ALL_HELD, now)
        if self._ends_at is not None and self._ends_at <= now:
            actions += self.handle(OVERDUE, now)
        if self._tell_at is not None and self._tell_at <= now:
            self._tell_at, self._told_at = None, now
            actions += (TELL_ALL,)
        return actions
