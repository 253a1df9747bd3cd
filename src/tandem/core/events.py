# SPDX-License-Identifier: GPL-2.0-or-later
"""Events: the input of `SyncGroup.handle`, all that can happen to a virtual router.

Events are plain facts; the shell makes them from packets, netlink messages, probes and
operator commands. Timers are not events: the shell calls `handle(Tick(), now)` when
`next_deadline()` has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.packet import Advertisement


@dataclass(frozen=True, slots=True)
class Tick:
    """Act on every deadline that is not later than `now`."""


@dataclass(frozen=True, slots=True)
class Start:
    """The daemon is set up; leave the Initialize state (RFC 9568 section 6.4.1) after `delay` ns.

    For `grace` ns more, missing interfaces and addresses are no fault.
    """

    delay: int = 0
    grace: int = 0


@dataclass(frozen=True, slots=True)
class AdvertReceived:
    """A checked advertisement for `instance` came from `source` (packed address)."""

    instance: str
    advert: Advertisement
    source: bytes


@dataclass(frozen=True, slots=True)
class TrackerChanged:
    """A tracked object went up or down; `kind` as in `settings.Track`. `why`: what was seen, for people."""

    kind: str
    name: str
    up: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """The primary address of `instance` is now `source` (packed), or it has none."""

    instance: str
    source: bytes | None


@dataclass(frozen=True, slots=True)
class Moved:
    """The interface with the virtual addresses of `instance` has another MAC address now."""

    instance: str


@dataclass(frozen=True, slots=True)
class EffectFailed:
    """The kernel refused something that `instance` needs while active."""

    instance: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rebound:
    """An interface that `instance` needs while active has appeared, vanished or changed its state."""

    instance: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The replicated connections are in the kernel, as `Restore` asked."""

    connections: int = 0  # that were held for other routers


@dataclass(frozen=True, slots=True)
class Synchronised:
    """All connections of the peer are known here, so that a takeover loses none; or no longer."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Partner:
    """The peers of connection replication, and whether they are in step with this router."""

    known: bool  # one was in step with us, in either direction, and has not said goodbye since
    in_step: bool  # the one that is active as well holds all connections of ours, now; or all hold them
    in_step_with: frozenset[bytes] = frozenset()  # packed addresses of those that do
    fills: bool = False  # one has a session, and does not hold all connections of ours yet


@dataclass(frozen=True, slots=True)
class Reunited:
    """The connections of the other active routers are in our kernel, as `Reunite` asked, or one gave up."""


class Vacancy(Enum):
    """Why a role is free, as heartbeats say."""

    DIED = "its heartbeats have stopped"
    LEFT = "it has given the role up"
    UNLINKED = "its link is down"
    OFFERED = "it offers the role, and goes on until another router serves"


@dataclass(frozen=True, slots=True)
class Vacated:
    """The neighbour that was active is so no more, and this router is the best of those that are left.

    `sources`: where its adverts came from, by our instance.
    """

    vacancy: Vacancy
    sources: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """A neighbour takes the role of this active router: it serves, or it begins and is the better one."""

    serves: bool


@dataclass(frozen=True, slots=True)
class Company:
    """The neighbours' intentions, as their heartbeats say them."""

    takes: bool = False  # one takes the role at once when this router offers it
    offers: bool = False  # the active one offers the role to a better router that becomes active
    least: int | None = None  # the faults of the one with the fewest; None: none can have the role
    compares: bool = False  # a fault here counts only while a neighbour has fewer (option fault_policy)
    # Packed addresses of active ones that leave the role to a router that was active before them.
    give_way: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A neighbour is active and its links are up, as it says by heartbeats; or no neighbour is."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Unheard:
    """A neighbour is active, and hears nothing of this router, as it says by heartbeats; or no longer."""

    yes: bool


@dataclass(frozen=True, slots=True)
class Ballot:
    """The answers of a quorum for a group, see quorum.py; `why` explains the first one that is no."""

    hold: bool  # it may stay active
    take: bool  # it may follow a silent router
    succeed: bool  # it may follow a router that is heard
    why: str = ""  # for people


ANYTHING = Ballot(True, True, True)
UNCOUNTED = Ballot(False, False, False, "not counted yet")


@dataclass(frozen=True, slots=True)
class Failover:
    """Operator: hand the group to the peer and do not take it back by preemption."""


@dataclass(frozen=True, slots=True)
class Standby:
    """Operator: hand the group over and stay out of the election until `Resume`."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Operator: undo `Standby` and the preemption hold of `Failover`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The daemon ends: give everything up with priority 0 and return to Initialize.

    `at_once`: without waiting until a neighbour serves.
    """

    at_once: bool = False


Event = (
    Tick | Start | AdvertReceived | TrackerChanged | SourceChanged | Moved | Rebound
    | EffectFailed | Restored | Synchronised | Partner | Reunited | Vacated | Taken | Company | Claimed
    | Unheard | Ballot | Failover | Standby | Resume | Stop
)  # fmt: skip
