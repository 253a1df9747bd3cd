# SPDX-License-Identifier: GPL-2.0-or-later
"""Captured ctnetlink messages, and a reader of attributes that shares nothing with Tandem's."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

from tandem.nlmsg import NLATTR

DATA = Path(__file__).parent / "data" / "conntrack.txt"
_LABELS = 22  # CTA_LABELS
NATIVE = "<" if sys.byteorder == "little" else ">"


def vectors(source: str = "") -> list[tuple[str, bytes]]:
    """(case, message) in the order of capture: all, or those of one source, event or dump.

    As this machine's kernel would say it: captured they were on a little-endian one.
    """
    found = []
    for line in DATA.read_text().splitlines():
        if not line.startswith("#"):
            case, kind, text = line.split("\t")
            if source in ("", kind):
                found.append((case, reordered(bytes.fromhex(text), "<", NATIVE)))
    return found


def reordered(message: bytes, of: str, to: str) -> bytes:
    """The message with its headers in another byte order (as struct calls it, "<" or ">")."""
    header = struct.pack(f"{to}IHHII", *struct.unpack_from(f"{of}IHHII", message))
    expectation = struct.unpack_from(f"{of}H", message, 4)[0] >> 8 == 2
    return header + message[16:20] + _attributes(message[20:], of, to, () if expectation else (_LABELS,))


def _attributes(data: bytes, of: str, to: str, numbers: tuple[int, ...] = ()) -> bytes:
    """`numbers`: types of attributes whose value is a number in the machine's order."""
    made = b""
    while data:
        length, kind = struct.unpack_from(f"{of}HH", data)
        value, padding = data[4:length], data[length : length + -length % 4]
        if kind & 0x8000:
            value = _attributes(value, of, to)
        elif kind in numbers and of != to:
            value = value[::-1]
        made += struct.pack(f"{to}HH", length, kind) + value + padding
        data = data[length + len(padding) :]
    return made


def subsystem(message: bytes) -> int:
    """1: of a flow, 2: of an expectation."""
    return int(struct.unpack_from("=H", message, 4)[0]) >> 8


def tree(data: bytes) -> dict[int, Any]:
    """Attributes by type, those with NLA_F_NESTED opened."""
    found: dict[int, Any] = {}
    while data:
        length, kind = NLATTR.unpack_from(data)
        value = data[4:length]
        found[kind & 0x3FFF] = tree(value) if kind & 0x8000 else value
        data = data[length + -length % 4 :]
    return found


def pack(attributes: dict[int, Any]) -> bytes:
    """Attributes as bytes, which `tree` reads."""
    data = b""
    for kind, value in attributes.items():
        if isinstance(value, dict):
            kind, value = kind | 0x8000, pack(value)
        data += NLATTR.pack(len(value) + 4, kind) + value + bytes(-len(value) % 4)
    return data


def with_attributes(message: bytes, attributes: dict[int, Any]) -> bytes:
    """The message with other attributes."""
    data = message[:20] + pack(attributes)
    return struct.pack("=I", len(data)) + data[4:]


def translated(message: bytes) -> bytes:
    """The dump of the entry that a restore message makes: its NAT is in the reply tuple."""
    parts = tree(message[20:])
    for kind, address, ports in ((6, (2, 4), (3, 4, 7)), (13, (1, 3), (2,))):
        nat = parts.pop(kind, None)
        if nat:
            ip, proto = parts[2][1], parts[2][2]
            ip[address[0] if address[0] in ip else address[1]] = nat[1] if 1 in nat else nat[4]
            for port in ports:
                if port in proto and not (port == 3 and 4 in proto):
                    proto[port] = nat[3][1]
    return with_attributes(message, parts)
