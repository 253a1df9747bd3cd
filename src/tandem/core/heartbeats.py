# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats of one neighbour: which of its paths are heard, and whether the neighbour is alive.

A path is silent when nothing came for `miss` of the neighbour's intervals, and for as long as the neighbour
may be late, as it says itself. The neighbour is dead when every path is silent. What came by a path that is
not used any more counts as well: the path that takes its place may never be heard.

This router's own lateness is no silence of the neighbour: what the neighbour has sent may wait in the kernel
or in the network card. A router that woke late reads its sockets first, and then gives one more interval
(`spare`). When it has stood still for longer (`overslept`), what it reads there only says that the neighbour
lived. The neighbour may have left its role since and be active again, or have started anew: then it is heard
when a session has told its keys, so that its silence counts later.

LIVES says what is known of the neighbour:

    UNHEARD   no heartbeat has come yet, or the neighbour has said that no more will come
    ALIVE     it is heard
    DEAD      it was heard, and every path is silent

All times are in ns.
"""

from __future__ import annotations

from enum import Enum


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
# So much longer than the limit may a neighbour be silent after this router has stood still. A session comes
# within it, and needs no longer where the limit is longer.
DOUBT = 1_500_000_000
LATENESS_MAX = 1_000_000_000  # that a neighbour may claim
_EXACT = 1_000_000  # a timer runs within it


class BeatPath:
    """One path by which heartbeats come."""

    __slots__ = (
        "clock", "clocked", "failures", "heard", "lost", "number", "received", "round_trip", "since",
        "speaks",
    )  # fmt: skip

    def __init__(self) -> None:
        self.speaks = False
        self.heard = 0  # when the last one came
        self.since: int | None = None  # it speaks since then; None: it does not
        # Of the last one that was read as soon as it came: the neighbour's clock when it was sent, and ours.
        self.clock = self.clocked = 0
        self.number = 0  # of the last one
        self.received = self.lost = self.failures = 0
        self.round_trip = 0, NEVER  # what that one said: our clock as it had come there, and its age, µs


class Beats:
    """The heartbeats of one neighbour; `miss` intervals without one are a silence."""

    def __init__(self, miss: int) -> None:
        self.miss = miss
        self.life = Life.UNHEARD
        self.paths: dict[str, BeatPath] = {}
        self.newest = 0  # the highest number of a heartbeat
        self.refused = 0  # heartbeats that came a second time, or too late
        self.last_failure: tuple[str, int] | None = None  # the path that fell silent last, and when
        self.limit = 0  # how long a path may be quiet
        self.deadline: int | None = None  # when `due` may find the neighbour dead, unless a heartbeat comes
        self.look_at = 0  # `due` finds no path silent before
        self._ended = 0  # what has this number or a lower one was sent before its goodbye or its death
        self._left: int | None = None  # when the last one came by a path that this router uses no more
        self._spared = 0  # no path is silent before
        self._doubts = 0  # likewise, and for longer: this router has stood still
        self.silent = 0  # since when the silence of a dead neighbour counts

    def heard(self, name: str, number: int, interval: int, late: int, now: int) -> tuple[str, ...] | None:
        """A heartbeat came by this path; return actions, or None for one that came before."""
        path = self.paths.get(name)
        if number <= self._ended or (path is not None and number <= path.number):
            self.refused += 1
            return None
        if path is None:
            path = self.paths[name] = BeatPath()
        elif path.speaks:
            path.lost += number - path.number - 1
        path.number, path.heard = number, now
        path.received += 1
        if not path.speaks:
            path.speaks, path.since = True, now
            self.look_at = 0
        limit = self.miss * interval + (late if late < LATENESS_MAX else LATENESS_MAX)
        if limit != self.limit:
            self.limit, self.look_at = limit, 0
        self.deadline = now + limit
        if number > self.newest:
            self.newest = number
        return self._move(HEARD) if self.life is not _ALIVE else ()

    def overslept(self, due: int, now: int) -> bool:
        """Whether this router, whose own heartbeat was due then, has stood still: what it reads is old."""
        if not now - due > self.limit > 0:
            return False
        self._doubts = now + self.limit + DOUBT
        return True

    def spare(self, until: int) -> None:
        """Give every path time until then: this router was late itself."""
        self._spared = max(self._spared, until)

    def goodbye(self) -> tuple[str, ...]:
        """The neighbour sends no more heartbeats; what it sent before, by a slower path, counts no more."""
        self._ended = self.newest
        for path in self.paths.values():
            path.speaks, path.since = False, None
        self.deadline = self._left = None
        return self._move(GOODBYE)

    def lose(self, name: str) -> None:
        """This router uses the path no more; the neighbour lived when it was heard there."""
        path = self.paths.pop(name, None)
        if path is not None and path.speaks:
            self._left = max(self._left or 0, path.heard)
            self.look_at = 0

    def due(self, now: int) -> tuple[str, ...]:
        """Judge what is silent."""
        if now < self.look_at:
            return ()
        silent = False
        self.look_at, self.deadline = now + self.limit, None
        for name, path in self.paths.items():
            if not path.speaks:
                continue
            until = path.heard + self._patience(path.heard)
            if until <= now:
                path.speaks, path.since = False, None
                path.failures += 1
                self.last_failure, self.silent = (name, now), path.heard + self.limit
                silent = True
            else:
                self._wait(until)
        if self._left is not None:
            until = self._left + self._patience(self._left)
            if until > now:
                self._wait(until)
            else:
                self.silent, self._left, silent = max(self.silent, self._left + self.limit), None, True
        if not silent or self.deadline is not None:
            return ()
        self._ended = self.newest
        return self._move(SILENT)

    def _wait(self, until: int) -> None:
        self.look_at = min(self.look_at, until)
        self.deadline = max(self.deadline or 0, until)

    def _patience(self, heard: int) -> int:
        """How long to wait after what was heard then. A router that is late all the time must end as well."""
        late = min(self._spared - heard, 2 * self.limit)
        return max(self.limit, late, min(self._doubts - heard, self.limit + DOUBT))

    def _move(self, event: str) -> tuple[str, ...]:
        self.life, actions = LIVES[self.life, event]
        return actions


class Pace:
    """The times of this router's own heartbeats, and how late they were.

    The lateness that counts is the greatest of the present period and of the one before. A router that has
    just begun does not know its own, and a start is the busiest time of all: peers are told a multiple of the
    longest turn of its loop, on a slow router some tenths of a second. The pause to which a quota of CPU time
    may force this router (`allow`) always counts, because the first such pause would look like a death.

    Each interval wakes each of two routers once. A router whose heartbeat is due soon sends it with the
    answer to a peer's (`answers`), and its next one is due a little later than the peer's. A router that
    `leads` reads those answers when its own next heartbeat is due. It sends that one with what wakes it
    anyway, a little early (`slack`), and finds such a moment because it is a little slower alone. One that
    `follows` waits for it, so that no timer of its own wakes it just before.
    """

    PERIOD = 30_000_000_000
    FIRST_PERIOD = 5_000_000_000
    FIRST_TURNS = 4

    def __init__(self, interval: int, now: int) -> None:
        self.interval = interval
        self.due = now
        self.leads = self.follows = False
        self.slack = 0  # how much earlier than it is due a heartbeat may be sent
        self.late = 0  # the greatest lateness lately
        self.told = 0  # the lateness that peers are told
        self._sent = now
        self._first = True  # period
        self._first_late = self._pause = 0
        self._period_ends = now + self.FIRST_PERIOD
        self._late = self._late_before = 0

    def begin(self, now: int, longest: int) -> None:
        """There is a peer: nothing was due before. `longest`: the longest turn of this router's loop."""
        self.due = now
        if self._first:
            self._period_ends = now + self.FIRST_PERIOD
            self._first_late = min(self.FIRST_TURNS * longest, LATENESS_MAX)
            self.told = max(self.late, self._first_late)

    def allow(self, pause: int) -> None:
        """The kernel may keep this router from running for so long: it is never less late than that."""
        if pause > self._pause:
            self._pause = min(pause, LATENESS_MAX)
            self.late, self.told = max(self.late, self._pause), max(self.told, self._pause)

    def lead(self, leads: bool, follows: bool = False) -> None:
        """This router leads, or a peer does and this router follows it, or none of both."""
        self.leads, self.follows = leads, follows
        self.slack = self.interval // 8 if leads else 0

    def answers(self, now: int) -> bool:
        """A peer's heartbeat came; return whether this router's is sent now."""
        if self.due - now < self.interval * 3 // 4:
            return True
        if self.follows:
            self.due = min(now + self.interval * 17 // 16, self._sent + self.interval * 21 // 16)
        return False

    def beat(self, now: int, answer: bool = False) -> None:
        """A heartbeat is sent; `answer`: because a peer's came."""
        late, self._sent = now - self.due, now
        if late > self._late or now >= self._period_ends:
            self._note(late, now)
        if answer:
            self.due = now + self.interval * 17 // 16
            return
        following = self.due + self.interval
        if self.leads:  # alone, or with what woke this router
            following = following + self.interval // 32 if late > -_EXACT else now + self.interval
        self.due = following if following > now else now + self.interval

    def _note(self, late: int, now: int) -> None:
        self._late = max(self._late, late)
        if now >= self._period_ends:
            self._late_before, self._late, self._first = self._late, 0, False
            self._period_ends = now + self.PERIOD
        self.late = max(self._late, self._late_before, self._pause)
        self.told = max(self.late, self._first_late) if self._first else self.late
