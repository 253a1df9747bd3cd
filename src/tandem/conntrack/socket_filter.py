# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter (filter.py) as a BPF program, for a socket that hears conntrack's events and for its bell.

To be woken costs ten times as much as an event, and most events can wait. The bell is a second socket
(`Bell` in ctnetlink.py), which passes only what a peer should know at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from tandem.conntrack.filter import (
    AF_INET,
    AF_INET6,
    ATTRIBUTES_AT,
    CLOSING,
    CONNECTED,
    CT_DELETE,
    CT_NEW,
    DESTINATION_AT,
    ESTABLISHED,
    EXP_DELETE,
    EXP_NEW,
    FAMILY_AT,
    ORIGINAL_LENGTH_AT,
    PID_AT,
    PORTS_AT,
    PROTOCOL_AT,
    PROTOINFO_TCP,
    SETTLED,
    SOURCE_AT,
    SYN_RECV,
    SYN_SENT,
    SYN_SENT2,
    TCP,
    TCP_STATE,
    TOLD_ONCE,
    TYPE_AT,
    YOUNG,
    Filter,
)
from tandem.conntrack.message import CTA_HELP, CTA_PROTOINFO, CTA_STATUS, CTA_ZONE
from tandem.effects.bpf import (
    ALL,
    AND,
    JA,
    JEQ,
    JGE,
    JSET,
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
    RANDOM,
    RET,
    ST,
    TAX,
    Instruction,
    Program,
    swap16,
    swap32,
)
from tandem.nlmsg import NLM_F_CREATE

ONE_IN = 64  # of the events that do not ring the bell, one in so many does: a power of two

_LASTING = 0xC004  # ASSURED, OFFLOAD, HW_OFFLOAD: set when a flow turns out to be a lasting one
_OFFLOADED = 0xC000
_FLAGS_AT = 6  # nlmsg_flags


def program(
    rules: Filter, ignore_ports: tuple[int, ...], *, lists: bool = True, bell: bool = False
) -> Program:
    """Return the socket filter. `ignore_ports` are the port ids whose changes of the table are not told.

    Without `lists` it knows no addresses and no zones: then `checker` has to look at what passes.
    `bell`: of wanted events only those pass that ring the bell, as one byte.
    """
    return [
        ("", (LD_W_ABS, PID_AT, "", "")),
        *(("", (JEQ, swap32(port), "drop", "")) for port in ignore_ports if port),
        ("", (LD_H_ABS, TYPE_AT, "", "")),
        ("", (JEQ, swap16(CT_NEW), "flow", "")),
        ("", (JEQ, swap16(CT_DELETE), "flow", "")),
        ("", (JEQ, swap16(EXP_NEW), "accept0", "")),
        ("", (JEQ, swap16(EXP_DELETE), "accept0", "drop")),
        ("drop", (RET, 0, "", "")),
        ("accept0", (RET, ALL, "", "")),
        ("flow", (LD_B_ABS, FAMILY_AT, "", "")),
        ("", (JEQ, AF_INET, "family4", "")),
        ("", (JEQ, AF_INET6, "jump6", "")),
        ("", (RET, 0, "", "")),
        ("jump6", (JA, 0, "family6", "")),
        *_family(rules, 4, lists),
        *_family(rules, 6, lists),
        *_zones(rules, lists),
        *_tcp_states(rules),
        *_settled(rules),
        *(_bell(rules) if bell else [("accept", (RET, ALL, "", ""))]),
    ]


def _bell(rules: Filter) -> Program:
    """Let pass what a peer should know at once: a new flow.

    A connection of TCP counts when its SYN is answered, or when it is established if the list of states lacks
    the former. It also counts when a flow table takes it away before that, and when it is first seen later. A
    flow of the YOUNG protocols counts when it begins, and when it becomes a lasting one. Of other flows every
    change counts. The rest waits for one of these events. The socket where it waits must not overflow, so
    that one event in ONE_IN passes.
    """
    wanted = rules.tcp_states
    states = [state for state in (SYN_RECV, ESTABLISHED) if wanted is None or state in wanted]
    return [
        ("accept", (LD_H_ABS, TYPE_AT, "", "")),
        ("", (JEQ, swap16(CT_DELETE), "later", "")),
        ("", (LD_MEM, 0, "", "")),
        ("", (JEQ, TCP, "connection", "")),
        *(("", (JEQ, protocol, "begins", "")) for protocol in sorted(YOUNG)),
        ("", (JA, 0, "ring", "")),
        ("begins", (LD_H_ABS, _FLAGS_AT, "", "")),
        ("", (JSET, swap16(NLM_F_CREATE), "ring", "")),
        *_load_status("later"),
        ("", (JSET, _LASTING, "ring", "later")),
        ("connection", None),
        *_load_tcp_state("unstated"),
        *(("", (JEQ, state, "ring", "")) for state in states[:1]),
        ("", (JEQ, SYN_SENT, "unstated", "")),
        ("", (JEQ, SYN_SENT2, "unstated", "")),
        ("", (LD_H_ABS, _FLAGS_AT, "", "")),
        ("", (JSET, swap16(NLM_F_CREATE), "ring", "")),
        ("unstated", None),
        *_load_status("later"),
        ("", (JSET, _OFFLOADED, "ring", "")),
        ("later", (LD_W_ABS, RANDOM, "", "")),
        ("", (JSET, ONE_IN - 1, "", "ring")),
        ("", (RET, 0, "", "")),
        ("ring", (RET, 1, "", "")),
    ]


def _family(rules: Filter, family: int, lists: bool) -> Program:
    destination = DESTINATION_AT[family]
    code: Program = [
        (f"family{family}", (LD_B_ABS, PROTOCOL_AT[family], "", "")),
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
            code += [("", (JEQ, TCP, "", f"foreign{family}"))]
            for offset in PORTS_AT[family]:
                skip = f"port{family}.{offset}"
                code += [("", (LD_H_ABS, offset, "", "")), ("", (JEQ, rules.channel_port, "", skip))]
                code += [("", (RET, 0, "", "")), (skip, None)]
        else:
            code += [("", (RET, 0, "", ""))]
    code += [(f"foreign{family}", None)]
    if lists and rules.networks:
        code += [("", (LDX_IMM, 0, "", "")), *_any_network(rules, family, SOURCE_AT, "s")]
        if rules.include:
            code += _any_network(rules, family, destination, "d")
        code += [*_reply(), *_any_network(rules, family, SOURCE_AT, "r")]
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
        ("", (LD_B_ABS, SOURCE_AT, "", "")),
        ("", (JEQ, 127, "never4", "")),
        ("", (LD_B_ABS, DESTINATION_AT[4], "", "")),
        ("", (JGE, 224, "never4", "usual4")),
        ("never4", (RET, 0, "", "")),
        ("usual4", None),
    ]


def _never6() -> Program:
    code: Program = [("", (LD_B_ABS, DESTINATION_AT[6], "", "")), ("", (JEQ, 0xFF, "never6", ""))]
    for offset in (SOURCE_AT, DESTINATION_AT[6]):
        code += [("", (LD_H_ABS, offset, "", "")), ("", (AND, 0xFFC0, "", ""))]
        code += [("", (JEQ, 0xFE80, "never6", ""))]
    for offset, word in ((12, 1), (8, 0), (4, 0), (0, 0)):  # ::1
        code += [("", (LD_W_ABS, SOURCE_AT + offset, "", ""))]
        code += [("", (JEQ, word, "" if offset else "never6", "usual6"))]
    return [*code, ("never6", (RET, 0, "", "")), ("usual6", None)]


def _reply() -> Program:
    return [("", (LD_B_ABS, ORIGINAL_LENGTH_AT, "", "")), ("", (TAX, 0, "", ""))]


def _any_address(rules: Filter, family: int, tag: str) -> Program:
    """Jump to `own` when the source is a local address. Most addresses differ in their last word."""
    code: Program = []
    for number, address in enumerate(sorted(a for a in rules.local if len(a) == _size(family))):
        skip = f"local{family}{tag}{number}"
        words = list(_words(address))
        for offset, word in reversed(words):
            code += [("", (LD_W_IND, SOURCE_AT + offset, "", "")), ("", (JEQ, word, "", skip))]
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
        ("zones", (LD_IMM, ATTRIBUTES_AT, "", "")),
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
        ("", (JEQ, TCP, "", "state_wanted")),
        *_load_tcp_state("state_wanted"),
        *(("", (JEQ, state, "state_wanted", "")) for state in range(16) if state in rules.tcp_states),
        ("", (JEQ, SYN_SENT, "state_drop", "")),
        ("", (JEQ, SYN_SENT2, "state_drop", "")),
        ("", (LD_H_ABS, TYPE_AT, "", "")),
        ("", (JEQ, swap16(CT_DELETE), "state_wanted", "")),
        ("state_drop", (RET, 0, "", "")),
        ("state_wanted", None),
    ]


def _load_tcp_state(missing: str) -> Program:
    """Load the state, or jump to `missing` where the message does not tell it."""
    steps: list[Instruction] = [(LD_IMM, ATTRIBUTES_AT, "", "")]
    for number, where in ((CTA_PROTOINFO, NLATTR), (PROTOINFO_TCP, NLATTR_NEST), (TCP_STATE, NLATTR_NEST)):
        steps += [(LDX_IMM, number, "", ""), (LD_W_ABS, where, "", ""), (JEQ, 0, missing, "")]
    return [("", step) for step in [*steps, (TAX, 0, "", ""), (LD_B_IND, 4, "", "")]]


def _load_status(missing: str) -> Program:
    """Load the status, or jump to `missing` where the message does not tell it."""
    return [
        ("", (LD_IMM, ATTRIBUTES_AT, "", "")),
        ("", (LDX_IMM, CTA_STATUS, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, missing, "")),
        ("", (TAX, 0, "", "")),
        ("", (LD_W_IND, 4, "", "")),
    ]


def _settled(rules: Filter) -> Program:
    if not rules.settled:
        return []
    return [
        ("", (LD_MEM, 0, "", "")),
        ("", (JEQ, TCP, "opens", "")),
        *(("", (JEQ, protocol, "young", "")) for protocol in sorted(YOUNG)),
        ("", (JA, 0, "accept", "")),
        *_opens(),
        ("young", None),
        *_load_status("accept"),
        ("", (JSET, SETTLED, "accept", "")),
        ("", (LD_IMM, ATTRIBUTES_AT, "", "")),
        ("", (LDX_IMM, CTA_HELP, "", "")),
        ("", (LD_W_ABS, NLATTR, "", "")),
        ("", (JEQ, 0, "", "accept")),
        ("", (RET, 0, "", "")),
    ]


def _opens() -> Program:
    """Accept a connection of TCP whose SYN is answered, and of its end the last states."""
    code: Program = [("opens", None), *_load_status("accept")]
    code += [("", (JSET, CONNECTED, "open", ""))]
    for attribute in TOLD_ONCE:
        code += [("", (LD_IMM, ATTRIBUTES_AT, "", "")), ("", (LDX_IMM, attribute, "", ""))]
        code += [("", (LD_W_ABS, NLATTR, "", "")), ("", (JEQ, 0, "", "accept"))]
    code += [("", (LD_H_ABS, TYPE_AT, "", "")), ("", (JEQ, swap16(CT_DELETE), "ended", ""))]
    code += [*_load_tcp_state("accept"), ("", (JEQ, SYN_RECV, "accept", "unopened")), ("ended", None)]
    code += _load_tcp_state("accept")
    code += [("", (JEQ, SYN_SENT, "unopened", "")), ("", (JEQ, SYN_SENT2, "unopened", "accept"))]
    code += [("open", (LD_H_ABS, TYPE_AT, "", "")), ("", (JEQ, swap16(CT_DELETE), "accept", ""))]
    code += _load_tcp_state("accept")
    code += [("", (JEQ, state, "unopened", "")) for state in CLOSING]
    return [*code, ("", (JA, 0, "accept", "")), ("unopened", (RET, 0, "", ""))]


def _size(family: int) -> int:
    return 4 if family == 4 else 16


def _words(address: bytes) -> Iterator[tuple[int, int]]:
    for offset in range(0, len(address), 4):
        yield offset, int.from_bytes(address[offset : offset + 4], "big")
