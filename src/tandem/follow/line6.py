# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages and frames by which an IPv6 lease is in place: on the line, and in the router's own networks.

The link-local address of the line is the next hop of the delegated prefixes, so it moves like an address of
the lease. Addresses on the line have the lifetime of virtual addresses at most: a router whose daemon has
died answers for none of them. Those in the router's own networks have the lifetimes of their prefix, because
a router advertisement daemon announces these. A router without the role has an address of its own there: as a
/128, which such a daemon passes by (core/prefix.py), with a route to the other hosts of the prefix.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from socket import AF_INET6, inet_ntop, inet_pton

from tandem.core.lease import Lent, Route6
from tandem.core.timers import SECOND
from tandem.effects.announce import na_frame, request_frame
from tandem.effects.rtmessages import FOREVER, IFADDRMSG, RTM_NEWADDR, RTM_NEWROUTE, RTMSG
from tandem.effects.rtnl import PROTOCOL
from tandem.nlmsg import NLM_F_CREATE, NLM_F_REPLACE, attribute, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tandem.core.lease import Lease6
    from tandem.plan.result import Template

    IndexOf = Callable[[str], int | None]  # of the device of a network
    MacOf = Callable[[str], bytes | None]  # likewise

_DEL = 1  # RTM_DEL* stand behind RTM_NEW*
_IFA_ADDRESS, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 6, 8, 11  # include/uapi/linux/if_addr.h
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x2, 0x200
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_EXPIRES = 1, 2, 4, 5, 6, 23  # rtnetlink.h
_RTN_UNICAST, _RT_TABLE_MAIN = 1, 254
_DEPRECATED_S = 7200  # RFC 7084, L-14: how long hosts hear that a prefix is no longer to be used


def link_local(mac: bytes) -> str:
    """Return the link-local address that the kernel makes of a MAC address (RFC 4291, appendix A)."""
    packed = b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return inet_ntop(AF_INET6, packed)


def place(
    lease: Lease6, mac: bytes, index: int, lan_index: IndexOf, lifetime_s: int, now: int
) -> Iterator[Template]:
    """Yield the messages that put everything in place; what has expired is left out."""
    yield from renew(lease, mac, index, lifetime_s, now)
    for name, one in lease.lans:
        if (lan := lan_index(name)) is not None and one.valid(now):
            yield _address(one, lan, FOREVER, now)
    # A gateway may be reached by a route on the link.
    for route in sorted(lease.routes, key=lambda route: bool(route.gateway)):
        if route.valid(now):
            yield _route(route, index, route.left_s(now))


def renew(lease: Lease6, mac: bytes, index: int, lifetime_s: int, now: int) -> Iterator[Template]:
    """Yield the messages that give the addresses of the line another lifetime."""
    yield keep_link_local(mac, index, lifetime_s)
    for one in lease.addresses:
        if one.valid(now):
            # The provider says which destinations are on the link: they are among the routes.
            yield _address(one, index, lifetime_s or FOREVER, now, _IFA_F_NOPREFIXROUTE)


def keep_link_local(mac: bytes, index: int, lifetime_s: int) -> Template:
    """Return the message that gives the link-local address, and another lifetime."""
    lifetime = lifetime_s or FOREVER
    return _write(link_local(mac), 64, index, lifetime, lifetime)


def remove(
    lease: Lease6, present: Lease6 | None, index: int | None, lan_index: IndexOf, active: bool, now: int
) -> Iterator[Template]:
    """Yield the messages that take away what `present` does not have as well; None: it has nothing.

    On an active router, hosts must hear that a prefix is lost: its addresses stay in the router's networks,
    deprecated.
    """
    kept = present.parts if present is not None else frozenset()
    for one in lease.addresses:
        if index is not None and (one.address, one.length) not in kept:
            yield _delete(one, index)
    lans = {one.address for _, one in present.lans} if present is not None else set()
    for name, one in lease.lans:
        if (lan := lan_index(name)) is None or one.address in lans:
            continue
        if active and one.valid(now):
            until = min(one.until, now + _DEPRECATED_S * SECOND)
            yield _address(replace(one, preferred=now, until=until), lan, FOREVER, now)
        else:
            yield _delete(one, lan)
    routes = {_key(route) for route in present.routes} if present is not None else set()
    for route in lease.routes:
        if index is not None and _key(route) not in routes:
            yield _route(route, index, 0)


def hold(lease: Lease6, lan_index: IndexOf, lan_mac: MacOf, now: int) -> Iterator[Template]:
    """Yield the messages that give a router without the role its own addresses, and refresh them."""
    for name, one, address in _own(lease, lan_mac):
        if (lan := lan_index(name)) is not None and one.valid(now):
            yield _address(replace(one, address=address, length=128), lan, FOREVER, now)
            yield _route(_on_link(one), lan, one.left_s(now))


def leave(lease: Lease6, present: Lease6 | None, lan_index: IndexOf, lan_mac: MacOf) -> Iterator[Template]:
    """Yield the messages that take away what `hold` gives of the lease and not of `present`."""
    kept = set() if present is None else {(n, a, one.length) for n, one, a in _own(present, lan_mac)}
    for name, one, address in _own(lease, lan_mac):
        if (lan := lan_index(name)) is not None and (name, address, one.length) not in kept:
            yield _delete(replace(one, address=address, length=128), lan)
            yield _route(_on_link(one), lan, 0, PROTOCOL)


def _own(lease: Lease6, lan_mac: MacOf) -> Iterator[tuple[str, Lent, str]]:
    """Yield the network, an address in it that moves with the role, and the one of this router's own.

    The latter has the interface identifier that the kernel makes of the MAC address (RFC 4291, appendix A),
    so that it is another one on each router, and stays. It needs a prefix of 64 bits or less. `option
    ip6ifaceid 'eui64'` has netifd make the same address: then it may be the one that moves.
    """
    moving = {one.address for _, one in lease.lans}
    for name, one in lease.lans:
        if one.length <= 64 and (mac := lan_mac(name)):
            packed = inet_pton(AF_INET6, one.address)[:8] + inet_pton(AF_INET6, link_local(mac))[8:]
            if (address := inet_ntop(AF_INET6, packed)) not in moving:
                yield name, one, address


def _on_link(one: Lent) -> Route6:
    number = int.from_bytes(inet_pton(AF_INET6, one.address), "big") >> (128 - one.length)
    network = inet_ntop(AF_INET6, (number << (128 - one.length)).to_bytes(16, "big"))
    return Route6(f"{network}/{one.length}", "", "", 0, one.until)


def frames(lease: Lease6, mac: bytes) -> list[bytes]:
    """Return what tells the provider's routers and switches where the addresses of the line are now."""
    own = inet_pton(AF_INET6, link_local(mac))
    addresses = [own, *(inet_pton(AF_INET6, one.address) for one in lease.addresses)]
    gateways = dict.fromkeys(inet_pton(AF_INET6, one.gateway) for one in lease.routes if one.gateway)
    return [*(na_frame(mac, one) for one in addresses), *(request_frame(mac, own, one) for one in gateways)]


def _key(route: Route6) -> tuple[str, str, str, int]:
    return route.destination, route.gateway, route.source, route.metric


def _address(one: Lent, index: int, lifetime_s: int, now: int, flags: int = 0) -> Template:
    valid = min(lifetime_s, one.left_s(now))
    preferred = min(valid, max(0, (one.preferred - now) // SECOND))
    return _write(one.address, one.length, index, preferred, valid, flags)


def _write(address: str, length: int, index: int, preferred_s: int, valid_s: int, flags: int = 0) -> Template:
    """RTM_NEWADDR that adds or refreshes. Nobody else has the address: there is no need to ask (DAD)."""
    body = IFADDRMSG.pack(AF_INET6, length, 0, 0, index)
    body += attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD | flags))
    body += attribute(_IFA_ADDRESS, inet_pton(AF_INET6, address))
    body += attribute(_IFA_CACHEINFO, struct.pack("=IIII", preferred_s, valid_s, 0, 0))
    body += attribute(_IFA_PROTO, bytes((PROTOCOL,)))
    return f"address {address}/{length}", request(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE), ()


def _delete(one: Lent, index: int) -> Template:
    body = IFADDRMSG.pack(AF_INET6, one.length, 0, 0, index)
    body += attribute(_IFA_ADDRESS, inet_pton(AF_INET6, one.address))
    return f"address {one.address}/{one.length}", request(RTM_NEWADDR + _DEL, body), ()


def _route(route: Route6, index: int, expires_s: int, owner: int = 0) -> Template:
    """RTM_NEWROUTE; netifd's own replaces it when the client has an answer.

    0 seconds: RTM_DELROUTE of a route of `owner`, a protocol number; 0: of any, netifd's too.
    """
    (address, length), (source, source_length) = (_split(text) for text in (route.destination, route.source))
    protocol = PROTOCOL if expires_s else owner
    body = RTMSG.pack(AF_INET6, length, source_length, 0, _RT_TABLE_MAIN, protocol, 0, _RTN_UNICAST, 0)
    if length:
        body += attribute(_RTA_DST, address)
    if source_length:
        body += attribute(_RTA_SRC, source)
    if route.metric:
        body += attribute(_RTA_PRIORITY, struct.pack("=I", route.metric))
    if route.gateway:
        body += attribute(_RTA_GATEWAY, inet_pton(AF_INET6, route.gateway))
    body += attribute(_RTA_OIF, struct.pack("=I", index))
    label = f"route {route.destination}"
    if not expires_s:
        return label, request(RTM_NEWROUTE + _DEL, body), ()
    body += attribute(_RTA_EXPIRES, struct.pack("=I", expires_s))
    return label, request(RTM_NEWROUTE, body, NLM_F_CREATE), ()


def _split(prefix: str) -> tuple[bytes, int]:
    address, _, length = prefix.partition("/")
    return (inet_pton(AF_INET6, address), int(length)) if prefix else (bytes(16), 0)
