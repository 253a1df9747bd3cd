# SPDX-License-Identifier: GPL-2.0-or-later
"""Device: makes the device of a line in the kernel, and puts the leases of its networks on it.

The device is a macvlan on the port of the line, so that the port keeps its carrier on every router, while the
MAC address that the provider knows exists on the active router only. Making it takes 2 ms. Deleting it takes
15 ms and more, for which a child process waits.

The address has the lifetime of virtual addresses, also when netifd has added it. When the daemon hangs
or dies, the kernel removes the address, and the router is silent.
"""

from __future__ import annotations

import socket
import struct

from tandem.core.lease import Lease, Lease6, Session
from tandem.core.timers import SECOND
from tandem.effects.announce import garp_frame, na_frame, request_frame
from tandem.effects.aside import Aside
from tandem.effects.netlink import Unbound, bind
from tandem.effects.rtmessages import (
    FOREVER,
    IFADDRMSG,
    IFF_UP,
    IFINFOMSG,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTMSG,
)
from tandem.effects.rtnl import PROTOCOL, Rtnl, find_neighbour
from tandem.effects.sysctl import SOLICIT, ipv6
from tandem.follow import line6, next_hops, session
from tandem.follow.acks import Acks
from tandem.nlmsg import NLM_F_CREATE, NLM_F_REPLACE, attribute, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tandem.core.lease import AnyLease
    from tandem.effects.announce import Announcer
    from tandem.effects.interfaces import Interfaces
    from tandem.effects.netlink import Failure
    from tandem.loop import Loop
    from tandem.plan.result import Template, Vmac

_REPORTS_MS = "10"
_DEL = 1  # RTM_DEL* stand behind RTM_NEW*
_IFA_LOCAL, _IFA_ADDRESS, _IFA_CACHEINFO, _IFA_PROTO = 2, 1, 6, 11  # include/uapi/linux/if_addr.h
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7  # rtnetlink.h
_RTNH_F_ONLINK, _RTN_UNICAST, _SCOPE_LINK, _RT_TABLE_MAIN = 4, 1, 253, 254
_ROUNDS = 2  # of announcements at once; the provider hears from the client soon afterwards


class Device:
    """The device of a line; `plan` has the messages of its life."""

    def __init__(self, plan: Vmac, rtnl: Rtnl, interfaces: Interfaces, announcer: Announcer) -> None:
        self.plan = plan
        self._rtnl = rtnl
        self._interfaces = interfaces
        self._announcer = announcer
        self._prepared: int | None = None  # the index of the port that is silent
        self._aside = Aside()  # deletes the device
        self._acks: Acks | None = None  # of a network with DHCP

    @property
    def index(self) -> int | None:
        """The interface index as the kernel knows it now, whatever has been notified; None: no device.

        For a name that it does not know, if_nametoindex() has the kernel start modprobe (dev_load in
        net/core/dev_ioctl.c), and waits for it.
        """
        return next((index for index, name in socket.if_nameindex() if name == self.plan.name), None)

    def prepare(self) -> list[str]:
        """Silence the port itself, which speaks no IPv6 with its own MAC address, and set it up, once."""
        index = self._interfaces.index(self.plan.base)
        if index is None or index == self._prepared:
            return []
        self._prepared = index
        base = self._interfaces.links.device(self.plan.base) or self.plan.base
        problems = self._interfaces.sysctls.hold(
            f"follow {self.plan.name}", ((ipv6(base, "disable_ipv6"), "1"),)
        )
        self.raise_port()
        return problems

    def raise_port(self) -> None:
        """Set the port up: netifd sets it down when it has nothing on it any more."""
        base = self._interfaces.links.device(self.plan.base)
        if base is not None and (index := self._interfaces.index(self.plan.base)) is not None:
            self._send([_link(base, index, IFF_UP)])

    def create(self) -> tuple[Failure, ...] | Unbound:
        """Make the device and set it up. It is deleted if that fails: a port may have its MAC address."""
        self._aside.wait()
        if self.index is not None:
            self._set("ipv6", "disable_ipv6", "0")
            return ()
        batch = bind([self.plan.create], self._interfaces.index)
        if isinstance(batch, Unbound):
            return batch
        failures = self._rtnl.send(batch)
        if not failures:
            # The address of a new lease stays when the former one of its subnet is removed.
            self._set("ipv4", "promote_secondaries", "1")
            # Nobody else has the addresses of this device: IPv6 need not ask for a second (DAD).
            self._set("ipv6", "accept_dad", "0")
            # Reports of multicast groups are repeated now, and not in the moment when the role has gone.
            for version in ("mldv1", "mldv2"):
                self._set("ipv6", f"{version}_unsolicited_report_interval", _REPORTS_MS)
            for name, value in SOLICIT:  # a next hop that no peer has told
                self._set("ipv6", name, value, "neigh")
            failures = self._send([self.plan.configure, self.plan.up])
        if failures:
            self.delete()
        return failures

    def _set(self, family: str, name: str, value: str, where: str = "conf") -> None:
        try:
            path = f"/proc/sys/net/{family}/{where}/{self.plan.name}/{name}"
            with open(path, "w", encoding="ascii") as file:
                file.write(value)
        except OSError:
            pass  # the device is not there, or the kernel has no IPv6

    def raise_device(self) -> None:
        """Set the device up."""
        self._send([self.plan.up])

    def delete(self) -> None:
        """Delete the device with all that is on it, and wait for that."""
        self._aside.wait()
        self._send([self.plan.delete])

    def begin_delete(self) -> None:
        """Delete the device without waiting for it; making it anew would wait."""
        self._aside.wait()
        try:
            self._aside.begin(self._delete_there)
        except OSError:  # no child process: the loop has to wait
            self.delete()

    def deleted(self) -> None:
        """Collect the child process of a deletion, and set the port up: netifd may have set it down."""
        if self._aside.busy:
            self._aside.answer()
        self.raise_port()

    def _delete_there(self) -> bytes:
        rtnl = Rtnl()  # the daemon goes on to use its own
        batch = bind([self.plan.delete], lambda _name: None)
        return b"" if isinstance(batch, Unbound) or rtnl.send(batch) else b"deleted"

    def hear_acks(self, loop: Loop, heard: Callable[[str, int], None]) -> None:
        """Tell `heard` each ack of the DHCP server; saying so again changes nothing. OSError: see Acks."""
        if (index := self.index) is not None:
            if self._acks is None:
                self._acks = Acks(loop, self.plan.mac.hex(":"), heard)
            self._acks.listen(self.plan.name, index)

    def place(self, lease: AnyLease, lifetime_s: int, now: int) -> tuple[Failure, ...]:
        """Put the addresses and the routes of the lease in place, and tell the provider's router."""
        index = self.index
        if index is None or isinstance(lease, Session):
            return ()
        if isinstance(lease, Lease6):
            return self._place6(lease, index, lifetime_s, now)
        messages = [*_address(lease, index, lifetime_s, now), *_routes(lease, index)]
        failures = self._send([*next_hops.place(lease, index), *messages])
        address = socket.inet_aton(lease.address)
        frames = [garp_frame(self.plan.mac, address)]
        gateways = dict.fromkeys(gateway for _, gateway in lease.routes if gateway)
        frames += [request_frame(self.plan.mac, address, socket.inet_aton(gateway)) for gateway in gateways]
        self._announcer.send(index, frames, _ROUNDS)
        return failures

    def _place6(self, lease: Lease6, index: int, lifetime_s: int, now: int) -> tuple[Failure, ...]:
        lan_index = self._interfaces.index
        messages = line6.place(lease, self.plan.mac, index, lan_index, lifetime_s, now)
        failures = self._send([*next_hops.place(lease, index), *messages])
        self._announcer.send(index, line6.frames(lease, self.plan.mac), _ROUNDS)
        for name, one in lease.lans:
            mac, lan = self._interfaces.links.mac(name), lan_index(name)
            if mac and lan is not None:
                frame = na_frame(mac, socket.inet_pton(socket.AF_INET6, one.address))
                self._announcer.send(lan, [frame], _ROUNDS)
        return failures

    def with_next_hops(self, lease: AnyLease, known: AnyLease | None) -> AnyLease:
        """Return the lease with its next hops as the kernel knows them now, or as in the one known before."""
        index = self.index
        if index is None or isinstance(lease, Session):
            return lease
        before = () if known is None or isinstance(known, Session) else known.next_hops
        return next_hops.refreshed(lease, before, lambda address: find_neighbour(index, address))

    def renew(self, lease: AnyLease, lifetime_s: int, now: int, lent: bool) -> tuple[Failure, ...]:
        """Give the addresses another lifetime; one that is `lent` has no longer one than its lease.

        Of another IPv4 address the client knows when it ends, and takes it away.
        """
        index = self.index
        if index is None or isinstance(lease, Session):  # whose address is on pppd's device
            return ()
        if isinstance(lease, Lease6):
            return self._send(line6.renew(lease, self.plan.mac, index, lifetime_s, now))
        return self._send(_address(lease, index, lifetime_s, now if lent else None))

    def keep_link_local(self, lifetime_s: int) -> tuple[Failure, ...]:
        """Give the link-local address another lifetime, with or without a lease."""
        index = self.index
        return self._send([line6.keep_link_local(self.plan.mac, index, lifetime_s)]) if index else ()

    def remove(self, lease: AnyLease, present: AnyLease | None, active: bool, now: int) -> None:
        """Take away what the lease gave and `present` does not, on a router that is active or not.

        With an IPv4 address go all routes that have it as their source. A router without the role takes all
        of IPv6 from the device: a single address would leave its multicast group, and the kernel's report of
        that would come when the other router has spoken already (net/ipv6/mcast.c: two ticks later, twice).
        """
        index = self.index
        if isinstance(lease, Lease6):
            if not active:
                self._set("ipv6", "disable_ipv6", "1")
            now6 = present if isinstance(present, Lease6) else None
            self._send(line6.remove(lease, now6, index, self._interfaces.index, active, now))
        elif isinstance(lease, Lease) and index is not None:
            address = attribute(_IFA_LOCAL, socket.inet_aton(lease.address))
            body = IFADDRMSG.pack(socket.AF_INET, lease.prefixlen, 0, 0, index) + address
            self._send([(f"address {lease.address}", request(RTM_NEWADDR + _DEL, body), ())])

    def hold(self, lease: Lease6, now: int) -> tuple[Failure, ...]:
        """Give this router, which is not active, addresses of its own in the LANs of the lease."""
        return self._send(line6.hold(lease, self._interfaces.index, self._interfaces.links.mac, now))

    def leave(self, lease: Lease6, present: AnyLease | None) -> None:
        """Take these addresses away, but for those that `present` gives too."""
        now6 = present if isinstance(present, Lease6) else None
        self._send(line6.leave(lease, now6, self._interfaces.index, self._interfaces.links.mac))

    def drop_sessions(self) -> None:
        """Set the device down for a moment, by which the kernel ends pppd's session (pppoe_flush_dev)."""
        if (index := self.index) is not None:
            self._send([_link(self.plan.name, index, 0), self.plan.up])

    def hang_up(self, lease: Session) -> None:
        """Tell the concentrator that the session has ended. Nobody says when that frame is lost: send two."""
        if (index := self.index) is not None:
            self._announcer.send(index, [session.padt(lease)], _ROUNDS)

    def release(self) -> None:
        """Delete the device and restore the port, because the network no longer follows."""
        self.delete()
        if self._acks is not None:
            self._acks.close()
            self._acks = None
        self._aside.close()
        self._interfaces.sysctls.release(f"follow {self.plan.name}")

    def _send(self, templates: Iterable[Template]) -> tuple[Failure, ...]:
        batch = bind(templates, self._interfaces.index)
        return () if isinstance(batch, Unbound) else self._rtnl.send(batch)


def _link(name: str, index: int, flags: int) -> Template:
    """Return the message that sets a device up (IFF_UP), or down (0)."""
    body = IFINFOMSG.pack(0, 0, index, flags, IFF_UP)
    return f"link {name} {'up' if flags else 'down'}", request(RTM_NEWLINK, body), ()


def sessions() -> str:
    """Return the kernel's table of the sessions of PPPoE; "": it has none."""
    try:
        with open(session.TABLE, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _address(lease: Lease, index: int, lifetime_s: int, now: int | None) -> Iterator[Template]:
    """Yield RTM_NEWADDR, which adds or refreshes the address; with `now`, it ends with the lease."""
    valid = lifetime_s or FOREVER
    if now is not None:
        valid = min(valid, max(1, (lease.until - now) // SECOND))
    packed = socket.inet_aton(lease.address)
    body = IFADDRMSG.pack(socket.AF_INET, lease.prefixlen, 0, 0, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    body += attribute(_IFA_CACHEINFO, struct.pack("=IIII", valid, valid, 0, 0))
    body += attribute(_IFA_PROTO, bytes((PROTOCOL,)))
    yield (
        f"address {lease.address}/{lease.prefixlen}",
        request(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE),
        (),
    )


def _routes(lease: Lease, index: int) -> Iterator[Template]:
    """RTM_NEWROUTE for each route; netifd's own replaces it when the client has an answer.

    Routes on the link come first: a gateway may be reached by one.
    """
    for destination, gateway in sorted(lease.routes, key=lambda route: bool(route[1])):
        address, _, length = destination.partition("/")
        scope, flags = (0, _RTNH_F_ONLINK) if gateway else (_SCOPE_LINK, 0)
        body = RTMSG.pack(
            socket.AF_INET, int(length), 0, 0, _RT_TABLE_MAIN, PROTOCOL, scope, _RTN_UNICAST, flags
        )
        if int(length):
            body += attribute(_RTA_DST, socket.inet_aton(address))
        if lease.metric:
            body += attribute(_RTA_PRIORITY, struct.pack("=I", lease.metric))
        if gateway:
            body += attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        body += attribute(_RTA_PREFSRC, socket.inet_aton(lease.address))
        body += attribute(_RTA_OIF, struct.pack("=I", index))
        yield f"route {destination}", request(RTM_NEWROUTE, body, NLM_F_CREATE), ()
