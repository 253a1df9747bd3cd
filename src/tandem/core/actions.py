# SPDX-License-Identifier: GPL-2.0-or-later
"""Actions: the output of `SyncGroup.handle`, which the shell carries out in this order.

Every action is a statement of the state wanted, so that doing it twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SendAdvert:
    """Send one advertisement of `instance` with this priority; 0 resigns."""

    instance: str
    priority: int


@dataclass(frozen=True, slots=True)
class RaiseMacs:
    """Set the interfaces with the virtual MAC addresses of these instances up: adverts leave by them."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Install:
    """Make the SNAT rules, addresses, routes and rules of these instances exist."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """Make the addresses, routes and rules of these instances not exist."""

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take away the SNAT rules and set the virtual MAC addresses down of these instances.

    It follows `Remove`, and the goodbye if there is one: it takes long and nobody waits for it.
    """

    instances: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Send `repeat` rounds of gratuitous ARP / unsolicited NA for every virtual address."""

    instance: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Greet:
    """Announce this router's own address on the LAN of `instance`, and resolve the unicast peers (ARP, ND).

    The router or its link has just come up, and peers may have forgotten its MAC address.
    """

    instance: str


@dataclass(frozen=True, slots=True)
class Contested:
    """A lesser router was active beside this one, which stays and has announced its addresses again."""

    instance: str
    priority: int  # effective, of this router


@dataclass(frozen=True, slots=True)
class Restore:
    """Put the replicated connections into the kernel and answer with `Restored`.

    `handed_over`: another router gives the role up, and still tells what it knows.
    """

    group: str
    handed_over: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """Tell the peers all about our connections, because the group gives the role up."""

    group: str


@dataclass(frozen=True, slots=True)
class Beat:
    """Send a heartbeat now: the group offers its role, or begins to take one."""

    group: str


@dataclass(frozen=True, slots=True)
class Reunite:
    """Exchange connections with another active router, and answer with `Reunited`."""

    group: str


@dataclass(frozen=True, slots=True)
class Speculate:
    """Begin to restore, because the active router may be dead: little is then left to do."""

    group: str


@dataclass(frozen=True, slots=True)
class StopSpeculating:
    """End what `Speculate` began, because the active router is alive."""

    group: str


@dataclass(frozen=True, slots=True)
class Follow:
    """Bring the networks up that follow the role of a group."""

    group: str


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Take the networks down that follow the role of a group: another router may speak for them at once."""

    group: str


@dataclass(frozen=True, slots=True)
class Serve:
    """Start the services of the group. `handed_over`: another router gives the role up, and may run them."""

    group: str
    handed_over: bool = False


@dataclass(frozen=True, slots=True)
class Retire:
    """Stop the services of the group."""

    group: str


@dataclass(frozen=True, slots=True)
class Cause:
    """The router whose adverts, or whose silence, caused a transition."""

    source: bytes  # packed address
    priority: int
    interval_cs: int
    heard: int | None = field(default=None, compare=False)  # its last word, ns


@dataclass(frozen=True, slots=True)
class Course:
    """The moments of a promotion, monotonic ns, for people."""

    decided: int  # it began
    heard: int | None = None  # the last word of a router that fell silent; None: another cause
    restored: int | None = None  # the connections were there; None: there was nothing to wait for
    connections: int = 0  # that were restored


@dataclass(frozen=True, slots=True)
class Transition:
    """The state has changed: log it, tell notify scripts and watchers."""

    instance: str
    state: str  # keepalived's word, see state.py
    priority: int  # effective
    why: str  # for people
    # For people: transitions are equal without these.
    cause: Cause | None = field(default=None, compare=False)
    seen: str = field(default="", compare=False)  # what saw the cause, see `role_changes.Change`
    course: Course | None = field(default=None, compare=False)  # of a promotion


@dataclass(frozen=True, slots=True)
class Degraded:
    """A group in fault takes part in elections, because no other router is better."""

    group: str
    why: str  # its faults, for people


@dataclass(frozen=True, slots=True)
class GroupTransition:
    """All members of a configured sync group have changed state."""

    group: str
    state: str


Action = (
    SendAdvert
    | RaiseMacs
    | Install
    | Remove
    | Withdraw
    | Announce
    | Greet
    | Contested
    | Restore
    | HandOver
    | Beat
    | Reunite
    | Speculate
    | StopSpeculating
    | Follow
    | Unfollow
    | Serve
    | Retire
    | Degraded
    | Transition
    | GroupTransition
)
