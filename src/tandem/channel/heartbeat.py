# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeat: the datagram by which a router says that it is alive, and what its virtual routers do.

Every path to a peer carries one datagram in each interval:

    head | standing of each virtual router, 3 bytes | MAC (16 bytes)

The head has the number of the beat, which is the same on every path and counts up as long as the daemon runs.
A path takes each number once, and only upwards, so that a datagram which is recorded and sent again is
refused. The MAC is keyed BLAKE2b over the two addresses, the head and the standings. Both routers make the
keys, one for each direction, from the shared secret and both nodes, which the session has told. A node is new
whenever a daemon starts. So the keys outlive the session, and no datagram of an earlier life is accepted.

A standing says nothing of whose it is: a directory, which goes over the session (topic `heartbeat`), has the
names in the same order. The head has the directory's number.
"""

from __future__ import annotations

from _operator import _compare_digest as same  # what hmac.compare_digest is; hmac costs 4 MiB
from struct import Struct

from tandem.channel.frames import MAC_SIZE
from tandem.core.heartbeats import NEVER
from tandem.core.standing import STANDINGS_MAX, Entry

try:  # as in frames.py
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TOPIC = "heartbeat"
VERSION = 1
# Version, node, number, clock, echo, age, interval, lateness, flags, position, directory, standings.
# Echo and age differ from path to path.
HEAD = Struct("!B8sQIIIHHBQIB")
STANDING = 3  # bytes: state and flags, effective priority, faults
_SIZE_MIN = HEAD.size + MAC_SIZE
DATAGRAM_MAX = HEAD.size + STANDING * STANDINGS_MAX + MAC_SIZE

# Flags of the head
GOODBYE = 1  # the sender sends no more heartbeats, and is not dead
HEARS = 2  # the sender hears the receiver's heartbeats by some path
IN_STEP = 4  # the receiver holds all connections of the sender
STALE = 8  # the sender's replication is stale

CLOCK_MAX = 0xFFFFFFFF  # the clock is in µs and wraps
_DIRECTORY = Struct("!BI")  # version, number of the directory
_ENTRY = Struct("!BBBB")  # length of the name, VRID, 4 or 6, length of the address
_NAME_MAX = 96  # bytes: a message has room for STANDINGS_MAX of them

Head = tuple[int, bytes, int, int, int, int, int, int, int, int, int, int]
"""The fields of HEAD."""


def key_of(secret: bytes, sender: bytes, receiver: bytes) -> bytes:
    """Return the key of the datagrams from one node to another."""
    return blake2b(sender + receiver, key=secret, person=b"tandem heartbeat", digest_size=32).digest()


def begun(key: bytes, addresses: bytes) -> blake2b:
    """Return the MAC of a path's datagrams as far as it is the same for all of them.

    `addresses` are the packed ones of source and destination.
    """
    return blake2b(addresses, key=key, digest_size=MAC_SIZE)


def seal(begun: blake2b, data: bytes) -> bytes:
    """Return the datagram."""
    mac = begun.copy()
    mac.update(data)
    return data + mac.digest()


def unseal(begun: blake2b, datagram: bytes, node: bytes) -> Head | None:
    """Return the head of a datagram that `node` has sent; None: it is not one of its heartbeats."""
    if len(datagram) < _SIZE_MIN:
        return None
    head: Head = HEAD.unpack_from(datagram)
    if head[0] != VERSION or head[1] != node or len(datagram) != _SIZE_MIN + STANDING * head[11]:
        return None
    mac = begun.copy()
    mac.update(datagram[:-MAC_SIZE])
    return head if same(datagram[-MAC_SIZE:], mac.digest()) else None


def round_trip(echo: int, age: int, now: int) -> int | None:
    """Return how long a datagram and its echo took, ns; None when nothing of ours was heard.

    `echo` and `age` are those of the head, which came at `now`.
    """
    if age == NEVER:
        return None
    return (now // 1000 - echo - age & CLOCK_MAX) * 1000


def pack_directory(number: int, entries: Iterable[Entry]) -> bytes:
    """Encode the directory."""
    parts = [_DIRECTORY.pack(VERSION, number)]
    for entry in entries:
        name = entry.name.encode()[:_NAME_MAX]
        parts += [_ENTRY.pack(len(name), entry.vrid, entry.family, len(entry.source)), name, entry.source]
    return b"".join(parts)


def unpack_directory(data: bytes) -> tuple[int, tuple[Entry, ...]] | None:
    """Return the number and the entries; None when the message is malformed."""
    if len(data) < _DIRECTORY.size or data[0] != VERSION:
        return None
    _, number = _DIRECTORY.unpack_from(data)
    entries: list[Entry] = []
    at = _DIRECTORY.size
    while at + _ENTRY.size <= len(data):
        length, vrid, family, address = _ENTRY.unpack_from(data, at)
        middle = at + _ENTRY.size + length
        at = middle + address
        if address not in (0, 4 if family == 4 else 16) or len(entries) == STANDINGS_MAX:
            return None
        name = data[middle - length : middle].decode(errors="replace")
        entries.append(Entry(name, vrid, family, data[middle:at]))
    return (number, tuple(entries)) if at == len(data) else None
