# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter of flows to replicate: in the kernel for events, in Python for dumps.

A BPF program on the event socket (socket_filter.py) drops what is not wanted before the daemon wakes. A dump
comes in large pieces that a socket filter can only pass whole, so that the same rules exist as a function of
one message. Never wanted: loopback, multicast and broadcast, IPv6 link-local.

The kernel writes a conntrack message in a fixed order (ctnetlink_conntrack_event() in
net/netfilter/nf_conntrack_netlink.c): header, family, original tuple, reply tuple, then the rest. So
the original tuple stands at fixed offsets, and the reply tuple at the same ones plus the length of the
original. Attributes behind them are searched for.

With `settled`, a flow is wanted once the kernel marks it ASSURED. It marks a flow of UDP or ICMP when a
packet comes two seconds after its first one and both ends have spoken, so that a DNS query costs nothing. It
marks a connection of TCP when it is established, which is wanted once its SYN is answered: the ACK of the
client may come to another router. Before that nothing is lost: the client repeats its SYN.
Some flows are wanted at once, because another router could not make them anew: what a helper has announced,
what a flow table has taken away from conntrack, and of UDP a port forward (DNAT) and what a helper looks
after. The status says all of that but for the helper, which the end of a flow does not tell: see
kernel_table.py. A connection of TCP with labels and the like is wanted at once as well: the kernel tells
these only once.

Of the states in which a connection ends, events tell the last ones only (TIME_WAIT, CLOSE).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from tandem.conntrack.message import (
    CTA_HELP,
    CTA_LABELS,
    CTA_PROTOINFO,
    CTA_SEQ_ADJ_ORIG,
    CTA_STATUS,
    CTA_SYNPROXY,
    CTA_ZONE,
)
from tandem.effects.netlink import attributes
from tandem.limits import NETWORKS_MAX, ZONES_MAX
from tandem.nlmsg import NLATTR

LOCAL_MAX = 64  # the most addresses that the kernel's filter holds, see tandem.limits

SYN_SENT, SYN_SENT2 = 1, 9  # enum tcp_conntrack: nothing but SYNs so far, from one side or both
SYN_RECV, ESTABLISHED = 2, 3  # likewise: the SYN is answered, and so is the answer
CLOSING = 4, 5, 6  # FIN_WAIT, CLOSE_WAIT, LAST_ACK

YOUNG = frozenset((1, 17, 58, 136))  # ICMP, UDP, ICMPv6, UDPLITE: `settled` is about flows of these
SETTLED = 0xC025  # enum ip_conntrack_status: EXPECTED, ASSURED, DST_NAT, OFFLOAD, HW_OFFLOAD
CONNECTED = 0xC005  # of TCP: all of these but DST_NAT
TOLD_ONCE = CTA_LABELS, CTA_SEQ_ADJ_ORIG, CTA_SYNPROXY  # attributes that the next event may lack

AF_INET, AF_INET6 = 2, 10
CT_NEW, CT_DELETE = 0x100, 0x102  # nlmsg_type: NFNL_SUBSYS_CTNETLINK, then enum cntl_msg_types
EXP_NEW, EXP_DELETE = 0x200, 0x202
PROTOINFO_TCP, TCP_STATE = 1, 1
TCP = 6

# Offsets in a message; those in the original tuple plus the length of its attribute give the reply tuple's.
TYPE_AT, PID_AT, FAMILY_AT, ATTRIBUTES_AT = 4, 12, 16, 20
_HIGH_TYPE = 5 if sys.byteorder == "little" else 4  # the byte of nlmsg_type that says which subsystem
ORIGINAL_LENGTH_AT = 20 if sys.byteorder == "little" else 21  # the low byte of its nla_len, below 256
SOURCE_AT = 32
DESTINATION_AT = {4: 40, 6: 52}
PROTOCOL_AT = {4: 52, 6: 76}
PORTS_AT = {4: (60, 68), 6: (84, 92)}
_SHORTEST = {4: 92, 6: 140}  # two tuples without ports

_LOOPBACK6 = bytes(15) + b"\1"


@dataclass(frozen=True, slots=True)
class Filter:
    """The flows to replicate; None: all. Addresses are packed (4 or 16 bytes)."""

    protocols: frozenset[int] | None = None  # numbers of IP
    tcp_states: frozenset[int] | None = None  # enum tcp_conntrack; the end of a flow always passes
    zones: frozenset[int] | None = None
    networks: tuple[tuple[bytes, int], ...] = ()  # address and prefix length
    include: bool = False  # True: only flows from, to or through `networks`; False: none from or to them
    local: frozenset[bytes] = frozenset()  # the router's own addresses, with those of broadcasts
    own: bool = False  # also the router's own connections, except that of the replication
    channel_port: int = 3780
    settled: bool = False  # flows of UDP and ICMP once they are ASSURED, connections of TCP once answered

    @property
    def fits(self) -> bool:
        """Whether the kernel's filter can hold all of these rules."""
        return (
            len(self.local) <= LOCAL_MAX
            and len(self.networks) <= NETWORKS_MAX
            and len(self.zones or ()) <= ZONES_MAX
        )


def checker(rules: Filter) -> Callable[[bytes], bool]:
    """Return a function that says whether a complete message from the kernel is wanted.

    0.5 us, or 2 us with `settled`, as long as there are no networks, zones or TCP states to look at. A
    message that is too short is not wanted.
    """
    protocols, local, own = rules.protocols, rules.local, rules.own
    port = rules.channel_port.to_bytes(2, "big")
    networks = [
        (len(address), 8 * len(address) - length, int.from_bytes(address, "big") >> 8 * len(address) - length)
        for address, length in rules.networks
    ]
    include, settled = rules.include, rules.settled
    deep = rules.zones is not None or rules.tcp_states is not None
    short4, short6 = _SHORTEST[4], _SHORTEST[6]

    def inside(address: bytes) -> bool:
        number = int.from_bytes(address, "big")
        return any(len(address) == size and number >> shift == value for size, shift, value in networks)

    def wanted(message: bytes) -> bool:
        size = len(message)
        if size < short4:
            return False
        if message[_HIGH_TYPE] != 1:
            return message[_HIGH_TYPE] == 2  # expectations
        shift = message[ORIGINAL_LENGTH_AT]
        if message[FAMILY_AT] == AF_INET:
            if message[32] == 127 or message[40] >= 224:
                return False
            source, reply = message[32:36], message[32 + shift : 36 + shift]
            destination, protocol, family = message[40:44], message[52], 4
        elif message[FAMILY_AT] == AF_INET6 and size >= short6:
            source, reply = message[32:48], message[32 + shift : 48 + shift]
            destination, protocol, family = message[52:68], message[76], 6
            if destination[0] == 0xFF or source == _LOOPBACK6:
                return False
            if (source[0] == 0xFE and source[1] & 0xC0 == 0x80) or (
                destination[0] == 0xFE and destination[1] & 0xC0 == 0x80
            ):
                return False
        else:
            return False
        if protocols is not None and protocol not in protocols:
            return False
        if source in local or reply in local:
            if not own:
                return False
            if protocol == TCP and port in [message[offset : offset + 2] for offset in PORTS_AT[family]]:
                return False
        if networks and (inside(source) or inside(reply) or (include and inside(destination))) != include:
            return False
        if settled and (protocol == TCP or protocol in YOUNG) and not _is_settled(message, protocol):
            return False
        return not deep or _deep(rules, message, protocol)

    return wanted


def _is_settled(message: bytes, protocol: int) -> bool:
    status = _status(message)
    if status is None or status & (CONNECTED if protocol == TCP else SETTLED):
        return True
    found = attributes(message, ATTRIBUTES_AT)
    if protocol != TCP:
        return CTA_HELP in found
    if any(kind in found for kind in TOLD_ONCE):
        return True
    state = _tcp_state(found)
    return state not in (SYN_SENT, SYN_SENT2) if _ends(message) else state in (SYN_RECV, None)


def _status(message: bytes) -> int | None:
    at, end = ATTRIBUTES_AT, len(message)
    while at + 8 <= end:
        length, kind = NLATTR.unpack_from(message, at)
        if kind == CTA_STATUS:
            return int.from_bytes(message[at + 4 : at + 8], "big")
        if length < 4:
            break
        at += length + -length % 4
    return None


def _ends(message: bytes) -> bool:
    return message[TYPE_AT : TYPE_AT + 2] == CT_DELETE.to_bytes(2, sys.byteorder)


def _tcp_state(found: dict[int, bytes]) -> int | None:
    information = attributes(attributes(found.get(CTA_PROTOINFO, b""), 0).get(PROTOINFO_TCP, b""), 0)
    state = information.get(TCP_STATE)
    return state[0] if state else None


def _deep(rules: Filter, message: bytes, protocol: int) -> bool:
    found = attributes(message, ATTRIBUTES_AT)
    if rules.zones is not None and int.from_bytes(found.get(CTA_ZONE, b"")[:2], "big") not in rules.zones:
        return False
    if rules.tcp_states is None or protocol != TCP:
        return True
    state = _tcp_state(found)
    if state is None or state in rules.tcp_states:
        return True
    return _ends(message) and state not in (SYN_SENT, SYN_SENT2)
