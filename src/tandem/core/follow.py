# SPDX-License-Identifier: GPL-2.0-or-later
"""Followed: one network that is up on the active router only, as a WAN with one address from the provider.

The provider must see one host. So the network's device, which has the MAC address that the routers share,
exists on the active router only, and a router that becomes active uses the lease that its peer has told
until the provider confirms it. A lease that has expired, or that belongs to another MAC address, is never
used. The session of PPPoE that a peer has told is ended before the new dial, and so is its own by a router
that gives the role up; or, where that is wanted, it is left open, and the next router goes on with it.
Delegated prefixes are in the LANs of all routers: one without the role has an address
of its own in them, beside the addresses that move with the role.

    away     the role is elsewhere: there is no device, and nothing is said
    lent     active; the lease that a peer told is in place, and the provider has not answered yet
    taking   active; the session of PPPoE that is known is negotiated anew
    asking   active; no lease is in place, and the provider has not answered yet
    bound    active; the network is up

Events and `now` (monotonic ns) in, steps out; `TRANSITIONS` says which. A step is a statement of the state
wanted, so that doing it twice changes nothing.
"""

from __future__ import annotations

from enum import Enum

from tandem.core.lease import AnyLease, Lease6, Session


class State(Enum):
    """How far a network has come."""

    AWAY = "away"
    LENT = "lent"
    TAKING = "taking"
    ASKING = "asking"
    BOUND = "bound"


class Cue(Enum):
    """The events that may change the state."""

    ACTIVE = "the group is active, and no lease is known"
    ACTIVE_LEASE = "the group is active, and a valid lease is known"
    ACTIVE_SESSION = "the group is active, and a session of PPPoE is known"
    ACTIVE_OPEN = "the group is active, and a session of PPPoE is known that was left open"
    BACKUP = "the group is not active"
    BACKUP_OPEN = "the group is not active, and another router may go on with the session of PPPoE"
    UP = "the network is up: with the address that was known, or the first one"
    OTHER = "the network is up with another address"
    DOWN = "the network is down"
    TOLD = "a peer tells a valid lease"
    NONE = "a peer tells no lease that can be used, or the network no longer follows"
    EXPIRED = "the lease in place has expired"
    NOT_TAKEN = "the concentrator does not go on with the session of PPPoE"


class Step(Enum):
    """An effect; `lease` in the action says on which lease."""

    CREATE = "make the device"
    PLACE = "put the lease's address and routes in place, and announce the address"
    REMOVE = "take away what the lease gave and the present one does not give"
    DELETE = "delete the device"
    TAKE_OVER = "have the next dial go on with the session"
    HANG_UP = "tell the concentrator that the session has ended, if the lease is one of PPPoE"
    ASK = "ask for the network to be up"
    RELEASE = "ask for the network to be down"
    TELL = "tell the peers the lease"
    HOLD = "have an address of this router's own in each LAN that has a part of the delegated prefixes"
    LEAVE = "take away the addresses of this router's own that the present lease does not give"
    FLUSH = "end the connections that were translated to the lease's address"


Action = tuple[Step, AnyLease | None]

_AWAY, _LENT, _TAKING, _ASKING, _BOUND = State
TRANSITIONS: dict[tuple[State, Cue], tuple[State, tuple[Step, ...]]] = {
    (_AWAY, Cue.ACTIVE): (_ASKING, (Step.LEAVE, Step.CREATE, Step.ASK)),
    (_AWAY, Cue.ACTIVE_LEASE): (_LENT, (Step.LEAVE, Step.CREATE, Step.PLACE, Step.ASK)),
    (_AWAY, Cue.ACTIVE_SESSION): (_ASKING, (Step.CREATE, Step.HANG_UP, Step.ASK)),
    (_AWAY, Cue.ACTIVE_OPEN): (_TAKING, (Step.TAKE_OVER, Step.CREATE, Step.ASK)),
    (_AWAY, Cue.UP): (_AWAY, (Step.DELETE, Step.RELEASE)),  # somebody has brought it up on a backup
    (_AWAY, Cue.DOWN): (_AWAY, (Step.REMOVE,)),  # netifd keeps IPv6 addresses of a lost prefix
    (_AWAY, Cue.TOLD): (_AWAY, (Step.LEAVE, Step.HOLD)),
    (_AWAY, Cue.NONE): (_AWAY, (Step.LEAVE,)),
    (_LENT, Cue.UP): (_BOUND, (Step.TELL,)),
    (_LENT, Cue.OTHER): (_BOUND, (Step.REMOVE, Step.FLUSH, Step.TELL)),
    (_LENT, Cue.EXPIRED): (_ASKING, (Step.REMOVE, Step.FLUSH)),
    (_LENT, Cue.BACKUP): (_AWAY, (Step.REMOVE, Step.DELETE, Step.HOLD)),
    (_TAKING, Cue.UP): (_BOUND, (Step.TELL,)),
    (_TAKING, Cue.OTHER): (_BOUND, (Step.FLUSH, Step.TELL)),
    (_TAKING, Cue.NOT_TAKEN): (_ASKING, (Step.HANG_UP,)),
    (_TAKING, Cue.BACKUP): (_AWAY, (Step.HANG_UP, Step.DELETE)),
    (_TAKING, Cue.BACKUP_OPEN): (_AWAY, (Step.DELETE,)),
    (_ASKING, Cue.UP): (_BOUND, (Step.TELL,)),
    (_ASKING, Cue.OTHER): (_BOUND, (Step.FLUSH, Step.TELL)),
    (_ASKING, Cue.TOLD): (_LENT, (Step.PLACE,)),
    (_ASKING, Cue.BACKUP): (_AWAY, (Step.DELETE,)),
    (_BOUND, Cue.UP): (_BOUND, (Step.TELL,)),
    (_BOUND, Cue.OTHER): (_BOUND, (Step.REMOVE, Step.FLUSH, Step.TELL)),
    (_BOUND, Cue.DOWN): (_ASKING, (Step.REMOVE, Step.TELL)),
    (_BOUND, Cue.BACKUP): (_AWAY, (Step.REMOVE, Step.HANG_UP, Step.DELETE, Step.HOLD)),
    (_BOUND, Cue.BACKUP_OPEN): (_AWAY, (Step.REMOVE, Step.DELETE)),
}
"""The state after each cue, and the steps; a cue that is not here changes nothing.

REMOVE, FLUSH and LEAVE are about the lease that was in place or held before, the others about the present
one. HOLD and LEAVE are left out without a prefix. A session is hung up before anything else is said with the
MAC address: later, its id may be that of a new one. An address of the router's own is gone before addresses
move here, because netifd may make the same.
"""
_OF_PREFIXES = (Step.HOLD, Step.LEAVE)


class Followed:
    """One followed network. `mac` is the MAC address that its routers share, "" for a network without one."""

    def __init__(self, name: str, mac: str) -> None:
        self.name = name
        self.mac = mac
        self.state = State.AWAY
        self.lease: AnyLease | None = None  # the last one that this router or a peer had
        self.placed: AnyLease | None = None  # the one that is in place now
        self.held: Lease6 | None = None  # the one of which this router has addresses of its own
        self.refused = 0  # leases of a peer that belong to another MAC address

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        lent = self.placed if self.state is State.LENT else None
        return None if lent is None or isinstance(lent, Session) else lent.until

    def active(self, now: int, take_over: bool = False) -> list[Action]:
        """The group has become active, or states everything again.

        `take_over`: go on with the session of PPPoE that is known, because it was left open and still lives.
        """
        if isinstance(self.lease, Session):
            return self._move(Cue.ACTIVE_OPEN if take_over else Cue.ACTIVE_SESSION)
        known = self.lease is not None and self.lease.valid(now)
        return self._move(Cue.ACTIVE_LEASE if known else Cue.ACTIVE)

    def backup(self, leave_open: bool = False) -> list[Action]:
        """The group is no longer active. `leave_open`: another router may go on with the session of PPPoE."""
        lease = self.lease if self.state in (State.TAKING, State.BOUND) else None
        stays = leave_open and isinstance(lease, Session) and lease.open
        return self._move(Cue.BACKUP_OPEN if stays else Cue.BACKUP)

    def stop(self) -> list[Action]:
        """The network no longer follows."""
        given_up = [action for action in self._move(Cue.BACKUP) if action[0] is not Step.HOLD]
        return [*given_up, *self._move(Cue.NONE)]

    def up(self, lease: AnyLease | None) -> list[Action]:
        """The network is up; None: its address is no lease.

        A client of IPv6 hears an advert before DHCPv6 answers: a lent lease stays while a part is missing.
        """
        if self.state is State.AWAY:
            return self._move(Cue.UP)
        before = self.placed if self.placed is not None else self.lease
        had, parts = (one.parts if one is not None else frozenset() for one in (before, lease))
        if self.state is State.LENT and lease is not None and parts < had:
            return []
        self.lease = lease
        return self._move(Cue.UP if parts >= had else Cue.OTHER, before)

    def not_taken(self) -> list[Action]:
        """The concentrator does not go on with the session."""
        return self._move(Cue.NOT_TAKEN)

    def down(self) -> list[Action]:
        """The network is down. A network that is coming up says so too."""
        lost = self.lease if self.state is State.AWAY else None
        if self.state is State.BOUND:
            self.lease = None
        return self._move(Cue.DOWN, lost)

    def told(self, lease: AnyLease | None, now: int) -> list[Action]:
        """A peer that is active tells its lease; None: it has none."""
        if lease is not None and lease.mac != self.mac:
            self.refused += 1
            return []
        if self.state in (State.LENT, State.TAKING, State.BOUND):
            return []
        self.lease = lease
        usable = lease is not None and not isinstance(lease, Session) and lease.valid(now)
        return self._move(Cue.TOLD if usable else Cue.NONE)

    def due(self, now: int) -> list[Action]:
        """Act on the deadline, if it is not later than `now`."""
        deadline = self.next_deadline()
        return self._move(Cue.EXPIRED) if deadline is not None and deadline <= now else []

    def _move(self, cue: Cue, before: AnyLease | None = None) -> list[Action]:
        """Return the steps; REMOVE and FLUSH are about `before`, by default the lease that is in place."""
        found = TRANSITIONS.get((self.state, cue))
        if found is None:
            return []
        self.state, steps = found
        about: dict[Step, AnyLease | None] = {Step.LEAVE: self.held}
        about[Step.REMOVE] = about[Step.FLUSH] = before or self.placed
        if self.state is State.BOUND or Step.PLACE in steps:
            self.placed = self.lease
        elif Step.REMOVE in steps:
            self.placed = None
        if Step.HOLD in steps or Step.LEAVE in steps:
            self.held = self.lease if Step.HOLD in steps and isinstance(self.lease, Lease6) else None
        about[Step.HOLD] = self.held
        actions = [(step, about.get(step, self.lease)) for step in steps]
        return [action for action in actions if action[1] is not None or action[0] not in _OF_PREFIXES]
