# SPDX-License-Identifier: GPL-2.0-or-later
"""Sharing: starts and ends everything that a router shares with its peers, as far as it is configured.

The channel to the peers belongs to this module. A router shares its connections (replication), the leases of
DHCP, the facts of `tandem doctor`, its roles and the sources of its adverts; each of them works without the
others. The networks that follow the role belong here too, and need no channel. None of these decides the
role: when the kernel cannot replicate, the gateway works without replication, and `health` says what is
missing.
"""

from __future__ import annotations

from tandem.control.step import step
from tandem.core.actions import Transition
from tandem.dhcp.restart import Restarts
from tandem.effects.guard import Guard, clear_guard
from tandem.effects.rtnl import Rtnl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tandem.channel.channel import Channel
    from tandem.channel.events import Event
    from tandem.channel.peer_link import Peer
    from tandem.channel.vrrp_sources import VrrpSources
    from tandem.control.peer_roles import PeerRoles
    from tandem.control.server import Reply
    from tandem.core.actions import GroupTransition
    from tandem.core.quorum import Presence
    from tandem.core.strangers import Source
    from tandem.dhcp.gateway import Gateway
    from tandem.doctor.exchange import Exchange
    from tandem.effects.announce import Announcer
    from tandem.effects.executor import Executor
    from tandem.effects.interfaces import Interfaces
    from tandem.effects.nftables import Nftables
    from tandem.follow.following import Following
    from tandem.heartbeats import Heartbeats
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.replication.replication import Replication
    from tandem.router import Router
    from tandem.status_schema import KnownPeer
    from tandem.upgrade.exchange import Exchange as Upgrades

    Send = Callable[[str, bytes], bool]

NO_ORDERS = "its `option allow_upgrade` is 0, it has no secret, or its release is older than `tandem upgrade`"


class Sharing:
    """Starts, changes and ends the parts.

    `make_doctor(send)` is called when the doctor has a channel, and `make_upgrades(send, permits)` when a
    router may order an upgrade. `states` gives the groups' states, `lives(peer, alive)` gets the verdicts of
    heartbeats.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        executor: Executor,
        interfaces: Interfaces,
        nftables: Nftables,
        router: Router,
        make_doctor: Callable[[Send], Exchange],
        make_upgrades: Callable[[Send, Callable[[str], bool]], Upgrades],
        states: Callable[[], dict[str, str]],
        announcer: Announcer,
        ask_netifd: Callable[[str, str], None],
        lives: Callable[[str, bool], None],
    ) -> None:
        self.channel: Channel | None = None
        self.replication: Replication | None = None
        self.doctor: Exchange | None = None
        self.dhcp: Gateway | None = None
        self._upgrades: Upgrades | None = None
        self.following: Following | None = None
        self._peer_roles: PeerRoles | None = None
        self._vrrp_sources: VrrpSources | None = None
        self.heartbeats: Heartbeats | None = None
        self._loop = loop
        self._log = log
        self._executor = executor
        self._interfaces = interfaces
        self._nftables = nftables
        self._router = router
        self._make_doctor = make_doctor
        self._make_upgrades = make_upgrades
        self._states = states
        self._announcer = announcer
        self._ask_netifd = ask_netifd
        self._lives = lives
        self._dnsmasq = Restarts(loop, log)
        self._lacking = ""  # why connections are not replicated though they should be
        self._dhcp_of: object = None  # the settings and the channel that DHCP was started with

    # Life

    def start(self, plan: Plan) -> None:
        """Start all configured parts; the router does not run yet."""
        self.prepare(plan)
        self.settle(plan)

    def prepare(self, plan: Plan) -> None:
        """Start or change the channel and replication before the groups change; `settle` ends them."""
        self._lacking = ""
        if not (peers := self._peers(plan)):
            return
        fresh = self.channel is None
        channel = self.channel or self._make_channel(peers)
        if plan.config.conntrack_sync is not None and self.replication is None:
            try:
                self.replication = self._replicate(plan, channel)
            except OSError as error:
                self._lacking = str(error)
                self._log.error(f"connections are not replicated: {error}")
        if plan.config.globals.allow_upgrade:
            self._take_orders(channel)
        if fresh:
            channel.start()
        else:
            self.follow_devices(plan)

    def settle(self, plan: Plan) -> None:
        """End the parts that `plan` lacks, and change DHCP, after the groups have followed `plan`."""
        channel = self.channel
        if channel is not None and not self._peers(plan):
            self._end_heartbeats()
            self._end_replication(channel.close) if self.replication is not None else channel.close()
            self.channel = self._peer_roles = self._vrrp_sources = self._upgrades = None
            if self.doctor is not None:
                self.doctor.close()
                self.doctor = None
        elif channel is not None:
            self._beat(plan, channel)
            if plan.config.conntrack_sync is None and (replication := self.replication) is not None:
                self._end_replication(lambda: channel.leave(replication))
        wanted = (plan.config.dhcp_gateway, plan.leases, self.channel)
        if wanted != self._dhcp_of:
            if self.dhcp is not None:
                self.dhcp.stop() if plan.leases is not None else self.dhcp.release()
            self.dhcp = self._follow_dhcp(plan)
            self._dhcp_of = wanted
        self._follow_networks(plan)

    def _beat(self, plan: Plan, channel: Channel) -> None:
        """Start, change or end the heartbeats."""
        settings = plan.config.globals
        if not settings.heartbeat_interval_ms or all(peer.insecure for peer in plan.config.peers):
            self._end_heartbeats()
        elif self.heartbeats is not None:
            self.heartbeats.reload(settings)
        else:
            from tandem.heartbeats import Heartbeats

            self.heartbeats = Heartbeats(
                self._loop, self._log, channel, self._router, self._interfaces.links, settings,
                lambda: self.replication is not None and bool(self.replication.stale), self._lives,
            )  # fmt: skip
            self.heartbeats.start()

    def _end_heartbeats(self) -> None:
        heartbeats, self.heartbeats = self.heartbeats, None
        if heartbeats is not None:
            heartbeats.close()

    def _end_replication(self, stopped: Callable[[], None]) -> None:
        assert self.replication is not None  # the caller has checked it
        replication, self.replication = self.replication, None
        self._executor.take_connections(None)
        replication.stop(stopped)

    def network_changed(self, name: str, status: Mapping[str, object], fresh: bool) -> None:
        """Pass on netifd's word of a network that follows the role."""
        if self.following is not None:
            self.following.status(name, status, fresh)

    def _device_gone(self) -> None:
        """A device goes, and with it the connections that the kernel has masqueraded to its address."""
        if self.replication is not None:
            self.replication.device_gone()

    def follow_devices(self, plan: Plan) -> None:
        """Let the running parts have the settings of `plan`, with the devices of now."""
        if self.channel is not None and (peers := self._peers(plan)):
            self.channel.reload(peers)
        if self.following is not None:
            self.following.settle_ports()
        settings = plan.config.conntrack_sync
        if self.replication is not None and settings is not None:
            self.replication.reload(settings)

    def stop(self, ended: Callable[[], None]) -> None:
        """End all parts; `ended` is called once, now or later, when the last part has ended."""
        waits: list[Callable[[Callable[[], None]], None]] = [self._dnsmasq.finish]
        if self.channel is not None:
            waits.append(self._stop_channel)
        left = len(waits)

        def one_ended() -> None:
            nonlocal left
            left -= 1
            if not left:
                if self.following is not None:
                    self.following.stop()  # it takes long, and the peers wait for our last records
                ended()

        if self.dhcp is not None:
            self.dhcp.stop()
        if self.doctor is not None:
            self.doctor.close()
        self._end_heartbeats()
        for wait in waits:
            wait(one_ended)

    def _stop_channel(self, stopped: Callable[[], None]) -> None:
        channel = self.channel
        assert channel is not None  # the caller has checked it

        def end() -> None:
            channel.close()
            stopped()

        self.replication.stop(end) if self.replication is not None else end()

    # News

    def told(self, transition: Transition | GroupTransition) -> None:
        """Pass on that an instance or a group has changed its state."""
        if isinstance(transition, Transition):
            name = transition.instance
            if self.replication is not None:
                self.replication.role(name, transition.state)
            if self.dhcp is not None:
                self.dhcp.role(name, transition.state)
        else:
            name = transition.group
        if self._peer_roles is not None and name in self._router.groups:
            self._peer_roles.tell(name, transition.state)

    def sources_changed(self) -> None:
        """Tell the peers the sources of this router's adverts, which may have changed."""
        if self._vrrp_sources is not None:
            self._vrrp_sources.tell()
        if self.heartbeats is not None:
            self.heartbeats.changed()

    def check_gate(self) -> None:
        """Let the gate check its rules, because another program has changed nftables."""
        if self.replication is not None:
            self.replication.check_gate()

    # For people

    @property
    def health(self) -> dict[str, list[str]]:
        """The problems of the parts, each with its details."""
        found: dict[str, list[str]] = {}
        if self._lacking:
            found["replication_missing"] = [self._lacking]
        if self.replication is not None and self.replication.stale:
            found["replication_stale"] = self.replication.stale
        if self.replication is not None and (unkept := self.replication.unkept):
            found["guarantee"] = unkept
        if self.dhcp is not None and self.dhcp.trouble:
            found["dhcp"] = [self.dhcp.trouble]
        if self.following is not None and (trouble := self.following.trouble):
            found["follow"] = trouble
        return found

    def presence(self, name: str) -> Presence:
        """Return whether a peer is there, and the states of its groups, by heartbeats where it sends them."""
        if self.heartbeats is not None and (found := self.heartbeats.presence(name)) is not None:
            return found
        neighbour = self._router.neighbours.get(name)
        link = self.channel.links.get(name) if self.channel is not None else None
        if neighbour is None or link is None:
            return False, {}, 0, False
        return neighbour.connected, neighbour.states or {}, link.settings.heartbeat, neighbour.connected

    def peers(self) -> list[KnownPeer]:
        """Return what is known of each peer."""
        found: list[KnownPeer] = []
        for name, link in self.channel.links.items() if self.channel is not None else ():
            status, neighbour = link.status(), self._router.neighbours.get(name)
            connected = status["state"] == "up"
            roles = dict(neighbour.states or {}) if neighbour is not None and connected else {}
            connections = "off" if self.replication is None else step(status)
            heartbeats = None if self.heartbeats is None else self.heartbeats.status(name)
            found.append(
                {
                    "name": name,
                    "connected": connected,
                    "roles": roles,
                    "heartbeats": heartbeats,
                    "connections": connections,
                }
            )
        return found

    def replicating(self) -> Replication:
        """Return the running replication. ValueError: connections are not replicated."""
        if self.replication is None:
            why = self._lacking or "there is no conntrack_sync section"
            raise ValueError(f"connections are not replicated: {why}")
        return self.replication

    def upgrade_peer(self, peer: str, order: str, reply: Reply) -> None:
        """Ask a peer how far its upgrade is, and give it an order. ValueError: it takes none."""
        if self.channel is None or peer not in self.channel.links:
            raise ValueError(f"there is no channel to {peer!r}")
        if not self.channel.is_up(peer):
            raise ValueError(f"{peer} can't be reached")
        if not self.channel.obeys(peer):
            raise ValueError(f"{peer} takes no orders: {NO_ORDERS}")
        self._take_orders(self.channel).ask(peer, order, reply)

    # The parts

    def _take_orders(self, channel: Channel) -> Upgrades:
        """Subscribe to the topic of upgrades; only this loads its module."""
        if self._upgrades is None:
            from tandem.upgrade.exchange import TOPIC

            self._upgrades = self._make_upgrades(
                lambda peer, data: channel.send(peer, TOPIC, data),
                lambda peer: channel.links[peer].settings.upgrades,
            )
            channel.subscribe(TOPIC, self._upgrades)
        return self._upgrades

    def _happened(self, peer: str, event: Event) -> None:
        """Tell the router about a session that no connections are replicated over."""
        from tandem.channel.events import of_neighbour

        if (news := of_neighbour(event)) is not None:
            self._router.neighbour(peer, news)

    def _peer_sources(self, peer: str, sources: tuple[Source, ...]) -> None:
        """Pass a peer's sources on; sources from a peer without a secret decide nothing about strangers."""
        trusted = self.channel is not None and not self.channel.links[peer].settings.insecure
        self._router.peer_sources(peer, sources, trusted)

    def _masters(self) -> list[str]:
        return [
            member.settings.name
            for group in self._router.groups.values()
            if group.state == "MASTER"
            for member in group.members
        ]

    def _peers(self, plan: Plan) -> list[Peer]:
        """Return the routers that `plan` has a channel to, on the devices of now."""
        if not plan.config.peers:
            return []
        from tandem.peers import of_config

        return of_config(plan.config, self._interfaces.links.device)

    def _make_channel(self, peers: list[Peer]) -> Channel:
        """Make the channel; only this loads its modules, so that routers without it save the memory."""
        from tandem.channel.channel import Channel
        from tandem.channel.vrrp_sources import TOPIC as SOURCES
        from tandem.channel.vrrp_sources import VrrpSources
        from tandem.control.peer_roles import TOPIC as ROLES
        from tandem.control.peer_roles import PeerRoles
        from tandem.doctor.exchange import TOPIC as DOCTOR

        self.channel = channel = Channel(self._loop, self._log, peers, self._happened)
        self.doctor = self._make_doctor(lambda peer, data: channel.send(peer, DOCTOR, data))
        channel.subscribe(DOCTOR, self.doctor)
        self._peer_roles = PeerRoles(
            self._states, lambda peer, data: channel.send(peer, ROLES, data), self._router.neighbours.say
        )
        channel.subscribe(ROLES, self._peer_roles)
        self._vrrp_sources = VrrpSources(
            self._router.sources, lambda peer, data: channel.send(peer, SOURCES, data), self._peer_sources
        )
        channel.subscribe(SOURCES, self._vrrp_sources)
        return channel

    def _replicate(self, plan: Plan, channel: Channel) -> Replication:
        """Start replication; only this loads its modules."""
        settings = plan.config.conntrack_sync
        assert settings is not None  # the caller has checked it
        from tandem.replication.replication import Replication

        replication = Replication(
            self._loop,
            self._log,
            channel,
            settings,
            self._interfaces.sysctls,
            self._interfaces.local_addresses,
            self._router.restored,
            self._router.synchronised,
            self._router.neighbour,
            self._router.reunited,
        )
        try:
            replication.start()
        except OSError:
            replication.stop(lambda: channel.leave(replication))
            raise
        self._executor.take_connections(replication)
        for name in self._masters():
            replication.role(name, "MASTER")
        return replication

    def _follow_dhcp(self, plan: Plan) -> Gateway | None:
        """Start DHCP that follows the role if it is configured; otherwise remove an old daemon's table."""
        settings = plan.config.dhcp_gateway
        if settings is None or plan.leases is None:
            clear_guard(plan.guard)
            self._executor.take_guard(None)
            return None
        from tandem.dhcp.gateway import Gateway

        guard = self._executor.guard or Guard(self._nftables)
        guard.hold(plan.guard)
        self._executor.take_guard(guard)
        gateway = Gateway(self._loop, self._log, settings, plan.leases, guard, self._dnsmasq)
        gateway.start(self._masters())
        if self.channel is not None and settings.replicate:
            gateway.exchange.join(self.channel)
        return gateway

    def _follow_networks(self, plan: Plan) -> None:
        """Let the networks of `plan` follow their groups; only this loads the modules."""
        if self.following is None and not plan.config.follows:
            return
        from tandem.follow.following import Following

        if self.following is None:
            self.following = Following(
                self._loop, self._log, self._interfaces, Rtnl(), self._announcer, self._ask_netifd,
                self._device_gone,
            )  # fmt: skip
            self._executor.take_following(self.following)
        if self.channel is not None:
            self.following.join(self.channel)
        active = [name for name, state in self._states().items() if state == "MASTER"]
        self.following.take_plan(plan, active)
