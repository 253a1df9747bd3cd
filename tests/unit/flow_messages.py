# SPDX-License-Identifier: GPL-2.0-or-later
"""Conntrack messages in the order in which the kernel writes them (nf_conntrack_netlink.c)."""

from __future__ import annotations

import socket
import struct

from tandem.nlmsg import NFGENMSG, NLMSGHDR, attribute

NEW, DELETE = 0x100, 0x102
AF = {4: socket.AF_INET, 6: socket.AF_INET6}


def nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | 0x8000, b"".join(parts))


def direction(
    kind: int, protocol: int, source: bytes, destination: bytes, ports: tuple[int, int], zone: int = 0
) -> bytes:
    """A tuple; for ICMP the first port is the id."""
    first = 1 if len(source) == 4 else 3
    inner = [attribute(1, bytes([protocol]))]
    if protocol in (1, 58):
        base = 4 if protocol == 1 else 7
        inner += [attribute(base, struct.pack("!H", ports[0])), attribute(base + 1, b"\x08")]
        inner += [attribute(base + 2, b"\0")]
    elif protocol in (6, 17, 33, 47, 132, 136):
        inner += [
            attribute(number, struct.pack("!H", port)) for number, port in zip((2, 3), ports, strict=True)
        ]
    parts = [nest(1, attribute(first, source), attribute(first + 1, destination)), nest(2, *inner)]
    if zone:
        parts.append(attribute(3, struct.pack("!H", zone)))
    return nest(kind, *parts)


def event(
    source: bytes,
    destination: bytes,
    *,
    reply: tuple[bytes, bytes] | None = None,
    protocol: int = 6,
    ports: tuple[int, int] = (40000, 443),
    state: int | None = None,
    zone: int = 0,
    one_way_zone: int = 0,
    kind: int = NEW,
    port: int = 0,
    status: int = 0x18A,
    helper: bytes = b"",
    flags: int = 0x600,
    labels: bool = False,
) -> bytes:
    """`reply`: its source and destination; `port`: the netlink port id of who has made the change."""
    back = reply or (destination, source)
    body = NFGENMSG.pack(AF[4 if len(source) == 4 else 6], 0, 0)
    body += direction(1, protocol, source, destination, ports, one_way_zone)
    body += direction(2, protocol, *back, (ports[1], ports[0]))
    if zone:
        body += attribute(18, struct.pack("!H", zone))
    body += attribute(12, b"\1\2\3\4") + attribute(3, struct.pack("!I", status))
    if helper:
        body += nest(5, attribute(1, helper + b"\0"))
    if kind != DELETE:
        body += attribute(7, struct.pack("!I", 300))
    if state is not None:
        body += nest(4, nest(1, attribute(1, bytes([state])), attribute(2, b"\7"), attribute(3, b"\7")))
    if labels:
        body += attribute(22, bytes(15) + b"\1")
    return NLMSGHDR.pack(16 + len(body), kind, flags, 0, port) + body
