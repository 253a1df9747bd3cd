# SPDX-License-Identifier: GPL-2.0-or-later
"""Promotion: the phases in which a sync group becomes active. Demotion is the same phases backwards.

The order is the product. Other routers must know first that the role is taken. A packet that meets a virtual
address before its connection is in the kernel ends that connection, so connections come before addresses.
Hosts are told when the addresses are there. Scripts take long, so they are told last. When another router
goes on until this one serves (`Reason.agreed`), the adverts and the virtual MAC addresses wait for the
addresses as well: nothing on the wire changes before. Where networks follow the role, routers share a MAC
address: a better router waits until the other one says that it has left them.

A phase begins with its actions for the whole group, because traffic needs every member. A phase that names an
event (`ends`) waits for it, and no longer than `limit`. At the deadline the next phase begins, because a
gateway that lacks something is better than none. Every other phase ends with its actions. A phase that has
nothing to do ends at once.

A demotion undoes all phases, also those that had not begun: an undo states what is wanted, which changes
nothing where it is so already. An effect that fails is a fault of the group, which then demotes itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.actions import (
    Action,
    Beat,
    Cause,
    Course,
    Follow,
    HandOver,
    Install,
    RaiseMacs,
    Remove,
    Restore,
    Retire,
    SendAdvert,
    Serve,
    Unfollow,
    Withdraw,
)
from tandem.core.events import Company, Event, Restored
from tandem.core.limits import LINE_LIMIT, RESTORE_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from tandem.core.settings import Group
    from tandem.core.virtual_router import VirtualRouter

    Members = tuple[VirtualRouter, ...]

    class Promoted(Protocol):
        """The group that is promoted: `SyncGroup`."""

        members: Members
        restores: bool
        settings: Group

        @property
        def name(self) -> str: ...
        @property
        def follows(self) -> bool: ...
        @property
        def line_taken(self) -> bool: ...
        def promoted(self, reason: Reason) -> list[Action]: ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a group is promoted."""

    why: str  # for people
    cause: Cause | None = None
    seen: str = ""  # what saw the cause
    handed_over: bool = False  # another router gives the role up, and still tells what it knows
    again: bool = False  # it is active already: a reload states everything again
    lives: bool = False  # another router lives, though it has not handed the role over
    agreed: bool = False  # another router goes on until this one serves, see offer.py


class Farewell(Enum):
    """The last advertisement of a router that gives the role up."""

    RESIGN = "priority 0"  # a backup takes over at once
    YIELD = "own priority"  # the better router tells hosts where the addresses are (higher_prio_send_advert)
    SILENT = "none"  # other members go on, or another router is active already


@dataclass(frozen=True, slots=True)
class Demotion:
    """The way in which a role ends."""

    group: str
    members: Members
    restores: bool
    farewell: Farewell
    follows: bool = False  # networks follow its role
    serves: bool = False  # services follow the role of the whole group

    @property
    def names(self) -> tuple[str, ...]:
        """The members by name."""
        return tuple(member.name for member in self.members)


def _advertise(group: Promoted, reason: Reason, now: int) -> list[Action]:
    actions = _raise_macs(group)
    for member in group.members:
        actions += member.advertise_first(now)
    return [] if reason.agreed else actions


def _raise_macs(group: Promoted) -> list[Action]:
    with_mac = tuple(member.name for member in group.members if member.settings.use_vmac is not None)
    return [RaiseMacs(with_mac)] if with_mac else []


def _say_farewell(demotion: Demotion) -> list[Action]:
    """Say it on every interface: those that still work carry it, and one is enough.

    Networks that follow the role are silent before a backup may take over. The kernel forgets connections
    through them then, which nobody must tell the peers: so this comes after `HandOver`. A neighbour with
    heartbeats takes over at the heartbeat, without the wait that a resignation needs.
    """
    actions: list[Action] = [Unfollow(demotion.group)] if demotion.follows else []
    if demotion.farewell is Farewell.RESIGN:
        actions += [Beat(demotion.group), *(SendAdvert(member.name, 0) for member in demotion.members)]
    elif demotion.farewell is Farewell.YIELD:
        willing = [member for member in demotion.members if member.settings.higher_prio_send_advert]
        actions += [SendAdvert(member.name, member.priority) for member in willing]
        actions += [Beat(demotion.group)] if demotion.follows else []
    return [*actions, Withdraw(demotion.names)]


def _restore(group: Promoted, reason: Reason, _now: int) -> list[Action]:
    if not group.restores or reason.again:
        return []
    restore: list[Action] = [Restore(group.name, reason.handed_over)]
    return [*restore, Beat(group.name)] if reason.agreed else restore


def _hand_over(demotion: Demotion) -> list[Action]:
    speaks = demotion.restores and demotion.farewell is not Farewell.SILENT
    return [HandOver(demotion.group)] if speaks else []


def _await_line(group: Promoted, reason: Reason, _now: int) -> list[Action]:
    """Say that this router becomes active, which the other one may have missed."""
    return [Beat(group.name)] if group.line_taken and not reason.again else []


def _install(group: Promoted, reason: Reason, _now: int) -> list[Action]:
    macs = _raise_macs(group) if reason.agreed else []
    return [*macs, Install(tuple(member.name for member in group.members))]


def _remove(demotion: Demotion) -> list[Action]:
    return [Remove(demotion.names)]


def _announce(group: Promoted, reason: Reason, now: int) -> list[Action]:
    actions = [action for member in group.members for action in member.announce(now)]
    if reason.agreed:
        actions.append(Beat(group.name))
        for member in group.members:
            actions += member.advertise(now)
    return actions


def _follow(group: Promoted, _reason: Reason, _now: int) -> list[Action]:
    return [Follow(group.name)] if group.follows else []


def _serve(group: Promoted, reason: Reason, _now: int) -> list[Action]:
    lives = reason.handed_over or reason.lives
    return [Serve(group.name, lives)] if group.settings.services else []


def _retire(demotion: Demotion) -> list[Action]:
    """Begin to stop the services: an operator's commands have waited for their end, a fault does not."""
    return [Retire(demotion.group)] if demotion.serves else []


def _tell(group: Promoted, reason: Reason, _now: int) -> list[Action]:
    return group.promoted(reason)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a promotion."""

    name: str
    start: Callable[[Promoted, Reason, int], list[Action]] | None = None
    undo: Callable[[Demotion], list[Action]] | None = None
    ends: type[Event] | None = None  # None: it ends with its actions
    limit: int = 0  # ns


IDLE = Phase("idle")  # not active
PHASES = (
    Phase("advertise", _advertise, _say_farewell),
    Phase("restore", _restore, _hand_over, Restored, RESTORE_LIMIT),
    Phase("line", _await_line, None, Company, LINE_LIMIT),
    Phase("install", _install, _remove),
    Phase("announce", _announce),
    Phase("WAN", _follow),  # its undo stands in `_say_farewell`
    Phase("services", _serve, _retire),  # hosts have the gateway before they are all up
    Phase("tell", _tell),  # a demotion has another role to tell, which the group does
)
SERVING = Phase("serving")  # active, and all is done


class Cue(Enum):
    """An event that moves a promotion on."""

    BEGIN = "begin"
    ENDED = "the phase has ended"
    LATE = "deadline"
    DEMOTE = "demote"


TRANSITIONS: dict[tuple[Phase, Cue], Phase] = {
    (IDLE, Cue.BEGIN): PHASES[0],
    **{(one, Cue.ENDED): following for one, following in zip(PHASES, (*PHASES[1:], SERVING), strict=True)},
    **{(one, Cue.LATE): PHASES[number] for number, one in enumerate(PHASES, 1) if one.ends},
    (SERVING, Cue.BEGIN): PHASES[0],
    **{(one, Cue.DEMOTE): IDLE for one in (*PHASES, SERVING)},
}
"""The state after each cue. Its `start` is done on entry, and all undos on `Cue.DEMOTE`, last phase first."""


class Promotion:
    """How far the promotion of one group has come."""

    def __init__(self) -> None:
        self.phase = IDLE
        self.deadline: int | None = None  # of the phase that waits for its event
        self.course: Course | None = None  # None: not active
        self._reason = Reason("")

    @property
    def waiting(self) -> bool:
        """Whether a phase waits for its event: the addresses are not all there."""
        return self.deadline is not None

    def copy(self) -> Promotion:
        """Return the same, for another group with some of the members."""
        other = Promotion()
        other.__dict__.update(self.__dict__)
        return other

    def begin(self, group: Promoted, reason: Reason, now: int) -> list[Action]:
        """Begin with the first phase; return the actions up to the first event that is waited for."""
        if (self.phase, Cue.BEGIN) in TRANSITIONS:
            self._reason = reason
            heard = reason.cause.heard if reason.cause is not None and not reason.handed_over else None
            self.course = Course(now, heard)
        return self._move(Cue.BEGIN, group, now)

    def take_in(self, event: Event, group: Promoted, now: int) -> list[Action]:
        """Take in what may end the present phase."""
        ends = self.phase.ends
        if isinstance(event, Restored) and ends is Restored and self.course is not None:
            self.course = Course(self.course.decided, self.course.heard, now, event.connections)
        return self._move(Cue.ENDED, group, now) if ends is not None and isinstance(event, ends) else []

    def skip(self, group: Promoted, now: int) -> list[Action]:
        """Wait no longer for connections: nobody will restore them."""
        return self._move(Cue.ENDED, group, now) if self.phase.ends is Restored else []

    def due(self, group: Promoted, now: int) -> list[Action]:
        """Act on the deadline, if it is not later than `now`."""
        late = self.deadline is not None and self.deadline <= now
        return self._move(Cue.LATE, group, now) if late else []

    def restate(self, group: Promoted, now: int) -> list[Action]:
        """Ask again for what is waited for, because the group has another name."""
        start = self.phase.start
        return start(group, self._reason, now) if self.waiting and start is not None else []

    def demote(self, demotion: Demotion) -> list[Action]:
        """Return to the beginning; return the actions of all undos."""
        self.phase = TRANSITIONS.get((self.phase, Cue.DEMOTE), self.phase)
        self.deadline = self.course = None
        return undo(demotion)

    def _move(self, cue: Cue, group: Promoted, now: int) -> list[Action]:
        actions: list[Action] = []
        following = TRANSITIONS.get((self.phase, cue))
        while following is not None:
            self.phase, self.deadline = following, None
            begun = following.start(group, self._reason, now) if following.start is not None else []
            actions += begun
            if begun and following.ends is not None:
                self.deadline = now + following.limit
                break
            following = TRANSITIONS.get((following, Cue.ENDED))
        return actions


def undo(demotion: Demotion) -> list[Action]:
    """Return the actions that undo all phases, the last one first."""
    return [action for phase in reversed(PHASES) if phase.undo for action in phase.undo(demotion)]
