# SPDX-License-Identifier: GPL-2.0-or-later
"""Router: the running groups, and what connects them to the kernel and to the wire.

    packets, netlink messages, probes, commands -> events -> SyncGroup.handle -> Executor
                                                                 ^ failures come back as events |

Nothing here decides: roles are the core's, effects the executor's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

from tandem.config.diff import Succession, succession
from tandem.config.schema import Peer
from tandem.core.actions import GroupTransition, SendAdvert, Transition
from tandem.core.damping import Damping
from tandem.core.events import (
    UNCOUNTED,
    AdvertReceived,
    EffectFailed,
    Event,
    Moved,
    Rebound,
    Restored,
    Reunited,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Synchronised,
    Tick,
)
from tandem.core.neighbour import Neighbours
from tandem.core.reload import heirs, leave, reconfigure
from tandem.core.settings import Group, Instance
from tandem.core.state import Role
from tandem.core.strangers import Source, Strangers
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND
from tandem.core.tracked import Tracked
from tandem.core.trouble import Trouble
from tandem.core.virtual_router import VirtualRouter
from tandem.effects.endpoint import Endpoint
from tandem.effects.executor import Executor
from tandem.effects.interfaces import Interfaces
from tandem.effects.links import Links
from tandem.effects.vrrp_socket import pack
from tandem.hearing import Hearing
from tandem.log import Logger
from tandem.loop import TIMER_SLACK, Loop
from tandem.plan.result import Plan, Template
from tandem.scripts import Scripts

TICK = Tick()
START_GRACE = 10_000 * MILLISECOND  # for interfaces and networks to come up when the router boots


class Router:
    """All groups of one plan; `start` sets them going, `stop` gives everything up."""

    def __init__(
        self,
        loop: Loop,
        plan: Plan,
        executor: Executor,
        interfaces: Interfaces,
        scripts: Scripts,
        log: Logger,
        caught: Callable[[Exception], None],
        sources_changed: Callable[[], None] = lambda: None,
        acted: Callable[[], None] = lambda: None,
    ) -> None:
        """`acted` is called when a group has done something: its role or priority may be another one.

        That is in the next turn of the loop: addresses and announcements come before what tells of them.
        """
        self.plan = plan
        self.groups: dict[str, SyncGroup] = {}
        self.changed: dict[str, int] = {}  # when an instance last changed its state, ns
        self.transitions: dict[str, int] = {}
        self._loop = loop
        self._executor = executor
        self._interfaces = interfaces
        self._log = log
        self._caught = caught
        self._replicated = False
        self.strangers = Strangers()
        self.neighbours = Neighbours()
        self._sources_changed = sources_changed
        self._acted = acted
        self._group_of: dict[str, SyncGroup] = {}  # by the name of an instance
        self._synchronised = False
        self._partner = self.neighbours.partner
        self._hearing = Hearing(
            loop, log, interfaces, self.strangers, self.neighbours, self._group_of, self.dispatch
        )
        self._tracked = Tracked(lambda name: interfaces.usable(name), lambda name: scripts.state(name))
        # Who waits until these groups have left their role.
        self._waits: list[tuple[list[SyncGroup], Callable[[], None]]] = []

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The endpoints by instance name."""
        return self._executor.endpoints

    @property
    def drops(self) -> dict[str, int]:
        """The packets for no instance of ours, by reason."""
        return self._hearing.drops

    @property
    def health(self) -> dict[str, list[str]]:
        """The groups that take part in elections in spite of their faults."""
        found = [
            f"{name}: {', '.join(group.faults)}; "
            + ("the better router lacks connections" if group.offer.waits else "no other router is better")
            for name, group in self.groups.items()
            if group.degraded or group.offer.waits
        ]
        return {"degraded": found} if found else {}

    @property
    def trouble(self) -> Trouble:
        """The faults of the segments that adverts show."""
        return self._hearing.trouble

    @property
    def links(self) -> Links:
        """The interfaces by name."""
        return self._interfaces.links

    # Life

    def start(self, replicated: bool, standby: Container[str]) -> None:
        """Create every group of the plan and let it take part in the elections.

        `replicated`: connections are replicated, which the kernel may refuse though it is configured.
        `standby`: groups that stay out of service.
        """
        self._replicated = replicated
        self._expect_peers()
        for instance in self.plan.config.instances:
            self.endpoints[instance.name] = Endpoint(instance, self.plan.instances[instance.name])
        self._succeed({})
        self._connect()
        delay = self.plan.config.globals.startup_delay_ms * MILLISECOND
        for running in self.groups.values():
            if running.settings.name in standby:
                self.dispatch(running, Standby())
            self.dispatch(running, Start(delay, START_GRACE))
        self._refresh(self._loop.now())

    def stop(self) -> None:
        """Remove every effect and resign: addresses go first, then priority 0 is sent."""
        self._loop.call_at("lifetime", None)
        for name in list(self.groups):
            self._end(name)
        self._connect()

    def leave(self, groups: list[SyncGroup], event: Event, then: Callable[[], None]) -> None:
        """Dispatch an event that takes the role from these groups; call `then` when none is active any more.

        An active router goes on until another one serves (core/offer.py), so that this may be later.
        """
        for group in groups:
            self.dispatch(group, event)
        self._waits.append((groups, then))
        self._look_for_leavers()

    def _look_for_leavers(self) -> None:
        waits, self._waits = self._waits, []
        for groups, then in waits:
            if any(group.role is Role.ACTIVE and group.offer.pending for group in groups):
                self._waits.append((groups, then))
            else:
                then()

    def reload(self, plan: Plan, replicated: bool) -> None:
        """Go over to `plan`; what it leaves as it is keeps its role and its addresses."""
        self._replicated = replicated
        running = {name: [member.settings for member in group.members] for name, group in self.groups.items()}
        origins = succession(running, plan.config, plan.identity)
        kept = [name for origin in origins.values() for name in origin.kept]
        before = {name: self.groups[name] for name in running}
        self._leave(before, set(kept))
        stale = self._stale(plan, kept)
        self.plan = plan
        self._expect_peers()
        for instance in plan.config.instances:
            if instance.name not in self.endpoints:
                self.endpoints[instance.name] = Endpoint(instance, plan.instances[instance.name])
        self._executor.take_plan(plan, stale)
        self._interfaces.take_plan(plan)
        routers = {member.name: member for group in self.groups.values() for member in group.members}
        kin = self._succeed(origins)
        self._serve()
        for group in plan.config.groups:
            if group.name in kin:
                self._reconfigure(group, kin[group.name], routers)
        self._tell_interfaces()
        for name, new in self.groups.items():
            if name not in kin:
                self.dispatch(new, Start())
                self.dispatch(new, Synchronised(self._synchronised))
                self.dispatch(new, self._partner)
        for name, old in before.items():
            if name not in self.groups and not old.settings.implicit:
                self._executor.execute([GroupTransition(name, "STOP")])
        self._refresh(self._loop.now())

    # Events

    def dispatch(self, group: SyncGroup, event: Event) -> None:
        """Let `group` handle `event` and do what it wants; failures go round again.

        An exception in one group must not keep the others from the event, nor this one from its deadlines.
        """
        events = [event]
        try:
            while events:
                event = events.pop(0)
                actions = group.handle(event, self._loop.now())
                if actions:
                    failures = self._executor.execute(actions, group.role_ends)
                    for failure in failures:
                        self._log_failure(failure)
                    events += failures[:1]  # one reason is enough to give up
                # Adverts and timers come all the time, and so do the adverts that they cause.
                rare = not isinstance(event, (AdvertReceived, Tick))
                if rare or any(type(action) is not SendAdvert for action in actions):
                    self._loop.call_at("acted", self._loop.now(), self._tell_acted)
        except Exception as error:  # noqa: BLE001 - see above
            self._caught(error)
        self._arm(group)
        if self._waits:
            self._look_for_leavers()

    def _tell_acted(self, _now: int) -> None:
        self._acted()

    def note(self, transition: Transition) -> None:
        """Remember when it happened, for status."""
        name = transition.instance
        self.changed[name] = self._loop.now()
        self.transitions[name] = self.transitions.get(name, 0) + 1
        self._hearing.sort_soon()
        damping = self._group_of[name].damping
        if damping.until(self._loop.now()) is not None:
            often = f"{damping.changes} changes of role in {damping.time / 1_000_000_000:g} s"
            message = f"{name}: {often}: this router does not preempt until it has rested (damping_changes)"
            self._log.limited(("damping", name), "warning", message)

    def course(self, transition: Transition | GroupTransition) -> tuple[str, int, int]:
        """Return the group of a transition, and when its addresses were installed and announced, ns."""
        if isinstance(transition, GroupTransition):
            return transition.group, 0, 0
        endpoint = self.endpoints[transition.instance]
        return self._group_of[transition.instance].name, endpoint.installed_at, endpoint.announced_at

    def tracker_changed(self, kind: str, name: str, up: bool, why: str = "") -> None:
        """Tell every group that tracks this object."""
        event = self._tracked.note(kind, name, up, why)
        for group in self.groups.values():
            if group.tracking.has(kind, name):
                self.dispatch(group, event)

    def restored(self, group: str, connections: int) -> None:
        """The connections that a group waits for are in the kernel; so many were held for other routers."""
        if group in self.groups:
            self.dispatch(self.groups[group], Restored(connections))

    def reunited(self, group: str | None) -> None:
        """Tell a group that connections were exchanged with another active router; None: every group."""
        for name in list(self.groups):
            if group in (None, name):
                self.dispatch(self.groups[name], Reunited())

    def sources(self) -> list[tuple[int, bytes]]:
        """Return the sources of this router's adverts: virtual router ids and packed addresses."""
        return [
            (endpoint.settings.virtual_router_id, endpoint.source)
            for endpoint in self.endpoints.values()
            if endpoint.source is not None
        ]

    def peer_sources(self, peer: str, sources: tuple[Source, ...], authenticated: bool) -> None:
        """Take the sources of a peer's adverts; empty: its session has ended."""
        self.neighbours.told(peer, sources)
        self.strangers.told(peer, sources if authenticated else ())
        self._hearing.sort_soon()

    def _expect_peers(self) -> None:
        peers = self.plan.config.peers
        self.strangers.expect(peer.name for peer in peers)
        segments = [instance.name for instance in self.plan.config.instances]
        self.neighbours.expect({peer.name: _addresses(peer) for peer in peers}, segments)
        sync = self.plan.config.conntrack_sync
        self.neighbours.replicate(sync.peers if sync is not None else ())
        self._tell_partner_soon()

    def neighbour(self, name: str, event: str) -> None:
        """Take what has happened to the session with a peer; the groups are told when no role is changing."""
        found = self.neighbours.get(name)
        if found is not None:
            found.handle(event, self._loop.now())
            self._tell_partner_soon()

    def _tell_partner_soon(self) -> None:
        if self.neighbours.partner != self._partner:
            self._loop.call_at("partner", self._loop.now(), self._tell_partner)

    def _tell_partner(self, now: int) -> None:
        self._partner, before = self.neighbours.partner, self._partner
        for group in list(self.groups.values()) if self._partner != before else ():
            self.dispatch(group, self._partner)

    def synchronised(self, yes: bool) -> None:
        """All connections of the peers are known here, or no longer."""
        self._synchronised = yes
        for group in list(self.groups.values()):
            self.dispatch(group, Synchronised(yes))

    def interfaces_changed(self) -> None:
        """Interfaces have come, gone or changed: those that went down first, for speed counts there."""
        for group in list(self.groups.values()):
            for event in self._tracked.news(group.tracking):
                if not event.up:
                    self.dispatch(group, event)
        self._connect()

    def reinstall(self, name: str) -> None:
        """Send everything of an instance again, if it is active."""
        self._wake(self._group_of[name], self._loop.now())
        self._failed(self._executor.reinstall(name))

    def moved(self, name: str) -> None:
        """The virtual addresses of an instance have another MAC address."""
        self.dispatch(self._group_of[name], Moved(name))

    def rebound(self, name: str) -> None:
        """Interfaces that an instance will need have changed: a failed effect may work now."""
        self.dispatch(self._group_of[name], Rebound(name))

    def restore(self, name: str) -> None:
        """Put back what somebody has deleted from under an instance, if it is active."""
        if self.is_installed(name):
            self.endpoints[name].count("restored")
            self.reinstall(name)

    def is_installed(self, name: str) -> bool:
        """Whether the kernel has the addresses, routes and rules of an instance, for all that we know."""
        endpoint = self.endpoints.get(name)
        return endpoint is not None and endpoint.installed

    def restore_tables(self) -> list[str]:
        """Put back the tables that another program has changed; return their names. OSError: not readable."""
        restored, failed = self._executor.restore_tables()
        self._failed(failed)
        return restored

    def _arm(self, group: SyncGroup) -> None:
        if self.groups.get(group.settings.name) is group:
            key = ("group", group.settings.name)
            self._loop.call_at(key, group.next_deadline(), lambda _now: self.dispatch(group, TICK))

    def _refresh(self, now: int) -> None:
        """Renew the addresses' lifetime three times before it ends."""
        lifetime = self.plan.config.globals.address_lifetime_s * 1000 * MILLISECOND
        self._loop.call_at("lifetime", now + lifetime // 3 if lifetime else None, self._refresh, TIMER_SLACK)
        for group in list(self.groups.values()):
            self._wake(group, now)
        self._failed(self._executor.refresh())

    def _wake(self, group: SyncGroup, now: int) -> None:
        """Before addresses that are gone come back: has the group lost its role in its sleep?"""
        if group.overslept(now):
            self.dispatch(group, TICK)

    def _failed(self, failures: Iterable[EffectFailed]) -> None:
        for failure in failures:
            self._log_failure(failure)
            self.dispatch(self._group_of[failure.instance], failure)

    def _log_failure(self, failure: EffectFailed) -> None:
        key = ("effects", failure.instance, failure.reason)
        self._log.limited(key, "error", f"{failure.instance}: {failure.reason}")

    # Groups

    def _create(self, group: Group) -> SyncGroup:
        created = SyncGroup(group, self._instances(group), *self._replication(self.plan))
        created.damping = _damping(self.plan)
        if self.plan.config.globals.witness_policy == "required":
            created.ballot = UNCOUNTED
        return created

    def _instances(self, group: Group) -> list[Instance]:
        instances = {instance.name: instance for instance in self.plan.config.instances}
        return [instances[name] for name in group.members]

    def _end(self, name: str) -> None:
        group = self.groups[name]
        self.dispatch(group, Stop(at_once=True))
        self._loop.call_at(("group", name), None)
        del self.groups[name]
        for member in group.members:
            del self._group_of[member.name]
            del self.endpoints[member.name]

    def _leave(self, groups: dict[str, SyncGroup], kept: set[str]) -> None:
        """Give up the virtual routers that do not go on, and only those of a group."""
        for name, group in groups.items():
            going = [member.name for member in group.members if member.name not in kept]
            if len(going) == len(group.members):
                self._end(name)
            elif going:
                self._executor.execute(leave(group, going))
                for member in going:
                    del self._group_of[member]
                    del self.endpoints[member]

    def _succeed(self, origins: dict[str, Succession]) -> dict[str, SyncGroup]:
        """Make the groups of the new plan; return those that go on with a running group's role, by name."""
        kin = heirs(self.groups, {name: origin.heir_of for name, origin in origins.items()})
        for name in self.groups:
            self._loop.call_at(("group", name), None)
        self.groups = {
            group.name: kin.get(group.name) or self._create(group) for group in self.plan.config.groups
        }
        self._group_of.clear()
        for group in self.plan.config.groups:
            self._group_of.update(dict.fromkeys(group.members, self.groups[group.name]))
        return kin

    def _reconfigure(self, group: Group, running: SyncGroup, routers: dict[str, VirtualRouter]) -> None:
        """Give a group that goes on its new settings; `routers`: all virtual routers that run."""
        members, now = self._instances(group), self._loop.now()
        damping, wanted = running.damping, _damping(self.plan)
        if (damping.changes, damping.time) != (wanted.changes, wanted.time):
            running.damping = wanted
        self._failed(self._executor.execute(running.replicate(*self._replication(self.plan), now)))
        if (running.settings, [member.settings for member in running.members]) != (group, members):
            joining = {name: routers[name] for name in group.members if name in routers}
            sources = {name: self.endpoints[name].source for name in group.members}
            actions = reconfigure(running, group, members, now, joining, sources)
            self._failed(self._executor.execute(actions))
        else:
            for name in group.members:
                self.reinstall(name)
        self._arm(running)

    def _stale(self, plan: Plan, kept: Iterable[str]) -> list[Template]:
        """Give kept instances their new settings; return what they install now and will not any more."""
        instances = {instance.name: instance for instance in plan.config.instances}
        stale: list[Template] = []
        for name in kept:
            endpoint = self.endpoints[name]
            if endpoint.installed:
                wanted = plan.instances[name].down
                stale += [template for template in endpoint.plan.down if template not in wanted]
            endpoint.reconfigure(instances[name], plan.instances[name])
        return stale

    def _replication(self, plan: Plan) -> tuple[bool, int]:
        """Whether connections are replicated, and how long preemption waits for them, ns."""
        sync = plan.config.conntrack_sync
        if sync is None or not self._replicated:
            return False, 0
        return True, sync.preempt_sync_timeout_ms * MILLISECOND

    # Interfaces

    def _connect(self) -> None:
        """Give every endpoint the interfaces, sockets and addresses of now, and tell its group."""
        self._serve()
        self._tell_interfaces()

    def _serve(self) -> None:
        self._interfaces.serve(self.endpoints.values(), self._hearing.packets)
        by_vrid = {
            (device, endpoint.settings.family, endpoint.settings.virtual_router_id): endpoint
            for endpoint in self.endpoints.values()
            if (device := self.links.device(endpoint.settings.interface)) is not None
        }
        self._hearing.expect(by_vrid)

    def _tell_interfaces(self) -> None:
        self._hearing.sort()
        for group in list(self.groups.values()):
            for member in group.members:
                source = self.endpoints[member.name].source
                if source != member.source:
                    self.dispatch(group, SourceChanged(member.name, source))
            for event in self._tracked.news(group.tracking):
                self.dispatch(group, event)
        self._sources_changed()


def _addresses(peer: Peer) -> frozenset[bytes]:
    """The packed addresses of a peer, without the interfaces of link-local ones."""
    return frozenset(pack(path.address.partition("%")[0]) for path in peer.paths)


def _damping(plan: Plan) -> Damping:
    settings = plan.config.globals
    return Damping(settings.damping_changes, settings.damping_time_ms * MILLISECOND)
