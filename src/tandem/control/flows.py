# SPDX-License-Identifier: GPL-2.0-or-later
"""Replicated flows for people: a record's key and body as named values, and as a line like `conntrack -L`.

The daemon sends records as it holds them; only the command line decodes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from tandem.conntrack.record import (
    DNAT,
    EXPECTATION,
    EXPECTED,
    FIXED_SIZE,
    ICMP,
    IPPROTO_TCP,
    IPS_ASSURED,
    IPS_SEEN_REPLY,
    IPV6,
    MARK,
    SNAT,
    T_DCCP,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_SCTP,
    T_ZONE,
    TCP,
    TCP_AT,
    TCP_SIZE,
    TIMEOUT_AT,
    tail,
    valid,
)
from tandem.limits import TCP_STATES

Flow = dict[str, Any]

_PROTOCOLS = {
    1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "icmpv6", 132: "sctp", 136: "udplite",
}  # fmt: skip
_GRE = 47
_WITH_PORTS = (6, 17, 33, 132, 136)
_ICMP = (1, 58)
# enum sctp_conntrack, ct_dccp_states
_SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
)  # fmt: skip
_DCCP_STATES = (
    "NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID",
)  # fmt: skip
# ICMP types of questions and their answers (nf_conntrack_proto_icmp.c, nf_conntrack_proto_icmpv6.c)
_ANSWERS = {1: {8: 0, 13: 14, 15: 16, 17: 18}, 58: {128: 129, 139: 140}}


def decode(key: bytes, body: bytes) -> Flow:
    """Return the named values of a flow or an expectation; ValueError: the record is neither."""
    if not valid(key, body):
        raise ValueError("no record of this version")
    if body[0] == EXPECTATION:
        return _expectation(key, body)
    kind, protocol = body[0], key[3]
    status = int.from_bytes(body[1:3], "big")
    flow: Flow = {
        "family": f"ipv{key[2]}",
        "protocol": _PROTOCOLS.get(protocol, "unknown"),
        "number": protocol,
        "timeout_s": int.from_bytes(body[TIMEOUT_AT : TIMEOUT_AT + 4], "big"),
    }
    rare = tail(body)
    if state := _state(protocol, body, rare):
        flow["state"] = state
    flow |= {
        "original": _tuple(protocol, key[4:]),
        "reply": _tuple(protocol, _reply(key, body)),
        "replied": bool(status & IPS_SEEN_REPLY),
        "assured": bool(status & IPS_ASSURED),
        "nat": [name for bit, name in ((SNAT, "snat"), (DNAT, "dnat")) if kind & bit],
        "mark": int.from_bytes(body[_mark_at(kind) : _mark_at(kind) + 4], "big") if kind & MARK else 0,
    }
    if zone := int.from_bytes(key[:2], "big"):
        flow["zone"] = zone
    if one := rare.get(T_ZONE):
        flow["zone_original" if one[0] == 1 else "zone_reply"] = int.from_bytes(one[1:], "big")
    if helper := rare.get(T_HELPER):
        flow["helper"] = helper.decode("ascii", "backslashreplace")
    if labels := rare.get(T_LABELS):
        flow["labels"] = labels.hex()
    if master := rare.get(T_MASTER):
        flow["master"] = _tuple(master[3], master[4:])
    return flow


def line(flow: Flow) -> str:
    """Return the flow as a line of `conntrack -L`; values that conntrack does not show come last."""
    words = [f"{flow['protocol']:<8} {flow['number']} {flow['timeout_s']}"]
    if flow.get("expected"):
        words = ["expect", *words, *_words(flow["original"])]
        words += [f"master-{word}" for word in _words(flow["master"])]
    else:
        words += [flow["state"]] if "state" in flow else []
        words += _words(flow["original"])
        words += [] if flow["replied"] else ["[UNREPLIED]"]
        words += _words(flow["reply"])
        words += ["[ASSURED]"] if flow["assured"] else []
        words.append(f"mark={flow['mark']}")
    for name in ("zone", "zone_original", "zone_reply", "helper", "labels"):
        if flow.get(name):
            words.append(f"{name.replace('_', '-')}={flow[name]}")
    if not flow.get("expected") and "master" in flow:
        words += [f"master-{word}" for word in _words(flow["master"])]
    return " ".join(words)


def _words(side: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in side.items())


def _state(protocol: int, body: bytes, rare: Mapping[int, bytes]) -> str | None:
    if protocol == IPPROTO_TCP:
        return TCP_STATES[body[TCP_AT]] if body[TCP_AT] else "UNKNOWN"  # an offloaded flow has no state
    for type_, names in ((T_SCTP, _SCTP_STATES), (T_DCCP, _DCCP_STATES)):
        if type_ in rare:
            number = rare[type_][0]
            return names[number] if number < len(names) else str(number)
    return None


def _mark_at(kind: int) -> int:
    return TCP_AT + (TCP_SIZE if kind & TCP else 0)


def _tuple(protocol: int, packed: bytes) -> dict[str, Any]:
    """Return the values of a tuple: two addresses and 4 bytes, as at the end of a key."""
    size = (len(packed) - 4) // 2
    source, destination, rest = packed[:size], packed[size : 2 * size], packed[2 * size :]
    found: dict[str, Any] = {"src": str(ip_address(source)), "dst": str(ip_address(destination))}
    first, second = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:], "big")
    if protocol in _ICMP:
        found |= {"type": rest[0], "code": rest[1], "id": second}
    elif protocol == _GRE:
        found |= {"srckey": f"{first:#x}", "dstkey": f"{second:#x}"}
    elif protocol in _WITH_PORTS:
        found |= {"sport": first, "dport": second}
    return found


def _reply(key: bytes, body: bytes) -> bytes:
    """Return the packed reply tuple: the original one reversed, with the changes that NAT has made."""
    kind, protocol = body[0], key[3]
    size = 16 if kind & IPV6 else 4
    source, destination, rest = key[4 : 4 + size], key[4 + size : 4 + 2 * size], key[4 + 2 * size :]
    from_port, to_port = (rest[2:], rest[2:]) if kind & ICMP else (rest[2:], rest[:2])
    at = FIXED_SIZE[kind]
    if kind & DNAT:
        at -= size + 2
        destination, from_port = body[at : at + size], body[at + size : at + size + 2]
    if kind & SNAT:
        at -= size + 2
        source, to_port = body[at : at + size], body[at + size : at + size + 2]
    if kind & ICMP:
        answer = _ANSWERS[protocol].get(rest[0], rest[0])
        return destination + source + bytes((answer, rest[1])) + to_port
    return destination + source + from_port + to_port


def _expectation(key: bytes, body: bytes) -> Flow:
    size = 12 if key[2] == 4 | EXPECTED else 36
    helper = body[17 + 2 * size :].split(b"\0")[0]
    flow: Flow = {
        "expected": True,
        "family": f"ipv{key[2] & ~EXPECTED}",
        "protocol": _PROTOCOLS.get(key[3], "unknown"),
        "number": key[3],
        "timeout_s": int.from_bytes(body[1:5], "big"),
        "original": _tuple(key[3], key[4 : 4 + size]),
        "mask": _tuple(key[3], body[13 : 13 + size]),
        "master": _tuple(key[-1], key[4 + size : -1]),
    }
    if zone := int.from_bytes(key[:2], "big"):
        flow["zone"] = zone
    if helper:
        flow["helper"] = helper.decode("ascii", "backslashreplace")
    return flow
