# SPDX-License-Identifier: GPL-2.0-or-later
"""Services: which services run on this router, and what is done next so that it becomes so.

A service belongs to a sync group. It runs where the group is active, or on its backups, or everywhere.
`after` orders two services that both run here: the later one starts when the earlier one is up, and stops
before it. `with` (here `together`) lets a service run only where another one may run. Operations that no
order forbids run at the same time.

A service with `where active` never runs on two routers. Before such a service starts here, this router
claims it: it tells all peers, and waits until each has answered that it does not hold the service (see
`service_claims`). A service that is wanted here no longer is free as soon as it has stopped.

The methods take what has happened and the time in ns, and return actions; `next_deadline` says when `due`
has something to do. The number of operations at one time is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.limits import DEPARTURE_LIMIT
from tandem.core.service import BUSY, UP, Operation, ServiceState, State
from tandem.core.service_claims import Claims, Word
from tandem.core.settings import Service
from tandem.core.timers import MILLISECOND, SECOND, earliest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MONITOR_PAUSE = SECOND  # when there is no room for a monitor
OPERATIONS_MAX = 16  # at the same time: a small router has one slow core


class Place(Enum):
    """The part of a group in which this router is."""

    ACTIVE = "active"
    BACKUP = "backup"
    NONE = "none"  # not known, in fault or out of service


@dataclass(frozen=True, slots=True)
class Run:
    """Run an operation of a service, after ending another one that is under way; answer with `ended`."""

    name: str
    operation: Operation


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether the group should have its role here, as far as this service is concerned."""

    name: str
    up: bool


@dataclass(frozen=True, slots=True)
class Runs:
    """Whether a service with stickiness is up here."""

    name: str
    up: bool


@dataclass(frozen=True, slots=True)
class Left:
    """The services of a group have stopped, or their time is over; None: those of all groups."""

    group: str | None


@dataclass(frozen=True, slots=True)
class Tell:
    """Send the words about the services of this router to the peers that lack them."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A service has failed; its `failure` says how."""

    name: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The state of a service is another one, for people."""

    name: str


Action = Run | Fit | Runs | Left | Tell | Failed | Changed


class Services:
    """All services of one router. `nonce` differs from that of every other router."""

    def __init__(self, settings: Iterable[Service], peers: Iterable[str], nonce: int) -> None:
        """Each service stands behind those that it is `after` or `together` with."""
        self.services = {one.name: ServiceState(one) for one in settings}
        self.claims = Claims(peers, nonce)
        self._places: dict[str, Place] = {}
        self._since: dict[str, int] = {}  # of the places, ns
        self._handed_over: dict[str, bool] = {}  # whether another router gave the group up, and may live
        self._leaving: dict[str | None, int] = {}  # groups, or None for all, with their deadlines
        self._finished = False
        self._told: dict[str, tuple[State, bool, bool]] = {}  # state, fit, up: as reported last
        self._incoming: dict[str, Service] | None = None  # while services of old settings have to be stopped
        self._later = self._dependents()

    # Events

    def start(self, now: int) -> list[Action]:
        """Look which services run; nothing is started before that."""
        return self._plan(now)

    def placed(self, group: str, place: Place, now: int, handed_over: bool = False) -> list[Action]:
        """The group has this part here now. `handed_over`: another router has given the role up."""
        if self._places.get(group) is place:
            handed_over |= self._handed_over[group]  # a reload says it again
        else:
            self._since[group] = now
        self._places[group] = place
        self._handed_over[group] = handed_over
        self._leaving.pop(group, None)
        return self._plan(now)

    def ended(self, name: str, operation: Operation, status: int, reason: str, now: int) -> list[Action]:
        """An operation has ended with an exit status of OCF; -1: it was ended by a signal or its timeout."""
        one = self.services.get(name)
        before = one.failure if one is not None else None
        if one is None or not one.take(operation, status, reason, now):
            return []
        failed = [] if one.failure in (None, before) else [Failed(name)]
        return [*failed, *self._plan(now)]

    def died(self, name: str, reason: str, now: int) -> list[Action]:
        """A service has ended by itself."""
        one = self.services.get(name)
        return [Failed(name), *self._plan(now)] if one is not None and one.died(reason, now) else []

    def ailed(self, name: str, check: str, reason: str, now: int) -> list[Action]:
        """A check of a service is down."""
        one = self.services.get(name)
        return [Failed(name), *self._plan(now)] if one is not None and one.ailed(check, reason, now) else []

    def heard(
        self, peer: str, words: Mapping[str, Word], sequence: int, ack: int, nonce: int, now: int
    ) -> list[Action]:
        """A peer has told its words, see `service_claims`."""
        self.claims.heard(peer, words, sequence, ack, nonce, now)
        return self._plan(now)

    def connected(self, peer: str, now: int) -> list[Action]:
        """A session with a peer has begun."""
        self.claims.connected(peer, now)
        return self._plan(now)

    def lost(self, peer: str, crashed: bool, now: int) -> list[Action]:
        """The session with a peer has ended. `crashed`: its kernel lives, its daemon said no goodbye."""
        stops = [
            one.settings.stop_timeout_ms
            for name, one in self.services.items()
            if self.claims.may_run(peer, name)
        ]
        limit = min(sum(stops) * MILLISECOND, DEPARTURE_LIMIT)
        self.claims.lost(peer, now + limit if crashed and stops else None)
        return self._plan(now)

    def peer_died(self, peer: str, now: int) -> list[Action]:
        """The heartbeats of a peer have stopped on every path."""
        tell: list[Action] = [Tell()] if self.claims.died(peer, now) else []
        return [*tell, *self._plan(now)]

    def peer_lives(self, peer: str) -> None:
        """The heartbeats of a peer come again."""
        self.claims.lives(peer)

    def clear(self, name: str, now: int) -> list[Action]:
        """An operator says that the failures of a service are over, also those of absent peers."""
        self.services[name].clear(now)
        self.claims.clear(name)
        return self._plan(now)

    def disable(self, name: str, disabled: bool, now: int) -> list[Action]:
        """An operator wants a service stopped on this router, or started again."""
        self.services[name].disabled = disabled
        return self._plan(now)

    def leave(self, group: str | None, now: int) -> list[Action]:
        """Stop the services of a group that will give up its role, or of all groups; `Left` follows."""
        self._leaving[group] = now + DEPARTURE_LIMIT
        return self._plan(now)

    def look(self, now: int) -> list[Action]:
        """Something outside may have stopped services: monitor them now."""
        for one in self.services.values():
            if one.monitor_at is not None:
                one.monitor_at = now
        return self._plan(now)

    def reload(self, settings: Iterable[Service], peers: Iterable[str], now: int) -> list[Action]:
        """Go over to other services; what is another program now is stopped as it was started."""
        self._incoming = {one.name: one for one in settings}
        self.claims.expect(peers)
        for name, one in self.services.items():
            new = self._incoming.get(name)
            if new is not None and _same(one.settings, new):
                one.settings = new
        self._told.clear()
        return self._plan(now)

    def due(self, now: int) -> list[Action]:
        """Act on every deadline that is not later than `now`."""
        for one in self.services.values():
            one.due(now)
        silent = {
            name for name, one in self.services.items() if not self._handed_over.get(one.settings.group, True)
        }
        self.claims.due(silent, now)
        return self._plan(now)

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        found = earliest(self.claims.next_deadline(), *self._leaving.values())
        for one in self.services.values():
            found = earliest(found, one.forgets_at, one.monitor_at)
            if one.state is State.STOPPED:
                found = earliest(found, one.start_at)
        return found

    # Questions

    def wanted(self, name: str) -> bool:
        """Whether the service should run here."""
        return self._wanted().get(name, False)

    def waits_for(self, name: str) -> str:
        """Return what keeps a wanted service from its start, for people; empty: nothing does."""
        one = self.services[name]
        if one.disabled:
            return f"an operator: tandem service start {name}"
        if one.banned and not one.up:
            return f"an end of its failures: tandem service clear {name}"
        if one.state is State.BLOCKED:
            return f"an operator, because it could not be stopped: tandem service clear {name}"
        if one.state is State.STOPPED and self.wanted(name):
            for before in self._before(one):
                if not self.services[before].up:
                    return f"service {before}"
            if one.settings.where == "active" and not one.granted:
                group = one.settings.group
                return self.claims.waits_for(name, self._handed_over[group], self._since[group])
        return ""

    # The plan

    def _plan(self, now: int) -> list[Action]:
        """Return the next operations and everything that has to be told."""
        if self._incoming is not None:
            self._take_in(self._incoming)
        wanted = self._wanted()
        actions: list[Action] = []
        room = OPERATIONS_MAX - sum(one.state in BUSY for one in self.services.values())
        claimed: dict[str, bool] = {}
        ready: dict[str, bool] = {}
        for name, one in self.services.items():
            # A service stops as well when one fails that it stands on by way of others.
            ready[name] = all(self.services[up].up and ready.get(up, True) for up in self._before(one))
            operation = self._next(one, wanted[name], ready[name], claimed, now)
            if operation is None:
                continue
            if room <= 0 and one.state not in BUSY:
                if operation is Operation.MONITOR:
                    one.monitor_at = now + MONITOR_PAUSE
                continue
            room -= one.state not in BUSY
            one.begin(operation, now)
            actions.append(Run(name, operation))
        if self.claims.tell(self._words(claimed), now):
            actions.insert(0, Tell())  # peers hear of a start before it begins
        return actions + self._news() + self._departures(now)

    def _wanted(self) -> dict[str, bool]:
        """Whether each service should run here; those that it depends on come first."""
        found: dict[str, bool] = {}
        for name, one in self.services.items():
            needs = (*one.settings.together, *self._before(one))
            able = not (one.banned or one.disabled or one.state is State.BLOCKED)
            found[name] = self._placed(one) and able and all(found.get(other, False) for other in needs)
        return found

    def _placed(self, one: ServiceState) -> bool:
        """Whether the service has its place on this router."""
        settings = one.settings
        if self._finished or None in self._leaving or self._goes(settings):
            return False
        if settings.where == "everywhere":
            return True
        place = self._places.get(settings.group, Place.NONE)
        return place.value == settings.where and settings.group not in self._leaving

    def _before(self, one: ServiceState) -> list[str]:
        """Return the services that are up before this one starts: those of `after` whose place is here."""
        known = self.services
        return [name for name in one.settings.after if name in known and self._placed(known[name])]

    def _next(
        self, one: ServiceState, wanted: bool, ready: bool, claimed: dict[str, bool], now: int
    ) -> Operation | None:
        """Return the operation that is next for a service; None: nothing, or a wait.

        `ready`: those that it comes after are up, and stay so.
        """
        state, settings = one.state, one.settings
        if state is State.UNKNOWN:
            return Operation.PROBE
        if state is State.FAILED or (state in (*UP, State.STARTING) and not (wanted and ready)):
            # A service that could not be stopped may use this one.
            free = all(self.services[later].state is State.STOPPED for later in self._later[settings.name])
            if one.monitor_at is not None and one.monitor_at <= now:
                one.monitor_at = now + MONITOR_PAUSE  # no monitor while a stop is due
            return Operation.STOP if free else None
        if state is State.RUNNING and one.monitor_at is not None and one.monitor_at <= now:
            return Operation.MONITOR
        if state is not State.STOPPED:
            return None
        one.granted &= wanted
        if not wanted or not ready or (one.start_at is not None and one.start_at > now):
            return None
        if settings.where == "active" and not one.granted:
            claimed[settings.name] = True
            role = self._handed_over.get(settings.group, False), self._since.get(settings.group, now)
            if not self.claims.granted(settings.name, *role, now):
                return None
            one.granted = True
        return Operation.START

    def _take_in(self, incoming: dict[str, Service]) -> None:
        """Replace the services of old settings that have stopped."""
        kept = {
            name: one for name, one in self.services.items() if self._goes(one.settings) and not one.at_rest
        }
        found: dict[str, ServiceState] = {}
        for name, settings in incoming.items():
            stays = name in self.services and (name in kept or not self._goes(self.services[name].settings))
            found[name] = self.services[name] if stays else ServiceState(settings)
        self.services = {**found, **kept}
        self._later = self._dependents()
        if all(one.settings == incoming.get(name) for name, one in self.services.items()):
            self._incoming = None

    def _goes(self, settings: Service) -> bool:
        """Whether a service is no longer configured, or is another program now."""
        if self._incoming is None:
            return False
        new = self._incoming.get(settings.name)
        return new is None or not _same(settings, new)

    def _dependents(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in self.services}
        for name, one in self.services.items():
            for earlier in one.settings.after:
                if earlier in found:
                    found[earlier].append(name)
        return found

    def _stuck(self, one: ServiceState) -> bool:
        """Whether a service cannot be stopped because a later service could not be."""
        later = [self.services[name] for name in self._later[one.settings.name]]
        return any(other.state is State.BLOCKED or self._stuck(other) for other in later)

    def _words(self, claimed: dict[str, bool]) -> dict[str, Word]:
        """Return what the peers shall know."""
        return {
            name: Word.of(one, name in claimed)
            for name, one in self.services.items()
            if one.settings.where == "active"
        }

    # News

    def _news(self) -> list[Action]:
        actions: list[Action] = []
        for name, one in self.services.items():
            fit = not one.banned or one.settings.where != "active" or not self.claims.able_elsewhere(name)
            before, known = self._told.get(name), (State.RUNNING if one.up else one.state, fit, one.up)
            if before == known:
                continue
            self._told[name] = known
            if before is None or before[1] != fit:
                actions.append(Fit(name, fit))
            if one.settings.stickiness and (before is None or before[2] != one.up):
                actions.append(Runs(name, one.up))
            if before is None or before[0] is not known[0]:
                actions.append(Changed(name))
        return actions

    def _departures(self, now: int) -> list[Action]:
        actions: list[Action] = []
        for group, deadline in list(self._leaving.items()):
            own = [
                one
                for one in self.services.values()
                if group is None or (one.settings.group == group and one.settings.where == "active")
            ]
            if deadline <= now or all(one.at_rest or self._stuck(one) for one in own):
                if group is None:
                    self._finished = True
                    del self._leaving[group]
                else:
                    self._leaving.pop(group)
                    self._places[group] = Place.NONE
                actions.append(Left(group))
        return actions


def _same(old: Service, new: Service) -> bool:
    """Whether new settings are those of the same program in the same place."""
    return all(
        getattr(old, field) == getattr(new, field)
        for field in ("agent", "command", "params", "group", "where")
    )
