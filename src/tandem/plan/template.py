# SPDX-License-Identifier: GPL-2.0-or-later
"""Templates: complete netlink messages in which only the interface indexes are open."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

from tandem.plan.result import Template

IndexOf = Callable[[str], int]

_SENTINEL_BASE = 0x7E5A0001  # a positive int like an ifindex; moved when a message happens to hold it


class EncodeError(ValueError):
    """An option of the configuration has no form in netlink; the text is for people."""


def encode(message: Any, kind: int, flags: int) -> bytes:
    """One pyroute2 message as bytes, with sequence number and port id 0."""
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 0, "pid": 0}
    message.encode()
    return bytes(message.data)


def template(label: str, build: Callable[[IndexOf], bytes]) -> Template:
    """The message that `build` makes, and where in it the index of each interface stands.

    `build` gets a function from interface name to ifindex. It is given numbers that occur
    nowhere else in the message, so that finding them again can't go wrong; otherwise EncodeError.
    """
    for base in range(_SENTINEL_BASE, _SENTINEL_BASE + 64 * 256, 256):
        names: list[str] = []
        numbers = itertools.count(base)

        def index_of(name: str, names: list[str] = names, numbers: itertools.count[int] = numbers) -> int:
            names.append(name)
            return next(numbers)

        message = build(index_of)
        places = [_places(message, base + i) for i in range(len(names))]
        if all(len(found) == 1 for found in places):
            return label, message, tuple((found[0], name) for found, name in zip(places, names, strict=True))
    raise EncodeError(f"{label}: no interface index fits")


def _places(message: bytes, number: int) -> list[int]:
    """Every 4-byte aligned offset at which `number` stands in native byte order."""
    wanted = struct.pack("=I", number)
    return [offset for offset in range(0, len(message) - 3, 4) if message[offset : offset + 4] == wanted]
