# SPDX-License-Identifier: GPL-2.0-or-later
"""Reunion: a group meets another active router, and both exchange their connections before one yields.

Two routers that were both active know connections of their own: a partition has healed, or one of them stood
still with its clock and does not know that the other took over. The better one stays active, as the RFC has
it, but does not tell hosts so, and the lesser one goes on, until connections are exchanged or the limit has
passed. This applies only when the two do not know each other's connections now. One that has restarted has
never known them: it waits for a session first, and not for long, because the other one may be a stranger.
Otherwise the RFC's rules apply.

    ALONE       no other active router is met
    HOLDS_OUT   a better router is active: go on until it holds our connections
    TIRED       the same, for too long
    GATHERS     a lesser router is active: do not tell hosts before its connections are here
    DEFERS      a router is active that was so before this one started: go on until it holds our connections
"""

from __future__ import annotations

from enum import Enum

from tandem.core.events import Partner
from tandem.core.limits import ANNOUNCE_LIMIT, MEETING_LIMIT, REUNION_LIMIT
from tandem.core.virtual_router import HICCUP


class Stage(Enum):
    """How far a group has come with another active router."""

    ALONE = "alone"
    HOLDS_OUT = "holds out"
    TIRED = "tired"
    GATHERS = "gathers"
    DEFERS = "defers"


# Events
BETTER = "a better router is active"
LESSER = "a lesser router is active"
EARLIER = "a router is active that was so before"
IN_STEP = "the other one holds our connections"
REUNITED = "the exchange is over"
OVERDUE = "the limit has passed"
ENDED = "the role ends"

# Actions
EXCHANGE = "exchange connections"
YIELD = "become backup"
GIVE_WAY = "become backup of the earlier one"
ANNOUNCE = "announce the addresses"
CONTESTED = "say that the role was contested"

_ALONE, _HOLDS_OUT, _TIRED, _GATHERS, _DEFERS = Stage

TABLE: dict[tuple[Stage, str], tuple[Stage, tuple[str, ...]]] = {
    (_ALONE, BETTER): (_HOLDS_OUT, (EXCHANGE,)),
    (_ALONE, LESSER): (_GATHERS, (EXCHANGE,)),
    (_ALONE, EARLIER): (_DEFERS, (EXCHANGE,)),
    (_ALONE, IN_STEP): (_ALONE, ()),
    (_ALONE, REUNITED): (_ALONE, (ANNOUNCE,)),  # hosts may have the MAC address of the one that gave up
    (_ALONE, OVERDUE): (_ALONE, ()),
    (_ALONE, ENDED): (_ALONE, ()),
    (_HOLDS_OUT, BETTER): (_HOLDS_OUT, ()),
    (_HOLDS_OUT, LESSER): (_HOLDS_OUT, ()),  # a third router: the better one deals with it
    (_HOLDS_OUT, EARLIER): (_DEFERS, ()),
    (_HOLDS_OUT, IN_STEP): (_ALONE, ()),  # its next advert finds nothing to wait for
    (_HOLDS_OUT, REUNITED): (_HOLDS_OUT, (ANNOUNCE,)),
    (_HOLDS_OUT, OVERDUE): (_TIRED, ()),
    (_HOLDS_OUT, ENDED): (_ALONE, ()),
    (_TIRED, BETTER): (_ALONE, (YIELD,)),
    (_TIRED, LESSER): (_TIRED, ()),
    (_TIRED, EARLIER): (_ALONE, (GIVE_WAY,)),
    (_TIRED, IN_STEP): (_ALONE, ()),
    (_TIRED, REUNITED): (_TIRED, (ANNOUNCE,)),
    (_TIRED, OVERDUE): (_TIRED, ()),
    (_TIRED, ENDED): (_ALONE, ()),
    (_GATHERS, BETTER): (_HOLDS_OUT, (EXCHANGE,)),
    (_GATHERS, LESSER): (_GATHERS, ()),
    (_GATHERS, EARLIER): (_DEFERS, ()),
    (_GATHERS, IN_STEP): (_GATHERS, ()),
    (_GATHERS, REUNITED): (_ALONE, (ANNOUNCE, CONTESTED)),
    (_GATHERS, OVERDUE): (_ALONE, (ANNOUNCE, CONTESTED)),
    (_GATHERS, ENDED): (_ALONE, ()),
    (_DEFERS, BETTER): (_DEFERS, ()),
    (_DEFERS, LESSER): (_DEFERS, ()),
    (_DEFERS, EARLIER): (_DEFERS, ()),
    (_DEFERS, IN_STEP): (_ALONE, (GIVE_WAY,)),
    (_DEFERS, REUNITED): (_DEFERS, ()),
    (_DEFERS, OVERDUE): (_ALONE, (GIVE_WAY,)),
    (_DEFERS, ENDED): (_ALONE, ()),
}

LIMITS = {_HOLDS_OUT: REUNION_LIMIT, _GATHERS: ANNOUNCE_LIMIT, _DEFERS: REUNION_LIMIT}


class Reunion:
    """The reunion of one group; times in ns."""

    def __init__(self) -> None:
        self.stage = Stage.ALONE
        self.deadline: int | None = None  # when to handle OVERDUE
        self.followed = False  # the peer's connections were known here when the group became active
        self._active_since = 0
        self._entered = 0  # the stage

    def begin(self, now: int, followed: bool) -> None:
        """The group becomes active."""
        self._active_since, self.followed = now, followed

    def needs_exchange(self, partner: Partner, source: bytes, now: int) -> bool:
        """Whether the better router `source` lacks connections of ours."""
        lacks = not partner.in_step and source not in partner.in_step_with
        return lacks and self.lasted(now)

    def lasted(self, now: int) -> bool:
        """Whether there may be much to tell.

        A better router that was only late, on a busy machine, is back before, and so are two that start.
        """
        return now - self._active_since >= HICCUP

    def handle(self, event: str, now: int, patience: int, known: bool = True) -> tuple[str, ...]:
        """Take an event and return the actions; no wait is longer than `patience`.

        `known`: the other router is a peer that was met before, or there is a session with one.
        """
        before = self.stage
        self.stage, actions = TABLE[before, event]
        if self.stage is not before:
            self._entered = now
            self.deadline = self._until(patience, known)
        return actions

    def acquaint(self, patience: int) -> None:
        """There is a session with a peer: wait for its connections."""
        self.deadline = self._until(patience)

    def _until(self, patience: int, known: bool = True) -> int | None:
        limit = LIMITS.get(self.stage)
        if limit is None:
            return None
        return self._entered + min(limit - (0 if known else REUNION_LIMIT - MEETING_LIMIT), patience)

    def end(self) -> None:
        """The group is not active any more."""
        self.handle(ENDED, 0, 0)

    def copy(self) -> Reunion:
        """Return another one in the same stage."""
        other = Reunion()
        other.stage, other.deadline = self.stage, self.deadline
        other.followed, other._active_since = self.followed, self._active_since
        other._entered = self._entered
        return other
