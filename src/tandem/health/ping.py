# SPDX-License-Identifier: GPL-2.0-or-later
"""Ping: ICMP echo (RFC 792, RFC 4443), with bounds for its losses and its round trip."""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct

from tandem.core.timers import MILLISECOND
from tandem.health.question import Answer, Question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.loop import Loop

_ECHO = Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


class Ping(Question):
    """`count` echo requests at once. It is good when no more than `loss` percent of them are lost.

    `latency`: the mean round trip that is still good, ns; 0: any.
    """

    def __init__(
        self,
        loop: Loop,
        timeout: int,
        host: str,
        source: str = "",
        device: str = "",
        count: int = 1,
        loss: int = 0,
        latency: int = 0,
    ) -> None:
        super().__init__(loop, timeout, host, 0, source, device)
        self._version = 6 if ":" in host else 4
        self._count = count
        self._loss = loss
        self._latency = latency
        self._sequence = 0
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._waiting: dict[int, int] = {}  # the sequence numbers without an answer, with their time
        self._trips: list[int] = []

    def _ask(self) -> None:
        sock = self._open(socket.SOCK_RAW, _PROTOCOL[self._version])
        code = sock.connect_ex((self._host, 0))
        if code:
            raise OSError(code, os.strerror(code))
        self._trips.clear()
        self._waiting.clear()
        self._loop.add_reader(sock.fileno(), self._readable)
        for _ in range(self._count):
            self._sequence = (self._sequence + 1) & 0xFFFF
            self._waiting[self._sequence] = self._loop.now()
            sock.send(self._echo())

    def _readable(self) -> None:
        assert self._socket is not None  # it is watched
        try:
            packet = self._socket.recv(2048)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._failed(error)
            return
        start = (packet[0] & 15) * 4 if self._version == 4 and packet else 0
        if len(packet) < start + _ECHO.size:
            return
        kind, _, _, identifier, sequence = _ECHO.unpack_from(packet, start)
        if (kind, identifier) != (_REPLY[self._version], self._identifier):
            return
        if (sent := self._waiting.pop(sequence, None)) is not None:
            self._trips.append(self._loop.now() - sent)
        if not self._waiting:
            self._judge()

    def _late(self, _now: int) -> None:
        self._judge()

    def _judge(self) -> None:
        lost = len(self._waiting)
        if not self._trips:
            self._end(Answer("no answer", timed_out=True))
        elif lost * 100 > self._loss * self._count:
            self._end(Answer(f"{lost} of {self._count} lost", timed_out=True))
        elif self._latency and sum(self._trips) > self._latency * len(self._trips):
            self._end(Answer(f"slower than {self._latency / MILLISECOND:g} ms"))
        else:
            self._end(Answer("answers", True))

    def _echo(self) -> bytes:
        head = _ECHO.pack(_REQUEST[self._version], 0, 0, self._identifier, self._sequence)
        if self._version == 6:
            return head  # the kernel fills the checksum in
        total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, len(head), 2))
        total = (total & 0xFFFF) + (total >> 16)
        return _ECHO.pack(_REQUEST[4], 0, ~total & 0xFFFF, self._identifier, self._sequence)
