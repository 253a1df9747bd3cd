# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats of one neighbour: which of its paths are heard, and whether the neighbour is alive.

A path is silent when nothing came for `miss` of the neighbour's intervals, and for as long as the neighbour
may be late, as it says itself. The neighbour is dead when every path is silent.

This router's own lateness is no silence of the neighbour: what the neighbour has sent may wait in the kernel
or in the network card. A router that woke late reads its sockets first, and then gives one more interval
(`spare`).

LIVES says what is known of the neighbour:

    UNHEARD   no heartbeat has come yet, or the neighbour has said that no more will come
    ALIVE     it is heard
    DEAD      it was heard, and every path is silent

All times are in ns.
"""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Life(Enum):
    """The life of a neighbour, as its heartbeats tell."""

    UNHEARD = "not heard yet"
    ALIVE = "alive"
    DEAD = "dead"


# Events
HEARD = "a heartbeat"
SILENT = "every path is silent"
GOODBYE = "no more will come"

# Actions
BEGINS = "it is alive"
DIES = "it is dead"
ENDS = "it is not known any more"

_UNHEARD, _ALIVE, _DEAD = Life

LIVES: dict[tuple[Life, str], tuple[Life, tuple[str, ...]]] = {
    (_UNHEARD, HEARD): (_ALIVE, (BEGINS,)),
    (_UNHEARD, SILENT): (_UNHEARD, ()),
    (_UNHEARD, GOODBYE): (_UNHEARD, ()),
    (_ALIVE, HEARD): (_ALIVE, ()),
    (_ALIVE, SILENT): (_DEAD, (DIES,)),
    (_ALIVE, GOODBYE): (_UNHEARD, (ENDS,)),
    (_DEAD, HEARD): (_ALIVE, (BEGINS,)),
    (_DEAD, SILENT): (_DEAD, ()),
    (_DEAD, GOODBYE): (_UNHEARD, (ENDS,)),
}

NEVER = 0xFFFFFFFF  # as age: nothing was heard by this path
LATENESS_MAX = 1_000_000_000  # that a neighbour may claim


class BeatPath:
    """One path by which heartbeats come."""

    __slots__ = ("clock", "failures", "heard", "lost", "number", "received", "round_trip", "since", "speaks")

    def __init__(self) -> None:
        self.speaks = False
        self.heard = 0  # when the last one came
        self.since: int | None = None  # it speaks since then; None: it does not
        self.clock = 0  # of the neighbour, when it sent the last one
        self.number = 0  # of the last one
        self.received = self.lost = self.failures = 0
        self.round_trip = 0, NEVER  # what the last one said: our clock as it had come there, and its age, µs


class Beats:
    """The heartbeats of one neighbour; `miss` intervals without one are a silence."""

    def __init__(self, miss: int) -> None:
        self.miss = miss
        self.life = Life.UNHEARD
        self.paths: dict[str, BeatPath] = {}
        self.newest = 0  # the highest number of a heartbeat
        self.refused = 0  # heartbeats that came a second time, or too late
        self.last_failure: tuple[str, int] | None = None  # the path that fell silent last, and when
        self._limit = 0  # so long after the last heartbeat a path is silent
        self._last: int | None = None  # when the last one came by a path that speaks
        self._look_at = 0  # no path is silent before
        self._ended = 0  # the number of its goodbye
        self._spared = 0  # no path is silent before

    @property
    def limit(self) -> int:
        """How long a path may be quiet."""
        return self._limit

    def heard(self, name: str, number: int, interval: int, late: int, now: int) -> tuple[str, ...] | None:
        """A heartbeat came by this path; return actions, or None for one that came before."""
        path = self.paths.get(name)
        if number <= self._ended:
            self.refused += 1
            return None
        if path is None:
            path = self.paths[name] = BeatPath()
        elif number <= path.number:
            self.refused += 1
            return None
        elif path.speaks:
            path.lost += number - path.number - 1
        path.number, path.heard = number, now
        path.received += 1
        if not path.speaks:
            path.speaks, path.since = True, now
            self._look_at = 0
        self._last = now
        limit = self.miss * interval + (late if late < LATENESS_MAX else LATENESS_MAX)
        if limit != self._limit:
            self._limit, self._look_at = limit, 0
        if number > self.newest:
            self.newest = number
        return self._move(HEARD) if self.life is not _ALIVE else ()

    def spare(self, until: int) -> None:
        """Give every path time until then: this router was late itself."""
        self._spared = max(self._spared, until)

    def goodbye(self) -> tuple[str, ...]:
        """The neighbour sends no more heartbeats; what it sent before, by a slower path, counts no more."""
        self._ended = self.newest
        for path in self.paths.values():
            path.speaks, path.since = False, None
        self._last = None
        return self._move(GOODBYE)

    def lose(self, name: str) -> None:
        """This router uses the path no more."""
        self.paths.pop(name, None)
        self._last = max((path.heard for path in self.paths.values() if path.speaks), default=None)

    def next_deadline(self) -> int | None:
        """When `due` finds the neighbour dead, unless a heartbeat comes."""
        return None if self._last is None else self._last + self._patience(self._last)

    def due(self, now: int) -> tuple[str, ...]:
        """Judge what is silent."""
        if now < self._look_at:
            return ()
        silent = speaks = False
        self._look_at = now + self._limit
        for name, path in self.paths.items():
            if not path.speaks:
                continue
            until = path.heard + self._patience(path.heard)
            if until <= now:
                path.speaks, path.since = False, None
                path.failures += 1
                self.last_failure = name, now
                silent = True
            else:
                speaks = True
                self._look_at = min(self._look_at, until)
        if not speaks:
            self._last = None
        return self._move(SILENT) if silent and not speaks else ()

    def _patience(self, heard: int) -> int:
        """How long to wait after what was heard then. A router that is late all the time must end as well."""
        return max(self._limit, min(self._spared - heard, 2 * self._limit))

    def _move(self, event: str) -> tuple[str, ...]:
        self.life, actions = LIVES[self.life, event]
        return actions


class Pace:
    """The times of this router's own heartbeats, and how late they were.

    The lateness that counts is the greatest of the present period and of the one before.

    A router whose heartbeat is due soon sends it with the answer to a peer's (`answers`), and its next one is
    due a little later than the peer's: each interval wakes one of the two routers instead of both.
    """

    PERIOD = 30_000_000_000

    def __init__(self, interval: int, now: int) -> None:
        self.interval = interval
        self.due = now
        self._period_ends = now + self.PERIOD
        self._late = self._late_before = 0

    def answers(self, now: int) -> bool:
        """Whether this router's heartbeat is sent now, because a peer's came."""
        return self.due - now < self.interval * 3 // 4

    def beat(self, now: int, answer: bool = False) -> None:
        """A heartbeat is sent; `answer`: because a peer's came."""
        late = now - self.due
        self._late = max(self._late, late)
        if now >= self._period_ends:
            self._late_before, self._late = self._late, 0
            self._period_ends = now + self.PERIOD
        if answer:
            self.due = now + self.interval * 17 // 16
            return
        in_phase = self.due + self.interval
        self.due = in_phase if in_phase > now else now + self.interval

    @property
    def late(self) -> int:
        """The greatest lateness lately."""
        return max(self._late, self._late_before)


def next_wake(pace: Pace, all_beats: Iterable[Beats]) -> int:
    """Return when a heartbeat is due or a neighbour may be found dead."""
    found = pace.due
    for beats in all_beats:
        deadline = beats.next_deadline()
        if deadline is not None and deadline < found:
            found = deadline
    return found
