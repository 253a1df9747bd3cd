# SPDX-License-Identifier: GPL-2.0-or-later
"""Following: the networks that follow the role of their groups.

    Follow, Unfollow (promotion)  \
    netifd's word of a network      > Followed (core/follow.py) -> the kernel, netifd, the peers
    a peer's lease                /

A network on the device of another one, as wan6 on that of wan, is a `Followed` too, with a lease of its own.

netifd does the rest: when the device appears, it brings the network up with the user's own configuration, and
when the device goes, it takes the network down. The client is not told to release the lease: there is no
device left that could say so.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from tandem.core.follow import Followed, State, Step
from tandem.core.lease import Lease, Lease6, Session
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.netlink import Unbound
from tandem.effects.process import Processes
from tandem.follow import lease6, session
from tandem.follow.device import Device, sessions
from tandem.follow.lans import Lans
from tandem.follow.lease import TOPIC, end_of, from_netifd, pack, unpack
from tandem.follow.losses import Losses
from tandem.follow.shown import shown, text
from tandem.follow.tunnels import PROTO, Tunnels
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from tandem.channel.channel import Channel
    from tandem.core.follow import Action
    from tandem.core.lease import AnyLease
    from tandem.effects.announce import Announcer
    from tandem.effects.interfaces import Interfaces
    from tandem.effects.process import Exit
    from tandem.effects.rtnl import Rtnl
    from tandem.follow.losses import Lost
    from tandem.follow.takeover import Takeover
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.status_schema import FollowedNetwork

# The kernel takes 15 ms to delete a device, and the peer waits for our last records first.
DELETE_AFTER = 20 * MILLISECOND
# netifd sets the port down when it has let go of the device, and puts the addresses of a lost prefix back to
# deprecate them, some time after the device has gone.
AFTERWARDS = tuple(ms * MILLISECOND for ms in (100, 300, 1000, 3000))
FLUSH_LIMIT = 30 * SECOND
_FLUSH = f"{PACKAGE_DIR}/tandem/conntrack/flush.py"


class Following:
    """The followed networks of one plan.

    `ask(method, network)` asks netifd for "up" or "down", or for each "status" of a further network.
    `device_gone` is called when a device goes: soon afterwards, the kernel deletes the connections that it
    has masqueraded to the device's address, in a work queue of its own (netfilter/nf_nat_masquerade.c).
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        interfaces: Interfaces,
        rtnl: Rtnl,
        announcer: Announcer,
        ask: Callable[[str, str], None],
        device_gone: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._log = log
        self._interfaces = interfaces
        self._rtnl = rtnl
        self._announcer = announcer
        self._ask = ask
        self._device_gone = device_gone
        self._networks: dict[str, Followed] = {}
        self._devices: dict[str, Device] = {}  # by the network that has the port
        self._parents: dict[str, str] = {}  # network: the one on whose device it is
        self._lans = Lans(lambda name: ask("status", name))
        self._groups: dict[str, str] = {}  # network: its group
        self._lifetime_s = 0
        self._channel: Channel | None = None
        self._peers: set[str] = set()
        self._takeovers: dict[str, Takeover] = {}  # of sessions, by network, where that is wanted
        self._tellers: dict[str, str] = {}  # the peer that has told the lease that is known, by network
        self._problems: dict[str, str] = {}  # of the kernel, by network
        self._strange: dict[str, str] = {}  # of what peers tell, likewise
        self._processes: Processes | None = None
        self._tunnels = Tunnels(loop, log, self._children)
        self._losses = Losses(loop, self._restore)

    # Life

    def take_plan(self, plan: Plan, active: Iterable[str]) -> None:
        """Follow the networks of this plan; `active` are the groups that are active."""
        self._lifetime_s = plan.config.globals.address_lifetime_s
        before, roles = self._groups, set(active)
        self._groups = {name: group.name for group in plan.config.groups for name in group.follow}
        follows = {follow.name: follow for follow in plan.config.follows}
        parents = {name: follow.parent for name, follow in follows.items() if follow.parent}
        macs = {name: follows[parents.get(name, name)].mac for name in follows}
        ending: list[str] = []
        for name in before:
            gone = name not in self._groups or macs[name] != self._networks[name].mac
            moved = self._parents.get(name) != parents.get(name) or parents.get(name) in ending
            if gone or moved or self._plan_of(name) != plan.followers.get(name):
                ending.append(name)
        for name in reversed(ending):
            self._let_go(name)
        self._parents = parents
        # The network that has the port comes first: it makes the device.
        self._groups = dict(sorted(self._groups.items(), key=lambda item: item[0] in parents))
        for name, group in self._groups.items():
            if name not in self._networks:
                self._networks[name] = Followed(name, macs[name])
                if (vmac := plan.followers.get(name)) is not None:
                    self._devices[name] = Device(vmac, self._rtnl, self._interfaces, self._announcer)
            self._set_takeover(name, name in follows and follows[name].takes_over)
            if group in roles:
                self._active(name)
            else:
                self._backup(name)
        self._tunnels.take(frozenset(self._groups.keys() - self._devices.keys() - self._parents.keys()))
        self.settle_ports()

    def _plan_of(self, name: str) -> object:
        device = self._devices.get(name)
        return device and device.plan

    def _set_takeover(self, name: str, wanted: bool) -> None:
        """Take sessions of this network over from now on, or no longer; only this loads the module."""
        device = self._devices.get(name)
        wanted = wanted and device is not None
        if wanted != (name in self._takeovers) and self._networks[name].state is State.BOUND:
            self._ask("status", name)  # then the peers are told anew whether the session is open
        if not wanted and (old := self._takeovers.pop(name, None)) is not None:
            old.close()
        if not wanted or device is None:
            return
        from tandem.follow.takeover import Takeover

        def failed(stuck: bool) -> None:
            self._do(name, self._networks[name].not_taken())
            if stuck:
                device.drop_sessions()

        takeover = self._takeovers.get(name)
        if takeover is None:
            takeover = Takeover(self._loop, self._log, name, device.plan.name, self._peers, failed)
            self._takeovers[name] = takeover
            if (teller := self._tellers.get(name)) in self._peers:
                takeover.open.told(teller)
        takeover.prepare()

    def _line(self, name: str) -> Device | None:
        """Return the device that the network is on, or None if Tandem does not make it."""
        return self._devices.get(self._parents.get(name, name))

    def _let_go(self, name: str) -> None:
        """Stop following one network, and leave it as on a backup."""
        self._do(name, self._networks.pop(name).stop())
        self._loop.call_at(("follow", name), None)
        if (takeover := self._takeovers.pop(name, None)) is not None:
            takeover.close()
        for known in (self._problems, self._strange, self._tellers):
            known.pop(name, None)
        if (device := self._devices.pop(name, None)) is not None:
            device.release()

    def settle_ports(self) -> None:
        """Set up the ports and silence them; a port may have appeared, or be another device now."""
        for name, device in self._devices.items():
            for problem in device.prepare():
                self._log.limited(("follow", name), "warning", f"{name}: {problem}")

    def join(self, channel: Channel) -> None:
        """Tell this router's leases on this channel, and hear the peers' leases."""
        self._channel = channel
        channel.subscribe(TOPIC, self)
        self._tunnels.join(channel)

    def stop(self) -> None:
        """Delete the devices, because the daemon ends. The groups have been demoted before.

        The socket `rtnl` is this object's own, because others are closed by then.
        """
        for name in reversed(list(self._networks)):
            self._let_go(name)
        self._groups.clear()
        if self._processes is not None:
            self._processes.close()
        self._rtnl.close()

    # The role

    def begin(self, group: str) -> None:
        """The group is active; a second call changes nothing."""
        for name in self._of(group):
            self._active(name)

    def end(self, group: str) -> None:
        """The group is no longer active: the addresses are gone when this returns, and the devices soon."""
        for name in self._of(group):
            self._tunnels.down(name)
            self._backup(name)

    def _active(self, name: str) -> None:
        now = self._loop.now()
        network, takeover = self._networks[name], self._takeovers.get(name)
        take_over = takeover is not None and takeover.usable(network.lease, now)
        self._do(name, network.active(now, take_over))

    def _backup(self, name: str) -> None:
        network, takeover = self._networks[name], self._takeovers.get(name)
        self._do(name, network.backup(takeover is not None and takeover.leaves_open(network.state)))

    def refresh(self) -> None:
        """Renew the lifetimes of the addresses, and make a device anew that somebody has deleted."""
        now = self._loop.now()
        self.settle_ports()
        anew = {name for name, device in self._devices.items() if device.index is None}
        for name, network in self._networks.items():
            device = self._line(name)
            if device is None or network.state is State.AWAY:
                continue
            lease = network.placed
            if anew & {name, self._parents.get(name)}:
                self._create(name)
                if lease is not None and lease.valid(now):
                    self._report(name, device.place(lease, self._lifetime_s, now))
            elif lease is not None:
                self._report(name, self._renewed(network, device, lease))
                self._look_at_next_hops(name, network, device)
            elif name in self._parents:
                self._report(name, device.keep_link_local(self._lifetime_s))

    def _look_at_next_hops(self, name: str, network: Followed, device: Device) -> None:
        """Tell the peers when a gateway of the lease has another MAC address, or the first one."""
        if network.state is State.BOUND and self._peers and (lease := network.lease) is not None:
            present = device.with_next_hops(lease, lease)
            if present != lease:
                self._do(name, network.up(present))

    def _of(self, group: str) -> list[str]:
        return [name for name, owner in self._groups.items() if owner == group]

    # netifd

    def status(self, name: str, status: Mapping[str, Any], fresh: bool) -> None:
        """Handle the status of a network that netifd has sent; `fresh`: something has just happened."""
        now = self._loop.now()
        network = self._networks.get(name)
        if network is None:
            if self._lans.change(name, lease6.lan_addresses(name, status)):
                self._lans_changed()
            if name in self._lans and status.get("up") is True:
                self._lan_up(name)
            return
        if status.get("up") is not True:
            self._tunnels.down(name)
            self._do(name, network.down())
            return
        known, line = network.lease, self._line(name)
        if status.get("proto") == session.PROTO and line is not None:
            found = session.from_netifd(name, network.mac, status, line.plan.name, sessions())
            if found is not None and name in self._takeovers:
                found = replace(found, open=True)
            self._do(name, network.up(found))
            return
        lease = from_netifd(name, network.mac, status, now, fresh)
        if isinstance(lease, Lease6):
            self._lans.learn(lease6.lan_names(status), self._networks)
            lease = self._lans.added(lease, known)
        elif isinstance(lease, Lease):
            lease = _with_end(lease, network, fresh)
        if line is not None and lease is not None:
            lease = line.with_next_hops(lease, known)
        self._do(name, network.up(lease))
        if isinstance(lease, Lease) and line is not None and network.state is State.BOUND:
            self._hear_acks(name, line)
        if status.get("proto") == PROTO and network.state is State.BOUND:
            self._tunnels.up(name, str(status.get("l3_device")))

    def _hear_acks(self, name: str, device: Device) -> None:
        """Learn of each renewal of the lease, of which netifd says nothing."""

        def heard(address: str, seconds: int) -> None:
            network = self._networks.get(name)
            if network is None or network.state is not State.BOUND:
                return
            lease, now = network.lease, self._loop.now()
            if isinstance(lease, Lease) and lease.address == address:
                self._do(name, network.up(replace(lease, until=end_of(seconds, now))))

        try:
            device.hear_acks(self._loop, heard)
        except OSError as error:
            self._problem(name, f"renewals of the lease can't be heard: {error.strerror}")

    def _lans_changed(self) -> None:
        """Tell the peers the addresses that the router's own networks have now of delegated prefixes."""
        for name, network in self._networks.items():
            lease = network.lease
            if network.state is State.BOUND and isinstance(lease, Lease6):
                self._do(name, network.up(self._lans.added(lease, lease)))

    def _lan_up(self, lan: str) -> None:
        """Have this router's own address in a network that has come up, or that has a device now."""
        for name, network in self._networks.items():
            held = network.held
            if isinstance(held, Lease6) and any(lan == one for one, _ in held.lans):
                self._do(name, network.told(held, self._loop.now()))

    # Peers

    def peer_opened(self, peer: str) -> None:
        """Tell a peer that now has a session the leases of this router's networks."""
        self._peers.add(peer)
        for name, network in self._networks.items():
            if network.state is State.BOUND:
                self._send(peer, name)

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has ended."""
        self._peers.discard(peer)
        for takeover in self._takeovers.values():
            takeover.open.closed(peer, self._loop.now())

    def received(self, peer: str, data: bytes) -> None:
        """Take the leases of a peer that is active."""
        now = self._loop.now()
        try:
            leases = unpack(data, now)
        except ValueError:
            self._log.limited(("follow", peer), "warning", f"follow: {peer} sent something that is no lease")
            return
        for name, lease in leases.items():
            if (network := self._networks.get(name)) is None:
                continue
            refused = network.refused
            if isinstance(lease, Lease6):
                self._lans.learn((lan for lan, _ in lease.lans), self._networks)
            self._do(name, network.told(lease, now))
            if lease is not None and network.lease is lease:
                self._tellers[name] = peer
                if name in self._takeovers:
                    self._takeovers[name].open.told(peer)
            if lease is not None and network.refused != refused:
                self._strange[name] = f"{peer} has the MAC address {lease.mac}, and this router {network.mac}"
            elif lease is not None:
                self._strange.pop(name, None)

    def _send(self, peer: str, name: str) -> None:
        if self._channel is not None:
            self._channel.send(peer, TOPIC, pack({name: self._networks[name].lease}, self._loop.now()))

    # Steps

    def _do(self, name: str, actions: Sequence[Action]) -> None:
        now = self._loop.now()
        network, device = self._networks.get(name), self._line(name)
        for step, lease in actions:
            match step:
                case Step.CREATE if device is not None:
                    self._create(name)
                case Step.PLACE if device is not None and lease is not None:
                    self._report(name, device.place(lease, self._lifetime_s, now))
                    self._log.info(f"{name}: {text(lease, now)} of the peer is in place")
                case Step.REMOVE if device is not None and lease is not None:
                    self._remove(name, device, lease)
                case Step.DELETE | Step.RELEASE if name in self._parents:
                    pass  # the network goes with the device
                case Step.DELETE if device is not None:
                    self._device_gone()
                    when = now + DELETE_AFTER
                    self._loop.call_at(("follow delete", name), when, lambda _now: self._delete(name, device))
                case Step.TAKE_OVER if isinstance(lease, Session):
                    if self._takeovers[name].begin(lease):
                        self._ask("status", name)  # nothing has changed for netifd, which says nothing then
                case Step.HANG_UP if device is not None and isinstance(lease, Session):
                    device.hang_up(lease)
                    if name in self._takeovers:
                        self._takeovers[name].open.ended()
                case Step.ASK:
                    self._ask("up", name)
                case Step.DELETE | Step.RELEASE:  # without a device of ours, netifd takes its own down
                    self._ask("down", name)
                case Step.TELL if network is not None:
                    if device is not None and network.placed is not None:  # netifd's has no lifetime
                        self._report(name, self._renewed(network, device, network.placed))
                    if lease is not None:
                        self._log.change(("follow", name), "info", f"{name}: {text(lease, now)}")
                    for peer in self._peers:
                        self._send(peer, name)
                case Step.HOLD if device is not None and isinstance(lease, Lease6):
                    self._report(name, device.hold(lease, now))
                case Step.LEAVE if device is not None and isinstance(lease, Lease6):
                    device.leave(lease, network.held if network is not None else None)
                case Step.FLUSH if isinstance(lease, (Lease, Session)):
                    self._flush(name, lease)
        if network is not None and network.state is not State.TAKING and name in self._takeovers:
            self._takeovers[name].end()
        if network is not None:
            self._loop.call_at(("follow", name), network.next_deadline(), lambda now: self._due(name, now))
        networks = self._networks.items()
        self._losses.listen(any(one.state is State.LENT and self._line(name) for name, one in networks))

    def _renewed(self, network: Followed, device: Device, lease: AnyLease) -> Sequence[object]:
        """Give the addresses in place another lifetime, and return what the kernel has refused."""
        lent = network.state is State.LENT
        return device.renew(lease, self._lifetime_s, self._loop.now(), lent)

    def _restore(self, lost: Lost) -> int:
        """Put the lent leases that are not whole any more back into place; return how many."""
        restored = 0
        for name, network in self._networks.items():
            device, lease = self._line(name), network.placed
            if device is None or lease is None or network.state is not State.LENT:
                continue
            if (device.index, type(lease)) in lost:
                restored += 1
                device.raise_device()
                self._report(name, device.place(lease, self._lifetime_s, self._loop.now()))
        return restored

    def _due(self, name: str, now: int) -> None:
        self._do(name, self._networks[name].due(now))

    def _create(self, name: str) -> None:
        """Make the device of a network that has the port, or give its link-local address to one on it."""
        if name in self._parents:
            if (line := self._line(name)) is not None:
                self._report(name, line.keep_link_local(self._lifetime_s))
            return
        self._loop.call_at(("follow delete", name), None)
        found = self._devices[name].create()
        if isinstance(found, Unbound):
            self._problem(name, f"there is no interface {', '.join(found.missing)}")
        else:
            self._report(name, found)

    def _delete(self, name: str, device: Device) -> None:
        """Delete the device, whose addresses are gone already."""
        device.begin_delete()
        now = self._loop.now()
        for number, pause in enumerate(AFTERWARDS):
            self._loop.call_at(("follow port", name, number), now + pause, lambda _now: device.deleted())

    def _remove(self, name: str, device: Device, lease: AnyLease) -> None:
        """Take the lease away; on a backup, its addresses in the router's networks again and again."""
        now = self._loop.now()
        network = self._networks.get(name)
        active = network is not None and network.state is not State.AWAY
        device.remove(lease, network.placed if active and network is not None else None, active, now)
        if active or network is None or not (isinstance(lease, Lease6) and lease.lans):
            return

        def again(now: int) -> None:
            if network.state is State.AWAY:
                device.remove(lease, None, False, now)

        for number, pause in enumerate(AFTERWARDS):
            self._loop.call_at(("follow remove", name, number), now + pause, again)

    def _children(self) -> Processes:
        if self._processes is None:
            self._processes = Processes(self._loop, self._log, limit=8)
        return self._processes

    def _flush(self, name: str, lease: Lease | Session) -> None:
        self._log.info(f"{name}: {lease.address} is lost: its connections end")

        def ended(result: Exit) -> None:
            if not result.ok:
                self._log.warning(f"{name}: the connections of {lease.address} are not ended: {result}")

        self._children().start([sys.executable, "-IS", _FLUSH, lease.address], FLUSH_LIMIT, ended)

    # For people

    @property
    def trouble(self) -> list[str]:
        """Return what is wrong, one text for each network."""
        return [f"{name}: {problem}" for name in self._networks if (problem := self._trouble_of(name))]

    def _trouble_of(self, name: str) -> str | None:
        takeover = self._takeovers.get(name)
        why_not = takeover.problem if takeover is not None else None
        return self._problems.get(name) or self._strange.get(name) or why_not

    def networks(self) -> list[FollowedNetwork]:
        """Return the status of each network."""
        now = self._loop.now()
        return [
            shown(
                network,
                self._groups[name],
                device.plan if (device := self._line(name)) is not None else None,
                self._trouble_of(name),
                now,
            )
            for name, network in self._networks.items()
        ]

    def _report(self, name: str, failures: Sequence[object]) -> None:
        if failures:
            self._problem(name, str(failures[0]))
        else:
            self._problems.pop(name, None)

    def _problem(self, name: str, text: str) -> None:
        self._problems[name] = text
        self._log.limited(("follow", name), "error", f"{name}: {text}")


def _with_end(lease: Lease, network: Followed, fresh: bool) -> Lease:
    """Return the lease that netifd tells with the best that is known of its end: acks tell of renewals."""
    known = network.lease
    if not isinstance(known, Lease) or lease.parts != known.parts:
        return lease
    if network.state is State.BOUND:
        return replace(lease, until=known.until)
    return lease if fresh else max(lease, known, key=lambda one: one.until)
