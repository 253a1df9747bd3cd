# SPDX-License-Identifier: GPL-2.0-or-later
"""A peer that knows the secret and says whatever a test wants: frames sealed by hand on a real session."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from types import TracebackType

from tandem.channel.events import Authenticated
from tandem.channel.frames import (
    ACK,
    BULK,
    BULK_BEGIN,
    BULK_END,
    DIGEST,
    HEARTBEAT,
    RECORDS,
    RESYNC,
    STREAM,
    TOPIC,
    pack_records,
)
from tandem.channel.session import OPENED, Session
from tandem.channel.settings import MINUTE, Settings
from tandem.channel.stream import BULK_BEGIN_BODY, BULK_END_BODY, POSITION, STREAM_BODY
from tandem.conntrack.record import (
    EXPECTATION,
    FIXED_SIZE,
    ICMP,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPV6,
    NEW,
    T_HELPER,
    T_MASTER,
    TAIL,
    TAIL_SIZES,
    TCP,
    ZONED,
    Record,
    pack_tail,
)
from tests.lab import Router
from tests.property.replication_link import Table

Frame = tuple[int, int, bytes]
ON, ADOPTED = 1, 2


def connect(address: str, timeout: float, source: str = "") -> socket.socket:
    """A connection to the channel of a router, with the hop limit of a neighbour."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
    sock.settimeout(timeout)
    try:
        sock.bind((source, 0))
        sock.connect((address, 3780))
    except OSError:
        sock.close()
        raise
    return sock


class Rogue:
    """A session with the daemon at `address`, from the namespace of `router`. OSError when it is refused.

    It need not give signs of life: its heartbeats are said to come once a minute.
    """

    def __init__(self, router: Router, address: str, secret: str, timeout: float = 5) -> None:
        self._sock = router.enter(lambda: connect(address, timeout))
        secrets = {1: secret.encode()}
        settings = Settings(secrets, key_id=1, node=os.urandom(8), router_id="rogue", heartbeat=MINUTE)
        self._session = Session(True, settings, os.urandom(16), (Table(), Table()), time.monotonic_ns())
        try:
            while self._session.state is not OPENED:
                self._flush()
                data = self._sock.recv(4096)
                if not data:
                    raise ConnectionResetError("refused")
                now = time.monotonic_ns()
                if any(isinstance(event, Authenticated) for event in self._session.receive_data(data, now)):
                    self._session.open(now)
            self._flush()
        except BaseException:
            self._sock.close()
            raise
        self._sock.setblocking(False)

    def __enter__(self) -> Rogue:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._sock.close()

    def _flush(self) -> None:
        self._sock.sendall(self._session.data_to_send(time.monotonic_ns()))

    def hear(self) -> bool:
        """Take, unread, what the daemon says; False when it has closed the connection."""
        try:
            while data := self._sock.recv(1 << 16):
                assert data
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def say(self, *frames: Frame, timeout: float = 5) -> None:
        """Send them. OSError when the daemon has had enough."""
        seal = self._session._seal
        assert seal is not None
        data = memoryview(b"".join(seal.make(*frame) for frame in frames))
        until = time.monotonic() + timeout
        while data:
            if not self.hear() or time.monotonic() > until:
                raise ConnectionResetError("closed")
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                select.select([self._sock], [self._sock], [], max(0.0, until - time.monotonic()))


def stream(position: int = 0, generation: int = 1, flags: int = ON, basis: int = 0) -> Frame:
    return STREAM, 0, STREAM_BODY.pack(flags, position, generation, basis)


def records(found: list[Record], position: int = 0, flags: int = BULK) -> Iterator[Frame]:
    for packed in pack_records(found):
        yield RECORDS, flags, POSITION.pack(position) + packed


def bulk(found: list[Record], generation: int = 2, position: int = 0) -> Iterator[Frame]:
    """A whole bulk."""
    yield BULK_BEGIN, 0, BULK_BEGIN_BODY.pack(generation)
    for start in range(0, len(found), 512):
        yield from records(found[start : start + 512], position)
    yield BULK_END, 0, BULK_END_BODY.pack(position, generation, len(found)) + bytes(5)


def record(chance: random.Random) -> Record:
    """A record of the right shape with random values; the kernel will refuse it."""
    kind = chance.randrange(0, 256)
    v6 = bool(kind & IPV6)
    size = 16 if v6 else 4
    icmp = IPPROTO_ICMPV6 if v6 else IPPROTO_ICMP
    others = [number for number in range(256) if number not in (icmp, IPPROTO_TCP)]
    if kind & TCP:
        kind &= ~ICMP
    if kind == EXPECTATION or chance.random() < 0.1:
        tuples = [chance.randbytes(2 * size + 4) for _ in range(4)]
        key = bytes((0, chance.randrange(2), 0x46 if v6 else 0x44, chance.choice((6, 17))))
        names = b"\0".join((chance.choice((b"ftp", b"sip", b"Q.931", b"x")), chance.choice((b"", b"x")), b""))
        numbers = chance.randbytes(12 if chance.random() < 0.5 else 4).rjust(12, b"\0")
        body = b"\xff" + numbers + tuples[2] + bytes(4) + tuples[3] + names
        return NEW, key + tuples[0] + tuples[1] + b"\6", body
    protocol = IPPROTO_TCP if kind & TCP else icmp if kind & ICMP else chance.choice(others)
    zone = chance.randrange(1, 4) if kind & ZONED else 0
    key = struct.pack("!HBB", zone, 6 if v6 else 4, protocol) + chance.randbytes(2 * size + 4)
    body = bytearray(chance.randbytes(FIXED_SIZE[kind]))
    body[:3] = kind, 0, 8 | chance.randrange(8)
    body[3:7] = struct.pack("!I", chance.choice((1, 30, 432000, 0xFFFFFFFF)))
    if kind & TCP:
        body[7:10] = chance.randrange(10), chance.randrange(15), chance.randrange(15)
    rare: dict[int, bytes] = {}
    if kind & TAIL:
        for number, length in TAIL_SIZES.items():
            if chance.random() < 0.3:
                rare[number] = chance.randbytes(length)
        if 9 in rare:
            rare[9] = bytes((chance.randrange(1, 3),)) + rare[9][1:]
        if chance.random() < 0.3:
            rare[T_HELPER] = chance.choice((b"ftp", b"sip", b"none%d" % chance.randrange(1000)))
        if chance.random() < 0.3:
            rare[T_MASTER] = key[:4] + chance.randbytes(len(key) - 4)
    return NEW, key, bytes(body) + pack_tail(rare)


def nonsense(chance: random.Random) -> Iterator[Frame]:
    """Frames for a session, more and more foolish ones."""
    position = 0
    yield stream(generation=chance.randrange(1 << 32), flags=chance.choice((ON, ON | ADOPTED)))
    for _ in range(chance.randrange(1, 60)):
        what = chance.randrange(9)
        if what < 2:
            found = {made[1]: made for made in (record(chance) for _ in range(chance.randrange(200)))}
            yield from bulk([*found.values()], chance.randrange(1, 1 << 32), position)
        elif what == 2:
            position += chance.choice((0, 1, 1000, 1 << 40))
            ops = [(chance.randrange(chance.choice((5, 256))), *record(chance)[1:]) for _ in range(30)]
            flags = chance.choice((0, 0, 0, 2, 2, BULK))
            yield from records([*{op[1]: op for op in ops}.values()], position, flags)
        elif what == 3:
            code = bytes((chance.randrange(256),))
            yield from [(RESYNC, 0, code)] * chance.randrange(1, 500)
        elif what == 4:
            yield from [(HEARTBEAT, 0, chance.randbytes(4))] * chance.randrange(1, 500)
        elif what == 5:
            wrong = chance.random() < 0.1
            yield ACK, 0, struct.pack("!QII", wrong, wrong and chance.randrange(3), chance.randrange(9))
        elif what == 6:
            digest = struct.pack("!IB", chance.randrange(1 << 32), 8) + chance.randbytes(8)
            yield DIGEST, 0, POSITION.pack(position) + digest
        elif what == 7:
            topic = chance.choice((b"dhcp", b"doctor", b"x%d" % chance.randrange(10_000)))
            yield TOPIC, 0, bytes((len(topic),)) + topic + chance.randbytes(chance.choice((0, 9, 16_000)))
        else:
            yield stream(position, chance.randrange(9), chance.choice((ON, ON, ON | ADOPTED)), position)
            if chance.random() < 0.1:
                yield stream(position, flags=0)
    yield chance.randrange(256), chance.randrange(256), chance.randbytes(chance.randrange(300))
    yield 200, 0, b""  # which no version knows
