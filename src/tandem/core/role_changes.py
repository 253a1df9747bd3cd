# SPDX-License-Identifier: GPL-2.0-or-later
"""Role changes: the table of a sync group. A cue of the whole group leads to a role, and says how.

`sync_group` finds the cues; `promotion` carries out what becoming active and giving the role up consist of.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.events import Vacancy
from tandem.core.promotion import Farewell
from tandem.core.state import Role


class Cue(Enum):
    """A wish of the members, of the faults or of an operator for the whole group."""

    OUT = "stopped, or a fault"
    READY = "started, and nothing is waited for"
    OWNER = "started, and all members own their addresses"
    RESIGNED = "a member heard a resignation: the peer gives up the group as a whole"
    SILENT = "every member's timer has expired"  # one silent LAN is a broken LAN
    PREEMPTS = "every member's timer has expired, and lesser routers are active"
    BETTER = "a member heard a better router, and no earlier member beats its own peer"
    DIED = "the active router's heartbeats have stopped"
    LEFT = "the active router has given the role up, by heartbeat"
    UNLINKED = "a link of the active router is down, by heartbeat"
    OFFERED = "the active router offers its role, by heartbeat"
    UNHEARD = "another active router does not hear this one"
    EARLIER = "a router is heard that was active before this one could hear anybody"
    FAILOVER = "an operator hands the role over"
    OUTVOTED = "no quorum, see quorum.py"
    SLEPT = "silent for too long: a backup has taken over"


# What saw the cause of a transition, for people.
ADVERT, HEARTBEAT, FAULT, COMMAND = "advert", "heartbeat", "fault", "command"
START, QUORUM = "start", "quorum"


@dataclass(frozen=True, slots=True)
class Change:
    """The effect of a cue on a group: the role that all members enter, and how."""

    role: Role
    why: str = ""  # for people; empty: the faults say it
    farewell: Farewell = Farewell.RESIGN  # of a group that was active
    handed_over: bool = False  # of a group that becomes active: another router gives the role up
    seen: str = ADVERT  # what saw the cause; a fault and a command say so themselves
    lives: bool = False  # of a group that becomes active: the other router lives, and may run its services


_INITIALIZE, _BACKUP, _ACTIVE = Role.INITIALIZE, Role.BACKUP, Role.ACTIVE
TRANSITIONS: dict[tuple[Role, Cue], Change] = {
    (_INITIALIZE, Cue.READY): Change(_BACKUP, "started", seen=START),
    (_INITIALIZE, Cue.OWNER): Change(_ACTIVE, "owner of the addresses", seen=START),
    (_BACKUP, Cue.OUT): Change(_INITIALIZE),
    (_BACKUP, Cue.RESIGNED): Change(_ACTIVE, "the active router resigned", handed_over=True),
    (_BACKUP, Cue.SILENT): Change(_ACTIVE, "no advertisement from an active router"),
    (_BACKUP, Cue.DIED): Change(
        _ACTIVE, "the active router is dead: its heartbeats have stopped", seen=HEARTBEAT
    ),
    (_BACKUP, Cue.LEFT): Change(_ACTIVE, "the active router left its role", handed_over=True, seen=HEARTBEAT),
    (_BACKUP, Cue.UNLINKED): Change(
        _ACTIVE, "a link of the active router is down", seen=HEARTBEAT, lives=True
    ),
    (_BACKUP, Cue.OFFERED): Change(
        _ACTIVE, "the active router hands its role over", handed_over=True, seen=HEARTBEAT
    ),
    (_BACKUP, Cue.PREEMPTS): Change(_ACTIVE, "preempts a router of lower priority", handed_over=True),
    (_ACTIVE, Cue.OUT): Change(_INITIALIZE),
    (_ACTIVE, Cue.BETTER): Change(_BACKUP, "a better router is active", Farewell.YIELD),
    (_ACTIVE, Cue.EARLIER): Change(_BACKUP, "another router was active before"),
    (_ACTIVE, Cue.UNHEARD): Change(
        _BACKUP, "another router is active and does not hear this one", Farewell.YIELD, seen=HEARTBEAT
    ),
    (_ACTIVE, Cue.FAILOVER): Change(_BACKUP, "failover asked for", seen=COMMAND),
    (_ACTIVE, Cue.OUTVOTED): Change(_BACKUP, "no quorum", seen=QUORUM),
    (_ACTIVE, Cue.SLEPT): Change(_BACKUP, "silent for too long: it was stopped", Farewell.SILENT, seen=FAULT),
}
"""Every cue that is not here leaves the group as it is."""

VACANCIES = {
    Vacancy.DIED: Cue.DIED,
    Vacancy.LEFT: Cue.LEFT,
    Vacancy.UNLINKED: Cue.UNLINKED,
    Vacancy.OFFERED: Cue.OFFERED,
}
