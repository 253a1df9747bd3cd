# SPDX-License-Identifier: GPL-2.0-or-later
"""Internet: whether this router reaches the targets behind a way out, for the priority of a group.

A way out that follows the role can be judged on the active router only. So a router that was active and did
not reach the targets stays down for `memory` ns after it gave the role up. Otherwise two routers whose
provider has failed would hand the role to and fro for ever. As it is, both lose the same, and the role stays.

    idle        not judged: the role is elsewhere; counts as up
    settling    judged, and the way out may still be coming up; counts as up
    up, down    judged
    remembered  not judged any more, and was down; counts as down

Events and `now` (monotonic ns) in; `up` is the state of the tracker. `TRANSITIONS` says what follows what.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class State(Enum):
    """The state of a way out, as its targets have it."""

    IDLE = "idle"
    SETTLING = "settling"
    UP = "up"
    DOWN = "down"
    REMEMBERED = "remembered"


class Cue(Enum):
    """The events that may change the state."""

    BEGIN = "this router uses the way out"
    END = "this router uses the way out no more"
    GOOD = "enough targets are reached"
    BAD = "too few targets are reached"
    TIMEOUT = "the time of the state is over, and nothing is bad"
    TIMEOUT_BAD = "the time of the state is over, and too few targets are reached"


_IDLE, _SETTLING, _UP, _DOWN, _REMEMBERED = State
TRANSITIONS: dict[tuple[State, Cue], State] = {
    (_IDLE, Cue.BEGIN): _SETTLING,
    (_SETTLING, Cue.GOOD): _UP,
    (_SETTLING, Cue.TIMEOUT): _UP,
    (_SETTLING, Cue.TIMEOUT_BAD): _DOWN,
    (_SETTLING, Cue.END): _IDLE,
    (_UP, Cue.BAD): _DOWN,
    (_UP, Cue.END): _IDLE,
    (_DOWN, Cue.GOOD): _UP,
    (_DOWN, Cue.END): _REMEMBERED,
    (_REMEMBERED, Cue.BEGIN): _DOWN,
    (_REMEMBERED, Cue.TIMEOUT): _IDLE,
    (_REMEMBERED, Cue.TIMEOUT_BAD): _IDLE,
}
"""The state after each cue; a cue that is not here changes nothing."""


class Internet:
    """One way out. `every`: all targets must be reached, otherwise one of them."""

    def __init__(self, targets: Iterable[str], every: bool, settle: int, memory: int) -> None:
        self.state = State.IDLE
        self._every = every
        self._settle = settle
        self._memory = memory
        self._reached: dict[str, bool | None] = dict.fromkeys(targets)  # None: not tried yet
        self._until: int | None = None  # the end of the state, if it has one

    @property
    def up(self) -> bool:
        """Whether the way out counts as working."""
        return self.state not in (State.DOWN, State.REMEMBERED)

    @property
    def judged(self) -> bool:
        """Whether the targets are to be tried."""
        return self.state not in (State.IDLE, State.REMEMBERED)

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that are not reached."""
        return tuple(name for name, reached in self._reached.items() if reached is False)

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        return self._until

    def begin(self, now: int) -> None:
        """This router uses the way out; saying so again changes nothing."""
        if self.state in (State.IDLE, State.REMEMBERED):
            self._reached = dict.fromkeys(self._reached)
        self._move(Cue.BEGIN, now)

    def end(self, now: int) -> None:
        """This router does not use the way out any more."""
        self._move(Cue.END, now)

    def target(self, name: str, reached: bool, now: int) -> None:
        """A target is reached now, or no more."""
        if name not in self._reached:
            return
        self._reached[name] = reached
        if self._bad:
            self._move(Cue.BAD, now)
        elif self._good:
            self._move(Cue.GOOD, now)

    def due(self, now: int) -> None:
        """Act on the deadline, if it is not later than `now`."""
        if self._until is not None and self._until <= now:
            self._move(Cue.TIMEOUT_BAD if self._bad else Cue.TIMEOUT, now)

    @property
    def _bad(self) -> bool:
        missed = [reached is False for reached in self._reached.values()]
        return any(missed) if self._every else all(missed)

    @property
    def _good(self) -> bool:
        reached = [one is True for one in self._reached.values()]
        return all(reached) if self._every else any(reached)

    def _move(self, cue: Cue, now: int) -> None:
        following = TRANSITIONS.get((self.state, cue))
        if following is None:
            return
        self.state = following
        times = {State.SETTLING: self._settle, State.REMEMBERED: self._memory}
        self._until = now + times[following] if following in times else None
