# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter of flows to replicate: in the kernel for events, in Python for dumps.

A BPF program on the event socket drops what is not wanted before the daemon wakes. A dump comes
in large pieces that a socket filter can only pass whole, so that the same rules exist as a function
of one message. Never wanted: loopback, multicast and broadcast, IPv6 link-local.

The kernel writes a conntrack message in a fixed order (ctnetlink_conntrack_event() in
net/netfilter/nf_conntrack_netlink.c): header, family, original tuple, reply tuple, then the rest. So
the original tuple stands at fixed offsets, and the reply tuple at the same ones plus the length of the
original. Attributes behind them are searched for.

With `settled`, a flow of UDP or ICMP is wanted once more than one exchange is seen, so that a DNS query costs
nothing: the kernel marks it ASSURED when a packet comes two seconds after its first one and both ends have
spoken. Wanted at once are those that another router could not make anew: a port forward (DNAT), what a helper
looks after or has announced, and what a flow table has taken away from conntrack. Its status says all of that
but for the helper, which the end of a flow does not tell: see kernel_table.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tandem.conntrack.message import CTA_HELP, CTA_PROTOINFO, CTA_STATUS, CTA_ZONE
from tandem.effects.bpf import (
    ALL,
    AND,
    JA,
    JEQ,
    JGE,
    LD_B_ABS,
    LD_B_IND,
    LD_H_ABS,
    LD_H_IND,
    LD_IMM,
    LD_MEM,
    LD_W_ABS,
    LD_W_IND,
    LDX_IMM,
    NLATTR,
    NLATTR_NEST,
    RET,
    ST,
    TAX,
    Program,
    swap16,
    swap32,
)
from tandem.effects.netlink import attributes
from tandem.limits import NETWORKS_MAX, ZONES_MAX

LOCAL_MAX = 64  # the most addresses that the kernel's filter holds, see tandem.limits

SYN_SENT, SYN_SENT2 = 1, 9  # enum tcp_conntrack: nothing but SYNs so far, from one side or both

YOUNG = frozenset((1, 17, 58, 136))  # ICMP, UDP, ICMPv6, UDPLITE: `settled` is about flows of these
SETTLED = 0xC025  # enum ip_conntrack_status: EXPECTED, ASSURED, DST_NAT, OFFLOAD, HW_OFFLOAD

_AF_INET, _AF_INET6 = 2, 10
_CT_NEW, _CT_DELETE = 0x100, 0x102  # nlmsg_type: NFNL_SUBSYS_CTNETLINK, then enum cntl_msg_types
_EXP_NEW, _EXP_DELETE = 0x200, 0x202
_PROTOINFO_TCP, _TCP_STATE = 1, 1
_TCP = 6

# Offsets in a message; those in the original tuple plus the length of its attribute give the reply tuple's.
_TYPE, _PID, _FAMILY, _ATTRIBUTES = 4, 12, 16, 20
_HIGH_TYPE = 5 if sys.byteorder == "little" else 4  # the byte of nlmsg_type that says which subsystem
_ORIGINAL_LENGTH = 20 if sys.byteorder == "little" else 21  # the low byte of its nla_len, which is below 256
_SOURCE = 32
_DESTINATION = {4: 40, 6: 52}
_PROTOCOL = {4: 52, 6: 76}
_PORTS = {4: (60, 68), 6: (84, 92)}
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
    settled: bool = False  # flows of UDP and ICMP only when they are more than one exchange

    @property
    def fits(self) -> bool:
        """Whether the kernel's filter can hold all of these rules."""
        return (
            len(self.local) <= LOCAL_MAX
            and len(self.networks) <= NETWORKS_MAX
            and len(self.zones or ()) <= ZONES_MAX
        )


# --- in the kernel ---------------------------------------------------------------------


def program(rules: Filter, ignore_ports: tuple[int, ...], *, lists: bool = True) -> Program:
    """Return the socket filter. `ignore_ports` are the port ids whose changes of the table are not told.

    Without `lists` it knows no addresses and no zones: then `checker` has to look at what passes.
    """
    return [
        ("", (LD_W_ABS, _PID, "", "")),
        *(("", (JEQ, swap32(port), "drop", "")) for port in ignore_ports if port),
        ("", (LD_H_ABS, _TYPE, "", "")),
        ("", (JEQ, swap16(_CT_NEW), "flow", "")),
        ("", (JEQ, swap16(_CT_DELETE), "flow", "")),
        ("", (JEQ, swap16(_EXP_NEW), "accept0", "")),
        ("", (JEQ, swap16(_EXP_DELETE), "accept0", "drop")),
        ("drop", (RET, 0, "", "")),
        ("accept0", (RET, ALL, "", "")),
        ("flow", (LD_B_ABS, _FAMILY, "", "")),
        ("", (JEQ, _AF_INET, "family4", "")),
        ("", (JEQ, _AF_INET6, "jump6", "")),
        ("", (RET, 0, "", "")),
        ("jump6", (JA, 0, "family6", "")),
        *_family(rules, 4, lists),
        *_family(rules, 6, lists),
        *_zones(rules, lists),
        *_tcp_states(rules),
        *_settled(rules),
        ("accept", (RET, ALL, "", "")),
    ]


def _family(rules: Filter, family: int, lists: bool) -> Program:
    destination = _DESTINATION[family]
    code: Program = [
        (f"family{family}", (LD_B_ABS, _PROTOCOL[family], "", "")),
        ("", (ST, 0, "", "")),
        *_protocols(rules, family),
        *(_never4() if family == 4 else _never6()),
    ]
    if lists and rules.local:
        # X is 0 for the original tuple, its length for the reply.
        code += [("", (LDX_IMM, 0, "", "")), *_any_address(rules, family, "a")]
        code += [*_reply(), *_any_address(rules, family, "b")]
        code += [("", (JA, 0, f"foreign{family}", "")), (f"own{family}", (LD_MEM, 0, "", ""))]
        if rules.own:
            code += [("", (JEQ, _TCP, "", f"foreign{family}"))]
            for offset in _PORTS[family]:
                skip = f"port{family}.{offset}"
                code += [("", (LD_H_ABS, offset, "", "")), ("", (JEQ, rules.channel_port, "", skip))]
                code += [("", (RET, 0, "", "")), (skip, None)]
        else:
            code += [("", (RET, 0, "", ""))]
    code += [(f"foreign{family}", None)]
    if lists and rules.networks:
        code += [("", (LDX_IMM, 0, "", "")), *_any_network(rules, family, _SOURCE, "s")]
        if rules.include:
            code += _any_network(rules, family, destination, "d")
        code += [*_reply(), *_any_network(rules, family, _SOURCE, "r")]
        if rules.include:
            code += [("", (RET, 0, "", ""))]
    return [*code, ("", (JA, 0, "zones", ""))]


def _protocols(rules: Filter, family: int) -> Program:
    if rules.protocols is None:
        return []
    yes, no = f"protocol{family}", f"other{family}"
    if len(rules.protocols) <= 128:
        tests: Program = [("", (JEQ, protocol, yes, "")) for protocol in sorted(rules.protocols)]
    else:  # the other protocols are fewer, and a jump reaches over them
        tests = [("", (JEQ, protocol, no, "")) for protocol in range(256) if protocol not in rules.protocols]
        tests.append(("", (JA, 0, yes, "")))
    return [*tests, (no, (RET, 0, "", "")), (yes, None)]


def _never4() -> Program:
    return [
        ("", (LD_B_ABS, _SOURCE, "", "")),
        ("", (JEQ, 127, "never4", "")),
        ("", (LD_B_ABS, _DESTINATION[4], "", "")),
        ("", (JGE, 224, "never4", "usual4")),
        ("never4", (RET, 0, "", "")),
        ("usual4", None),
    ]


def _never6() -> Program:
    code: Program = [("", (LD_B_ABS, _DESTINATION[6], "", "")), ("", (JEQ, 0xFF, "never6", ""))]
    for offset in (_SOURCE, _DESTINATION[6]):
        code += [("", (LD_H_ABS, offset, "", "")), ("", (AND, 0xFFC0, "", ""))]
        code += [("", (JEQ, 0xFE80, "never6", ""))]
    for offset, word in ((12, 1), (8, 0), (4, 0), (0, 0)):  # ::1
        code += [("", (LD_W_ABS, _SOURCE + offset, "", ""))]
        code += [("", (JEQ, word, "" if offset else "never6", "usual6"))]
    return [*code, ("never6", (RET, 0, "", "")), ("usual6", None)]


def _reply() -> Program:
    return [("", (LD_B_ABS, _ORIGINAL_LENGTH, "", "")), ("", (TAX, 0, "", ""))]


def _any_address(rules: Filter, family: int, tag: str) -> Program:
    """Jump to `own` when the source is a local address. Most addresses differ in their last word."""
    code: Program = []
    for number, address in enumerate(sorted(a for a in rules.local if len(a) == _size(family))):
        skip = f"local{family}{tag}{number}"
        words = list(_words(address))
        for offset, word in reversed(words):
            code += [("", (LD_W_IND, _SOURCE + offset, "", "")), ("", (JEQ, word, "", skip))]
        code += [("", (JA, 0, f"own{family}", "")), (skip, None)]
    return code


def _any_network(rules: Filter, family: int, offset: int, tag: str) -> Program:
    """Jump to `zones` (include) or drop the message when the address is in a network."""
    code: Program = []
    networks = [(address, length) for address, length in rules.networks if len(address) == _size(family)]
    for number, (address, length) in enumerate(networks):
        skip = f"network{family}{tag}{number}"
        for place, word in _words(address):
            bits = min(max(length - 8 * place, 0), 32)
            mask = ALL << (32 - bits) & ALL
            if bits:
                code += [("", (LD_W_IND, offset + place, "", ""))]
                code += [("", (AND, mask, "", ""))] if bits < 32 else []
                code += [("", (JEQ, word & mask, "", skip))]
        code += [("", (JA, 0, "zones", "") if rules.include else (RET, 0, "", "")), (skip, None)]
    return code


def _zones(rules: Filter, lists: bool) -> Program:
    if rules.zones is None or not lists:
        return [("zones", None)]
    return [
        ("zones", (LD_IMM, _ATTRIBUTES, "", "")),
        ("", (LDX_IMM, CTA_ZONE, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "zone", "")),  # there is no attribute of zone 0
        ("", (TAX, 0, "", "")),
        ("", (LD_H_IND, 4, "", "")),
        ("zone", None),
        *(("", (JEQ, zone, "zone_wanted", "")) for zone in sorted(rules.zones)),
        ("", (RET, 0, "", "")),
        ("zone_wanted", None),
    ]


def _tcp_states(rules: Filter) -> Program:
    """The end of a flow carries its last state since Linux 5.11, and passes unless no peer knows the flow."""
    if rules.tcp_states is None:
        return []
    return [
        ("", (LD_MEM, 0, "", "")),
        ("", (JEQ, _TCP, "", "state_wanted")),
        ("", (LD_IMM, _ATTRIBUTES, "", "")),
        ("", (LDX_IMM, CTA_PROTOINFO, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "state_wanted", "")),
        ("", (LDX_IMM, _PROTOINFO_TCP, "", "")),
        ("", (LD_W_ABS, NLATTR_NEST, "", "")),
        ("", (JEQ, 0, "state_wanted", "")),
        ("", (LDX_IMM, _TCP_STATE, "", "")),
        ("", (LD_W_ABS, NLATTR_NEST, "", "")),
        ("", (JEQ, 0, "state_wanted", "")),
        ("", (TAX, 0, "", "")),
        ("", (LD_B_IND, 4, "", "")),
        *(("", (JEQ, state, "state_wanted", "")) for state in range(16) if state in rules.tcp_states),
        ("", (JEQ, SYN_SENT, "state_drop", "")),
        ("", (JEQ, SYN_SENT2, "state_drop", "")),
        ("", (LD_H_ABS, _TYPE, "", "")),
        ("", (JEQ, swap16(_CT_DELETE), "state_wanted", "")),
        ("state_drop", (RET, 0, "", "")),
        ("state_wanted", None),
    ]


def _settled(rules: Filter) -> Program:
    if not rules.settled:
        return []
    return [
        ("", (LD_MEM, 0, "", "")),
        *(("", (JEQ, protocol, "young", "")) for protocol in sorted(YOUNG)),
        ("", (JA, 0, "accept", "")),
        ("young", (LD_IMM, _ATTRIBUTES, "", "")),
        ("", (LDX_IMM, CTA_STATUS, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "accept", "")),
        ("", (TAX, 0, "", "")),
        ("", (LD_W_IND, 4, "", "")),
        ("", (AND, SETTLED, "", "")),
        ("", (JEQ, 0, "", "accept")),
        ("", (LD_IMM, _ATTRIBUTES, "", "")),
        ("", (LDX_IMM, CTA_HELP, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "", "accept")),
        ("", (RET, 0, "", "")),
    ]


def _size(family: int) -> int:
    return 4 if family == 4 else 16


def _words(address: bytes) -> Iterator[tuple[int, int]]:
    for offset in range(0, len(address), 4):
        yield offset, int.from_bytes(address[offset : offset + 4], "big")


# --- in Python ---------------------------------------------------------------------------


def checker(rules: Filter) -> Callable[[bytes], bool]:
    """Return a function that says whether a complete message from the kernel is wanted.

    0.5 us, as long as there are no networks, zones or TCP states to look at. A message that is too short is
    not wanted.
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
        shift = message[_ORIGINAL_LENGTH]
        if message[_FAMILY] == _AF_INET:
            if message[32] == 127 or message[40] >= 224:
                return False
            source, reply = message[32:36], message[32 + shift : 36 + shift]
            destination, protocol, family = message[40:44], message[52], 4
        elif message[_FAMILY] == _AF_INET6 and size >= short6:
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
            if protocol == _TCP and port in [message[offset : offset + 2] for offset in _PORTS[family]]:
                return False
        if networks and (inside(source) or inside(reply) or (include and inside(destination))) != include:
            return False
        if settled and protocol in YOUNG and not _is_settled(message):
            return False
        return not deep or _deep(rules, message, protocol)

    return wanted


def _is_settled(message: bytes) -> bool:
    found = attributes(message, _ATTRIBUTES)
    status = found.get(CTA_STATUS)
    return status is None or bool(int.from_bytes(status, "big") & SETTLED) or CTA_HELP in found


def _deep(rules: Filter, message: bytes, protocol: int) -> bool:
    found = attributes(message, _ATTRIBUTES)
    if rules.zones is not None and int.from_bytes(found.get(CTA_ZONE, b"")[:2], "big") not in rules.zones:
        return False
    if rules.tcp_states is None or protocol != _TCP:
        return True
    information = attributes(attributes(found.get(CTA_PROTOINFO, b""), 0).get(_PROTOINFO_TCP, b""), 0)
    state = information.get(_TCP_STATE)
    if not state or state[0] in rules.tcp_states:
        return True
    ends = message[_TYPE : _TYPE + 2] == _CT_DELETE.to_bytes(2, sys.byteorder)
    return ends and state[0] not in (SYN_SENT, SYN_SENT2)
