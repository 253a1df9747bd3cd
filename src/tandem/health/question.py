# SPDX-License-Identifier: GPL-2.0-or-later
"""Question: something is asked over a socket, and answered within a timeout; an Attempt of probe.py."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop


class Answer:
    """The result of one try; its text says for people what was seen."""

    __slots__ = ("_text", "ok", "timed_out")

    def __init__(self, text: str, ok: bool = False, timed_out: bool = False) -> None:
        self.ok = ok
        self.timed_out = timed_out
        self._text = text

    def __str__(self) -> str:
        return self._text


class Question(ABC):
    """One question at a time to a host; a kind of question has `_ask`, and calls `_end` with its answer."""

    def __init__(
        self, loop: Loop, timeout: int, host: str, port: int = 0, source: str = "", device: str = ""
    ) -> None:
        """`timeout`: ns. `source` and `device`: the address and the interface to ask from, if not empty."""
        self._loop = loop
        self._timeout = timeout
        self._host = host
        self._port = port
        self._source = source
        self._device = device
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket: socket.socket | None = None
        self._tell: Callable[[Answer], None] | None = None
        self._key = ("ask", id(self))

    def start(self, ended: Callable[[Answer], None]) -> bool:
        """Ask; a question that can't be asked has a bad answer."""
        self._tell = ended
        try:
            self._ask()
        except OSError as error:
            self.stop()
            answer = Answer(error.strerror or str(error))
            self._loop.call_at(self._key, self._loop.now(), lambda _now: self._end(answer))
        else:
            self._loop.call_at(self._key, self._loop.now() + self._timeout, self._late)
        return True

    def stop(self) -> None:
        """Ask no more."""
        self._loop.call_at(self._key, None)
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    @abstractmethod
    def _ask(self) -> None:
        """Ask. OSError: that is not possible."""

    def _open(self, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket, which `stop` closes, from the source and on the device. OSError."""
        sock = socket.socket(self._family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        self._socket = sock
        if self._device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
        if self._source:
            sock.bind((self._source, 0))
        return sock

    def _late(self, _now: int) -> None:
        self._end(Answer("no answer", timed_out=True))

    def _end(self, answer: Answer) -> None:
        self.stop()
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(answer)

    def _failed(self, error: OSError) -> None:
        self._end(Answer(error.strerror or str(error)))
