# SPDX-License-Identifier: GPL-2.0-or-later
"""Expectations of the connection tracking helpers (FTP, SIP, ...): messages to records and back.

A helper has read in one flow, the master, that another one will come, and how it is to be translated.
The kernel demands that the master is there with its helper before its expectations come. It takes the
timeout from the helper's own policy, not from the message.

A helper that has changed the length of what it read adjusts the sequence numbers of the master from then
on. No event says so (Linux 6.18): whoever hears of a new expectation asks for its master's entry
(`master_key`, Builder.get), whose answer has the adjustment.
"""

from __future__ import annotations

from tandem.nlmsg import NFNL_HEADER, NLM_F_CREATE, NLM_F_REQUEST, attribute

from .message import (
    AF_INET,
    AF_INET6,
    MSG_DELETE,
    MSG_NEW,
    SUBSYS_CTNETLINK_EXP,
    Flow,
    Malformed,
    Span,
    attributes,
    nest,
    operation,
    tuple_attribute,
    value,
)
from .record import DESTROY, EXPECTATION, EXPECTED, Record

_MASTER, _TUPLE, _MASK, _TIMEOUT, _HELP_NAME, _ZONE, _FLAGS, _CLASS, _NAT, _FN = (
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
    10,
    11,
)
_NO_NAT = b"\xff\xff\xff\xff"


def parse_expectation(message: bytes) -> Record | None:
    """Return the record in a complete message of the subsystem CTNETLINK_EXP, or None."""
    try:
        return _parse(message)
    except Malformed:
        return None


def master_key(key: bytes) -> bytes:
    """Return the key of the flow that an expectation belongs to."""
    size = (len(key) - 5) // 2
    return key[:2] + bytes((key[2] & ~EXPECTED,)) + key[-1:] + key[4 + size : -1]


def _parse(message: bytes) -> Record | None:
    op = operation(message, SUBSYS_CTNETLINK_EXP)
    if not op:
        return None
    found = attributes(message, 20, len(message))
    if _MASTER not in found or _TUPLE not in found or _MASK not in found:
        return None
    master, flow = Flow(message, found[_MASTER]), Flow(message, found[_TUPLE])
    if master.v6 != flow.v6:
        return None
    zone = value(message, found, _ZONE, 2) if _ZONE in found else b"\0\0"
    family = bytes((EXPECTED | (6 if flow.v6 else 4),))
    key = zone + family + flow.packed() + master.packed()[1:] + master.protocol
    if op == DESTROY:
        return op, key, b""
    mask = Flow(message, found[_MASK])
    if mask.v6 != flow.v6:
        return None
    direction, translated = _NO_NAT, bytes(len(flow.packed()) - 1)
    if _NAT in found:
        nat = attributes(message, *found[_NAT])
        if 2 not in nat:
            return None
        inner = Flow(message, nat[2])
        if inner.v6 != flow.v6:
            return None
        direction, translated = value(message, nat, 1, 4), inner.packed()[1:]
    numbers = b"".join(_u32(message, found, type_) for type_ in (_TIMEOUT, _FLAGS, _CLASS))
    names = b"".join(_name(message, found, type_) + b"\0" for type_ in (_HELP_NAME, _FN))
    body = bytes((EXPECTATION,)) + numbers + mask.packed()[1:] + direction + translated + names
    return op, key, body


def _u32(message: bytes, found: dict[int, Span], type_: int) -> bytes:
    return value(message, found, type_, 4) if type_ in found else b"\0\0\0\0"


def _name(message: bytes, found: dict[int, Span], type_: int) -> bytes:
    if type_ not in found:
        return b""
    start, end = found[type_]
    return message[start:end].split(b"\0")[0][:31]


def expectation_message(key: bytes, body: bytes, sequence: int = 0) -> bytes:
    """Return the message that makes an expectation. The kernel says ENOENT: no master; EEXIST: it exists."""
    end = len(key) - 1
    size = (end - 4) // 2
    family = bytes((key[2] & ~EXPECTED,))
    start, protocol = key[:2] + family, key[3:4]
    mask_at, direction_at = 13, 13 + size
    names = body[direction_at + 4 + size :].split(b"\0")
    data = tuple_attribute(_MASTER, master_key(key))
    data += tuple_attribute(_TUPLE, start + protocol + key[4 : 4 + size])
    data += tuple_attribute(_MASK, start + protocol + body[mask_at:direction_at])
    data += attribute(_TIMEOUT, body[1:5]) + attribute(_FLAGS, body[5:9]) + attribute(_CLASS, body[9:13])
    if start[:2] != b"\0\0":
        data += attribute(_ZONE, start[:2])
    direction = body[direction_at : direction_at + 4]
    if direction != _NO_NAT:
        translated = start + protocol + body[direction_at + 4 : direction_at + 4 + size]
        data += nest(_NAT, attribute(1, direction), tuple_attribute(2, translated))
    for type_, name in zip((_HELP_NAME, _FN), names, strict=False):
        if name:
            data += attribute(type_, name + b"\0")
    type_ = SUBSYS_CTNETLINK_EXP << 8 | MSG_NEW
    af = AF_INET6 if family == b"\6" else AF_INET
    return NFNL_HEADER.pack(20 + len(data), type_, NLM_F_REQUEST | NLM_F_CREATE, sequence, 0, af, 0, 0) + data


def expectation_deletion(key: bytes, sequence: int) -> bytes:
    """Return the message that deletes the expectation of a key. The kernel says ENOENT: there is none."""
    size = (len(key) - 5) // 2
    family = bytes((key[2] & ~EXPECTED,))
    data = tuple_attribute(_TUPLE, key[:2] + family + key[3 : 4 + size])
    if key[:2] != b"\0\0":
        data += attribute(_ZONE, key[:2])
    type_ = SUBSYS_CTNETLINK_EXP << 8 | MSG_DELETE
    af = AF_INET6 if family == b"\6" else AF_INET
    return NFNL_HEADER.pack(20 + len(data), type_, NLM_F_REQUEST, sequence, 0, af, 0, 0) + data
