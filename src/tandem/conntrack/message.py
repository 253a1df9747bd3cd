# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding: ctnetlink messages, of events and dumps, become records (record.py). parser.py does the same
faster, encode.py does the opposite.

include/uapi/linux/netfilter/nfnetlink_conntrack.h; net/netfilter/nf_conntrack_netlink.c. Headers of
messages and attributes are in the byte order of this machine, values in network byte order but for labels.

Unknown attributes are left out; a message that contradicts itself is no record: None.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct

from tandem.nlmsg import NFNL_HEADER, NLATTR, NLM_F_CREATE, NLM_F_EXCL, attribute

from .record import (
    DESTROY,
    DNAT,
    ICMP,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPS_CONFIRMED,
    IPS_FIXED_TIMEOUT,
    IPV6,
    MARK,
    NEW,
    SNAT,
    T_DCCP,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_SCTP,
    T_SEQ_ADJ_ORIG,
    T_SEQ_ADJ_REPLY,
    T_SYNPROXY,
    T_ZONE,
    TAIL,
    TCP,
    UPDATE,
    ZONED,
    Record,
    pack_tail,
)

SUBSYS_CTNETLINK, SUBSYS_CTNETLINK_EXP = 1, 2  # nlmsg_type >> 8
MSG_NEW, MSG_GET, MSG_DELETE = 0, 1, 2  # nlmsg_type & 0xff: IPCTNL_MSG_CT_*, IPCTNL_MSG_EXP_*
AF_INET, AF_INET6 = 2, 10  # the same for every Linux
NESTED = 0x8000  # NLA_F_NESTED

# enum ctattr_type and those nested in it
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_HELP = 1, 2, 3, 4, 5
CTA_NAT_SRC, CTA_TIMEOUT, CTA_MARK, CTA_NAT_DST, CTA_TUPLE_MASTER = 6, 7, 8, 13, 14
CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY, CTA_ZONE, CTA_LABELS, CTA_SYNPROXY = 15, 16, 18, 22, 24
CTA_TUPLE_IP, CTA_TUPLE_PROTO, CTA_TUPLE_ZONE = 1, 2, 3
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_PROTO_ICMP_ID, CTA_PROTO_ICMPV6_ID = 4, 7
CTA_PROTOINFO_TCP, CTA_PROTOINFO_DCCP, CTA_PROTOINFO_SCTP = 1, 2, 3
CTA_HELP_NAME = 1

# Timeouts of flows in a flow table (IPS_OFFLOAD): the kernel doesn't tell them.
OFFLOADED_TCP_TIMEOUT, OFFLOADED_TIMEOUT = 7440, 120  # s
AT_ONCE = b"\0\0\0\1"  # a timeout

_LENGTH = Struct("=I")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_NOTHING = b"\0\0\0\0"

Span = tuple[int, int]  # where a value begins and ends


def split(datagram: bytes) -> Iterator[bytes]:
    """Yield the complete netlink messages of a datagram, up to the first malformed one."""
    offset, end = 0, len(datagram)
    while offset + 16 <= end:
        length = _LENGTH.unpack_from(datagram, offset)[0]
        if length < 16 or offset + length > end:
            return
        yield datagram[offset : offset + length]
        offset += length + -length % 4


# --- walking ---------------------------------------------------------------------------


class Malformed(Exception):
    """Attributes overlap, overrun, have a wrong size, or one that must be there is missing."""


def attributes(message: bytes, start: int, end: int) -> dict[int, Span]:
    """Return where the value of each attribute between `start` and `end` lies. Raise Malformed otherwise."""
    found: dict[int, Span] = {}
    while start < end:
        if start + 4 > end:
            raise Malformed
        length, type_ = NLATTR.unpack_from(message, start)
        if length < 4 or start + length > end:
            raise Malformed
        found[type_ & _TYPE_MASK] = (start + 4, start + length)
        start += length + -length % 4
    return found


def value(message: bytes, found: dict[int, Span], type_: int, size: int) -> bytes:
    """Return the value of an attribute. Malformed when it is missing or has another size."""
    span = found.get(type_)
    if span is None or span[1] - span[0] != size:
        raise Malformed
    return message[span[0] : span[1]]


class Flow:
    """One direction's tuple in pieces."""

    __slots__ = ("destination", "dport", "icmp", "protocol", "source", "sport", "type_code", "v6", "zone")

    def __init__(self, message: bytes, span: Span) -> None:
        nest = attributes(message, *span)
        if CTA_TUPLE_IP not in nest or CTA_TUPLE_PROTO not in nest:
            raise Malformed
        ip, proto = attributes(message, *nest[CTA_TUPLE_IP]), attributes(message, *nest[CTA_TUPLE_PROTO])
        self.v6 = 3 in ip
        first, size = (3, 16) if self.v6 else (1, 4)
        self.source = value(message, ip, first, size)
        self.destination = value(message, ip, first + 1, size)
        self.protocol = value(message, proto, CTA_PROTO_NUM, 1)
        self.icmp = self.protocol[0] == (IPPROTO_ICMPV6 if self.v6 else IPPROTO_ICMP)
        self.type_code = b""
        if self.icmp:
            first = CTA_PROTO_ICMPV6_ID if self.v6 else CTA_PROTO_ICMP_ID
            self.sport = self.dport = value(message, proto, first, 2)
            self.type_code = value(message, proto, first + 1, 1) + value(message, proto, first + 2, 1)
        elif CTA_PROTO_SRC_PORT in proto:
            self.sport = value(message, proto, CTA_PROTO_SRC_PORT, 2)
            self.dport = value(message, proto, CTA_PROTO_DST_PORT, 2)
        else:
            self.sport = self.dport = b"\0\0"
        self.zone = value(message, nest, CTA_TUPLE_ZONE, 2) if CTA_TUPLE_ZONE in nest else b""

    def key(self, zone: bytes) -> bytes:
        """Return the key of the flow that has this as its original tuple."""
        return zone + (b"\6" if self.v6 else b"\4") + self.packed()

    def packed(self) -> bytes:
        """Return the part of a key that is the tuple itself, protocol first."""
        last = self.type_code + self.sport if self.icmp else self.sport + self.dport
        return self.protocol + self.source + self.destination + last


def labels(value: bytes, order: str = sys.byteorder) -> bytes:
    """Return CTA_LABELS in the order of a record; the same function converts back.

    The kernel tells them as they lie in memory, where nft(8) puts label n at bit n of a number of 128 bits
    in the machine's own byte order.
    """
    return value if order == "little" else value[::-1]


def nest(type_: int, *attributes: bytes) -> bytes:
    """Return an attribute that holds other attributes."""
    return attribute(type_ | NESTED, b"".join(attributes))


def tuple_attribute(type_: int, key: bytes) -> bytes:
    """Return the tuple of a key, without its zone, as an attribute of this type."""
    v6, protocol, last = key[2] == 6, key[3:4], key[-4:]
    size, first = (16, 3) if v6 else (4, 1)
    ip = nest(CTA_TUPLE_IP, attribute(first, key[4 : 4 + size]), attribute(first + 1, key[4 + size : -4]))
    if protocol[0] == (IPPROTO_ICMPV6 if v6 else IPPROTO_ICMP):
        first = CTA_PROTO_ICMPV6_ID if v6 else CTA_PROTO_ICMP_ID
        values = attribute(first, last[2:]), attribute(first + 1, last[:1]), attribute(first + 2, last[1:2])
    else:
        values = attribute(CTA_PROTO_SRC_PORT, last[:2]), attribute(CTA_PROTO_DST_PORT, last[2:]), b""
    return nest(type_, ip, nest(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, protocol), *values))


def parse(message: bytes) -> Record | None:
    """Return the record in one complete message about a flow, read attribute by attribute, or None."""
    try:
        return _parse(message)
    except Malformed:
        return None


def _parse(message: bytes) -> Record | None:
    op = operation(message, SUBSYS_CTNETLINK)
    if not op:
        return None
    found = attributes(message, 20, len(message))
    if CTA_TUPLE_ORIG not in found or CTA_TUPLE_REPLY not in found:
        return None
    original, reply = Flow(message, found[CTA_TUPLE_ORIG]), Flow(message, found[CTA_TUPLE_REPLY])
    if original.v6 != reply.v6 or original.protocol != reply.protocol:
        return None
    zone = value(message, found, CTA_ZONE, 2) if CTA_ZONE in found else original.zone or b"\0\0"
    key = original.key(zone)
    if op == DESTROY:
        return op, key, b""

    status = int.from_bytes(value(message, found, CTA_STATUS, 4), "big")
    kind = (IPV6 if original.v6 else 0) | (ICMP if original.icmp else 0) | (ZONED if zone != b"\0\0" else 0)
    is_tcp = original.protocol[0] == IPPROTO_TCP
    if CTA_TIMEOUT in found:
        timeout = value(message, found, CTA_TIMEOUT, 4)
        if timeout == _NOTHING:  # less than a second; 0 in a message makes the entry vanish
            timeout = AT_ONCE
    else:
        timeout = (OFFLOADED_TCP_TIMEOUT if is_tcp else OFFLOADED_TIMEOUT).to_bytes(4, "big")
    rare = _tail(message, found, original, reply, zone)
    info = b""
    if is_tcp:
        kind |= TCP
        info = _tcp(message, found)
    elif CTA_PROTOINFO in found:
        _protoinfo(message, found, rare)
    mark = value(message, found, CTA_MARK, 4) if CTA_MARK in found else _NOTHING
    if mark != _NOTHING:
        kind |= MARK
        info += mark
    if reply.destination != original.source or reply.dport != original.sport:
        kind |= SNAT
        info += reply.destination + reply.dport
    if reply.source != original.destination or (reply.sport != original.dport and not original.icmp):
        kind |= DNAT
        info += reply.source + reply.sport
    if rare or status & IPS_FIXED_TIMEOUT:
        kind |= TAIL
    head = bytes((kind, status >> 8 & 4, status & 7 | IPS_CONFIRMED))
    return op, key, head + timeout + info + pack_tail(rare)


def operation(message: bytes, subsystem: int) -> int:
    """Return the op of a record for a message of this subsystem, or 0."""
    if len(message) < 20:
        return 0
    length, type_, flags = NFNL_HEADER.unpack_from(message)[:3]
    if length != len(message) or type_ >> 8 != subsystem:
        return 0
    if type_ & 0xFF == MSG_DELETE:
        return DESTROY
    if type_ & 0xFF != MSG_NEW:
        return 0
    return NEW if flags & (NLM_F_CREATE | NLM_F_EXCL) == NLM_F_CREATE | NLM_F_EXCL else UPDATE


def _tcp(message: bytes, found: dict[int, Span]) -> bytes:
    if CTA_PROTOINFO in found:
        info = attributes(message, *found[CTA_PROTOINFO])
        if CTA_PROTOINFO_TCP in info:
            tcp = attributes(message, *info[CTA_PROTOINFO_TCP])
            state = value(message, tcp, 1, 1)
            if len(tcp) == 5:
                scales = value(message, tcp, 2, 1) + value(message, tcp, 3, 1)
                flags = (value(message, tcp, number, 2)[0] & 3 for number in (4, 5))
                return state + scales + bytes(flags)
    return b"\0\0\0\0\0"


def _protoinfo(message: bytes, found: dict[int, Span], rare: dict[int, bytes]) -> None:
    info = attributes(message, *found[CTA_PROTOINFO])
    if CTA_PROTOINFO_SCTP in info:
        sctp = attributes(message, *info[CTA_PROTOINFO_SCTP])
        if 2 in sctp and 3 in sctp:
            rare[T_SCTP] = b"".join(value(message, sctp, n, size) for n, size in ((1, 1), (2, 4), (3, 4)))
    elif CTA_PROTOINFO_DCCP in info:
        dccp = attributes(message, *info[CTA_PROTOINFO_DCCP])
        if 2 in dccp and 3 in dccp:
            rare[T_DCCP] = b"".join(value(message, dccp, n, size) for n, size in ((1, 1), (2, 1), (3, 8)))


def _tail(
    message: bytes, found: dict[int, Span], original: Flow, reply: Flow, zone: bytes
) -> dict[int, bytes]:
    rare: dict[int, bytes] = {}
    if CTA_TUPLE_MASTER in found:
        master = Flow(message, found[CTA_TUPLE_MASTER])
        if master.v6 == original.v6:
            rare[T_MASTER] = master.key(zone)
    if CTA_HELP in found:
        help_ = attributes(message, *found[CTA_HELP])
        if CTA_HELP_NAME in help_:
            start, end = help_[CTA_HELP_NAME]
            name = message[start:end].split(b"\0")[0]
            if 0 < len(name) < 16:
                rare[T_HELPER] = name
    if CTA_LABELS in found:
        flags = value(message, found, CTA_LABELS, 16)
        if any(flags):
            rare[T_LABELS] = labels(flags)
    for type_, kept in (
        (CTA_SEQ_ADJ_ORIG, T_SEQ_ADJ_ORIG),
        (CTA_SEQ_ADJ_REPLY, T_SEQ_ADJ_REPLY),
        (CTA_SYNPROXY, T_SYNPROXY),
    ):
        if type_ in found:
            three = attributes(message, *found[type_])
            numbers = b"".join(value(message, three, n, 4) for n in (1, 2, 3))
            if any(numbers):  # they are zero in each entry that was restored
                rare[kept] = numbers
    for flow, direction in ((original, b"\1"), (reply, b"\2")):
        if flow.zone:
            rare[T_ZONE] = direction + flow.zone
    return rare
