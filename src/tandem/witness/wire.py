# SPDX-License-Identifier: GPL-2.0-or-later
"""The datagrams between a router and a Tandem witness.

    magic | version | kind | cluster | node | nonce | number | duration | count | items | MAC (16 bytes)

An item of a request is flags, length and name of a group; an answer has one byte for each item, in the same
order. A group that a router does not ask for any more is free.

Routers that have a secret in common are a cluster. The cluster's id is made of the secret, and does not show
it. The MAC is keyed BLAKE2b over all before it, with a key for each direction. A router that is new to the
witness gets a nonce first (CHALLENGE), which its requests have to carry, with a number that only grows. So
the witness takes no datagram twice, and none of an earlier life of itself or of the router. The answer
repeats node and number. All numbers are in network byte order.
"""

from __future__ import annotations

from _operator import _compare_digest as same  # see channel/frames.py
from dataclasses import dataclass
from struct import Struct

from tandem.channel.frames import MAC_SIZE, NODE_SIZE, NONCE_SIZE

try:  # see channel/frames.py
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

MAGIC, VERSION = b"TNDW", 1
PORT = 3781
REQUEST, ANSWER, CHALLENGE = 1, 2, 3
WANTS, HOLDS = 1, 2  # flags of a group in a request: asks for the vote; has it
NOBODY = bytes(NONCE_SIZE)  # the nonce of a router that has none yet
GROUPS_MAX = 64
NAME_MAX = 64  # bytes
_HEAD = Struct(f"!4sBB8s{NODE_SIZE}s{NONCE_SIZE}sQIB")
DATAGRAM_MAX = _HEAD.size + GROUPS_MAX * (2 + NAME_MAX) + MAC_SIZE


@dataclass(frozen=True, slots=True)
class Message:
    """A datagram of either direction."""

    kind: int
    cluster: bytes
    node: bytes  # of the router, new whenever its daemon starts
    nonce: bytes
    number: int
    duration_ms: int = 0  # of the lease, in an answer
    groups: tuple[tuple[int, bytes], ...] = ()  # of a request: flags and name
    granted: tuple[bool, ...] = ()  # of an answer


def cluster_of(secret: bytes) -> bytes:
    """Return the id of the routers with this secret."""
    return blake2b(key=secret, person=b"tandem cluster", digest_size=8).digest()


def pack(message: Message, secret: bytes) -> bytes:
    """Return the datagram."""
    items = message.groups if message.kind == REQUEST else message.granted
    data = _HEAD.pack(
        MAGIC,
        VERSION,
        message.kind,
        message.cluster,
        message.node,
        message.nonce,
        message.number,
        message.duration_ms,
        len(items),
    )
    for flags, name in message.groups:
        data += bytes((flags, len(name))) + name
    data += bytes(message.granted)
    return data + _mac(data, message.kind, secret)


def cluster_in(datagram: bytes) -> bytes:
    """Return the cluster that a datagram names, unchecked; b"" when it is no datagram of ours."""
    if len(datagram) < _HEAD.size + MAC_SIZE or datagram[:5] != MAGIC + bytes((VERSION,)):
        return b""
    return datagram[6:14]


def unpack(datagram: bytes, secret: bytes, request: bool) -> Message | None:
    """Return what is in a request, or in an answer; None: it is malformed, or not made with this secret."""
    if not cluster_in(datagram):
        return None
    data = datagram[:-MAC_SIZE]
    _, _, kind, cluster, node, nonce, number, duration, count = _HEAD.unpack_from(data)
    if (kind == REQUEST) is not request or not same(datagram[-MAC_SIZE:], _mac(data, kind, secret)):
        return None
    rest = data[_HEAD.size :]
    groups: list[tuple[int, bytes]] = []
    granted: tuple[bool, ...] = ()
    if request:
        for _ in range(count):
            if len(rest) < 2 or not 1 <= rest[1] <= NAME_MAX or len(rest) < 2 + rest[1]:
                return None
            groups.append((rest[0], rest[2 : 2 + rest[1]]))
            rest = rest[2 + rest[1] :]
    else:
        granted, rest = tuple(byte == 1 for byte in rest[:count]), rest[count:]
    if rest or len(groups) > GROUPS_MAX or (not request and len(granted) != count):
        return None
    return Message(kind, cluster, node, nonce, number, duration, tuple(groups), granted)


def _mac(data: bytes, kind: int, secret: bytes) -> bytes:
    direction = b"tandem asks" if kind == REQUEST else b"tandem answers"
    return blake2b(data, key=secret, person=direction, digest_size=MAC_SIZE).digest()
