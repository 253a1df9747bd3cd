# SPDX-License-Identifier: GPL-2.0-or-later
"""Witness hosts: does a ping or a TCP connection reach one of them? A router that reaches none is cut off."""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct

from tandem.core.timers import MILLISECOND, SECOND
from tandem.health.probe import Probe
from tandem.health.rise_fall import RiseFall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.config.schema import Witness
    from tandem.log import Logger
    from tandem.loop import Loop

TIMEOUT = SECOND  # for an answer, or the interval if that is shorter
_ECHO = Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}


class Answer:
    """The result of one question."""

    __slots__ = ("_text", "ok", "timed_out")

    def __init__(self, text: str, ok: bool = False, timed_out: bool = False) -> None:
        self.ok = ok
        self.timed_out = timed_out
        self._text = text

    def __str__(self) -> str:
        return self._text


class Question:
    """One ping or one TCP connection at a time; an Attempt of health/probe.py."""

    def __init__(self, settings: Witness, loop: Loop) -> None:
        self._settings = settings
        self._loop = loop
        self._family = 6 if ":" in settings.address else 4
        self._tcp = settings.kind == "tcp"
        self._sequence = 0
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._socket: socket.socket | None = None
        self._tell: Callable[[Answer], None] | None = None

    def start(self, ended: Callable[[Answer], None]) -> bool:
        """Ask; a question that can't be asked has the answer no."""
        self._tell = ended
        timeout = min(TIMEOUT, self._settings.interval_ms * MILLISECOND - 10 * MILLISECOND)
        try:
            self._ask()
        except OSError as error:
            text = error.strerror or str(error)
            self._loop.call_at(("ask", id(self)), self._loop.now(), lambda _now: self._end(Answer(text)))
        else:
            late = Answer("no answer", timed_out=True)
            self._loop.call_at(("ask", id(self)), self._loop.now() + timeout, lambda _now: self._end(late))
        return True

    def stop(self) -> None:
        """Ask no more."""
        self._loop.call_at(("ask", id(self)), None)
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ask(self) -> None:
        kind = socket.SOCK_STREAM if self._tcp else socket.SOCK_RAW
        self._socket = sock = socket.socket(
            socket.AF_INET6 if self._family == 6 else socket.AF_INET,
            kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            0 if self._tcp else _PROTOCOL[self._family],
        )
        code = sock.connect_ex((self._settings.address, self._settings.port))
        if code not in (0, errno.EINPROGRESS):
            self.stop()
            raise OSError(code, os.strerror(code))
        if self._tcp:
            self._loop.add_writer(sock.fileno(), self._connected)
        else:
            self._sequence = (self._sequence + 1) & 0xFFFF
            self._loop.add_reader(sock.fileno(), self._readable)
            sock.send(self._echo())

    def _end(self, answer: Answer) -> None:
        self.stop()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(answer)

    def _connected(self) -> None:
        assert self._socket is not None  # it is watched
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # A host that refuses the connection is reached as well.
        self._end(Answer(os.strerror(code) if code else "connects", code in (0, errno.ECONNREFUSED)))

    def _readable(self) -> None:
        assert self._socket is not None  # it is watched
        try:
            packet = self._socket.recv(2048)
        except OSError as error:
            self._end(Answer(error.strerror or str(error)))
            return
        start = (packet[0] & 15) * 4 if self._family == 4 and packet else 0
        if len(packet) < start + _ECHO.size:
            return
        kind, _, _, identifier, sequence = _ECHO.unpack_from(packet, start)
        if (kind, identifier, sequence) == (_REPLY[self._family], self._identifier, self._sequence):
            self._end(Answer("answers", True))

    def _echo(self) -> bytes:
        head = _ECHO.pack(_REQUEST[self._family], 0, 0, self._identifier, self._sequence)
        if self._family == 6:
            return head  # the kernel fills the checksum in
        total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, len(head), 2))
        total = (total & 0xFFFF) + (total >> 16)
        return _ECHO.pack(_REQUEST[4], 0, ~total & 0xFFFF, self._identifier, self._sequence)


class Hosts:
    """Asks all hosts; `tell(reachable)` gets whether any is up, when that changes."""

    def __init__(
        self, loop: Loop, log: Logger, settings: Sequence[Witness], tell: Callable[[bool], None]
    ) -> None:
        self._tell = tell
        self._reachable = False
        self._probes = {
            one.name: Probe(
                "witness",
                one.name,
                one.interval_ms * MILLISECOND,
                Question(one, loop),
                RiseFall(1, one.fall, False),
                loop,
                log,
                self._changed,
            )
            for one in settings
        }

    def start(self) -> None:
        """Ask the first time."""
        for probe in self._probes.values():
            probe.start()

    def close(self) -> None:
        """Ask no more."""
        for probe in self._probes.values():
            probe.stop()

    def states(self) -> dict[str, bool]:
        """Return whether each host is up."""
        return {name: bool(probe.up) for name, probe in self._probes.items()}

    def _changed(self, _name: str, _up: bool) -> None:
        reachable = any(self.states().values())
        if reachable != self._reachable:
            self._reachable = reachable
            self._tell(reachable)
