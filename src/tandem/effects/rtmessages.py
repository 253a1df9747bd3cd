# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of rtnetlink about links, addresses, routes and rules, reduced to what Tandem asks.

Families are 4 or 6 here. Nothing in a message is trusted: what is malformed is skipped.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from tandem.effects.netlink import attributes

FOREVER = 0xFFFFFFFF  # a lifetime without end (INFINITY_LIFE_TIME)
AF = {4: socket.AF_INET, 6: socket.AF_INET6}

# + 1: RTM_DEL*, + 2: RTM_GET*
RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWRULE = 16, 20, 24, 28, 32

IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
FIB_RULE_HDR = struct.Struct("=BBBBBxxBI")  # family, dst_len, src_len, tos, table, action, flags

IFA_LOCAL = 2
NDA_DST, NDA_LLADDR = 1, 2  # include/uapi/linux/neighbour.h
IFF_UP = 0x1
_FAMILY = {int(number): family for family, number in AF.items()}
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_IFALIAS, _IFLA_CARRIER = 1, 3, 4, 16, 20, 33
_IFA_ADDRESS, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 6, 8, 11
_RTA_DST, _RTA_PRIORITY, _RTA_TABLE = 1, 6, 15
_FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 6, 15, 21
_RTM_F_CLONED = 0x200


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """A link is there (`is_new`) or has gone."""

    is_new: bool
    ifindex: int
    name: str
    flags: int  # IFF_*
    carrier: bool
    operstate: int  # RFC 2863: 0 unknown, 6 up
    mac: bytes
    mtu: int
    alias: str = ""  # a text that somebody has given it

    @property
    def is_up(self) -> bool:
        """Administratively up, with carrier."""
        return bool(self.flags & IFF_UP) and self.carrier


@dataclass(frozen=True, slots=True)
class AddressMessage:
    """An address is there, or has changed (`is_new`), or has gone."""

    is_new: bool
    ifindex: int
    family: int
    address: bytes  # packed, the local end
    prefixlen: int
    scope: int  # RT_SCOPE_*
    flags: int  # IFA_F_*
    valid_s: int  # FOREVER when it never expires
    protocol: int  # IFA_PROTO; 0 before Linux 5.18


@dataclass(frozen=True, slots=True)
class RouteMessage:
    """A route has gone, or (`is_new`) another one took the place of those with its key."""

    is_new: bool
    family: int
    destination: bytes  # packed, full length
    prefixlen: int
    table: int
    metric: int
    protocol: int


@dataclass(frozen=True, slots=True)
class RuleMessage:
    """A policy routing rule has gone."""

    is_new: bool
    family: int
    priority: int
    table: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Overrun:
    """The kernel dropped notifications: dump everything again."""


Message = LinkMessage | AddressMessage | RouteMessage | RuleMessage | Overrun


def parse(kind: int, body: bytes) -> Message | None:
    """One message of rtnetlink; None when it is malformed or of no interest."""
    parser = _PARSERS.get(kind & ~1)
    try:
        return None if parser is None else parser(kind & 1 == 0, body)
    except struct.error:
        return None


def _parse_link(is_new: bool, body: bytes) -> Message | None:
    family, _, ifindex, flags, _ = IFINFOMSG.unpack_from(body)
    if family != 0:  # AF_BRIDGE tells about ports of a bridge, not about links
        return None
    found = attributes(body, IFINFOMSG.size)
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0")
    if not name:
        return None
    return LinkMessage(
        is_new=is_new,
        ifindex=ifindex,
        name=name.decode(errors="surrogateescape"),
        flags=flags,
        carrier=found.get(_IFLA_CARRIER, b"\1") != b"\0",
        operstate=found.get(_IFLA_OPERSTATE, b"\0")[0],
        mac=found.get(_IFLA_ADDRESS, b""),
        mtu=_number(found, _IFLA_MTU, 0),
        alias=found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
    )


def _parse_address(is_new: bool, body: bytes) -> Message | None:
    family, prefixlen, flags, scope, ifindex = IFADDRMSG.unpack_from(body)
    found = attributes(body, IFADDRMSG.size)
    address = found.get(IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    if family not in _FAMILY or len(address) != _length(family):
        return None
    cacheinfo = found.get(_IFA_CACHEINFO, b"")
    return AddressMessage(
        is_new=is_new,
        ifindex=ifindex,
        family=_FAMILY[family],
        address=address,
        prefixlen=prefixlen,
        scope=scope,
        flags=_number(found, _IFA_FLAGS, flags),
        valid_s=struct.unpack_from("=I", cacheinfo, 4)[0] if len(cacheinfo) >= 8 else FOREVER,
        protocol=(found.get(_IFA_PROTO) or b"\0")[0],
    )


def _parse_route(is_new: bool, body: bytes) -> Message | None:
    family, prefixlen, _, _, table, protocol, _, _, flags = RTMSG.unpack_from(body)
    found = attributes(body, RTMSG.size)
    if family not in _FAMILY or flags & _RTM_F_CLONED:
        return None
    destination = found.get(_RTA_DST, bytes(_length(family)))
    if len(destination) != _length(family):
        return None
    return RouteMessage(
        is_new=is_new,
        family=_FAMILY[family],
        destination=destination,
        prefixlen=prefixlen,
        table=_number(found, _RTA_TABLE, table),
        metric=_number(found, _RTA_PRIORITY, 0),
        protocol=protocol,
    )


def _parse_rule(is_new: bool, body: bytes) -> Message | None:
    family, _, _, _, table, _, _ = FIB_RULE_HDR.unpack_from(body)
    if family not in _FAMILY:
        return None
    found = attributes(body, FIB_RULE_HDR.size)
    return RuleMessage(
        is_new=is_new,
        family=_FAMILY[family],
        priority=_number(found, _FRA_PRIORITY, 0),
        table=_number(found, _FRA_TABLE, table),
        protocol=(found.get(_FRA_PROTOCOL) or b"\0")[0],
    )


_PARSERS = {
    RTM_NEWLINK: _parse_link,
    RTM_NEWADDR: _parse_address,
    RTM_NEWROUTE: _parse_route,
    RTM_NEWRULE: _parse_rule,
}


def _length(family: int) -> int:
    return 16 if family == socket.AF_INET6 else 4


def _number(found: dict[int, bytes], kind: int, default: int) -> int:
    value = found.get(kind, b"")
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else default
