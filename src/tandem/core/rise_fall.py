# SPDX-License-Identifier: GPL-2.0-or-later
"""Rise and fall: single results become a state.

The counting is keepalived's (vrrp_scheduler.c, vrrp_script_child_thread): `rise` successes in a row bring the
state up, `fall` failures in a row take it down. As long as nothing is known, the first result decides alone.
"""

from __future__ import annotations

from enum import Enum


class Level(Enum):
    """The state of a thing that is tried, and whether the last results contradict it."""

    UNKNOWN = "unknown"
    UP = "up"
    FALLING = "falling"  # up, but the last results were bad
    DOWN = "down"
    RISING = "rising"  # down, but the last results were good


class Seen(Enum):
    """One result, with those before it."""

    GOOD = "good"
    BAD = "bad"
    RISEN = "good, the last of rise"
    FALLEN = "bad, the last of fall"


TRANSITIONS: dict[tuple[Level, Seen], Level] = {
    (Level.UNKNOWN, Seen.RISEN): Level.UP,
    (Level.UNKNOWN, Seen.FALLEN): Level.DOWN,
    (Level.UP, Seen.BAD): Level.FALLING,
    (Level.UP, Seen.FALLEN): Level.DOWN,
    (Level.FALLING, Seen.GOOD): Level.UP,
    (Level.FALLING, Seen.FALLEN): Level.DOWN,
    (Level.DOWN, Seen.GOOD): Level.RISING,
    (Level.DOWN, Seen.RISEN): Level.UP,
    (Level.RISING, Seen.BAD): Level.DOWN,
    (Level.RISING, Seen.RISEN): Level.UP,
}
"""The level after a result. What is not here changes nothing."""

_UP = {Level.UNKNOWN: None, Level.UP: True, Level.FALLING: True, Level.DOWN: False, Level.RISING: False}


class RiseFall:
    """The state of one probe; `up` is None as long as nothing is known."""

    __slots__ = ("fall", "level", "rise", "run")

    def __init__(self, rise: int, fall: int, up: bool | None = None) -> None:
        self.rise = rise
        self.fall = fall
        self.level = {None: Level.UNKNOWN, True: Level.UP, False: Level.DOWN}[up]
        self.run = 0  # results in a row that contradict `up`

    @property
    def up(self) -> bool | None:
        """Whether the state is up."""
        return _UP[self.level]

    def result(self, ok: bool) -> bool:
        """Take one result; whether the state has changed."""
        before = self.up
        self.run = 0 if ok == before else self.run + 1
        if before is None or self.run >= (self.rise if ok else self.fall):
            seen = Seen.RISEN if ok else Seen.FALLEN
        else:
            seen = Seen.GOOD if ok else Seen.BAD
        self.level = TRANSITIONS.get((self.level, seen), self.level)
        if self.up == before:
            return False
        self.run = 0
        return True
