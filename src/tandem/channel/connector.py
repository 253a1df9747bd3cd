# SPDX-License-Identifier: GPL-2.0-or-later
"""Connector: connects to a peer by one path, again and again."""

from __future__ import annotations

import os
import socket

from tandem.channel.peer_socket import Path, begin_connect
from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.loop import Loop

    class Owner(Protocol):
        """The link to a peer, which gets the connections."""

        @property
        def current(self) -> object | None:
            """The session's connection."""

        def wants(self, index: int) -> bool:
            """Whether a connection by this path would be of use."""

        def begin(self, sock: socket.socket, index: int, initiator: bool) -> object:
            """Take a socket that is connected; return the connection."""

        def failed(self, reason: str, detail: str, path: str) -> None:
            """Count and log a failure."""


CONNECT_TIMEOUT = 3 * SECOND
BACKOFF = 500 * MILLISECOND  # after a failure; doubles, up to
BACKOFF_MAX = 10 * SECOND
PROBE = 10 * SECOND  # between attempts on a better path; doubles, up to
PROBE_MAX = 60 * SECOND


class Connector:
    """Connects to a peer by one path, again and again, as long as the link wants it."""

    def __init__(self, link: Owner, loop: Loop, index: int, path: Path) -> None:
        self.path = path
        self._link = link
        self._index = index
        self._loop = loop
        self._sock: socket.socket | None = None  # that is connecting
        self._connection: object | None = None  # that came of it
        self._backoff = 0

    def restart(self, delay: int) -> None:
        """There is no session: try after `delay`."""
        self._backoff = 0
        if self._sock is None and self._connection is None:
            self._again(delay)

    def try_now(self, delay: int) -> None:
        """Try now: an attempt that is under way began when nobody could answer."""
        self._drop()
        self.restart(delay)

    def settle(self) -> None:
        """There is a session: give up, or look for something better at leisure."""
        self._backoff = PROBE
        if self._connection is not None:
            return  # it is the session, or ends as a duplicate
        if self._sock is not None and not self._link.wants(self._index):
            self._drop()
        if self._sock is None:
            self._again(PROBE)

    def ended(self, connection: object, again: bool) -> None:
        """A connection has ended; try `again`."""
        if connection is self._connection:
            self._connection = None
            if again:
                self._failed()

    def stop(self) -> None:
        """Try no more."""
        self._drop()
        self._loop.call_at(self._key, None)

    @property
    def _key(self) -> tuple[str, int]:
        return "conntrack_sync connect", id(self)

    def _again(self, delay: int) -> None:
        # Half the delay more or less at random, so that two routers do not run in step.
        jitter = int.from_bytes(os.urandom(2), "big") / 0xFFFF
        when = self._loop.now() + int(delay * (0.75 + jitter / 2)) + int(jitter * 50 * MILLISECOND)
        self._loop.call_at(self._key, when, self._timer)

    def _timer(self, now: int) -> None:
        if self._sock is not None:
            self._fail("timeout", f"no answer from {self.path}")
            return
        if self._connection is not None or not self._link.wants(self._index):
            return
        try:
            self._sock = begin_connect(self.path)
        except OSError as error:
            self._fail("connect", f"{self.path}: {error.strerror or error}")
            return
        self._loop.add_writer(self._sock.fileno(), self._connected)
        self._loop.call_at(self._key, now + CONNECT_TIMEOUT, self._timer)

    def _connected(self) -> None:
        sock = self._sock
        assert sock is not None
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._fail("connect", f"{self.path}: {os.strerror(error)}")
            return
        self._loop.remove_writer(sock.fileno())
        self._loop.call_at(self._key, None)
        self._sock = None
        if self._link.wants(self._index):
            self._connection = self._link.begin(sock, self._index, initiator=True)
        else:
            sock.close()

    def _fail(self, reason: str, detail: str) -> None:
        self._drop()
        self._link.failed(reason, detail, str(self.path))
        self._failed()

    def _failed(self) -> None:
        if not self._link.wants(self._index):
            return
        probing = self._link.current is not None
        first, last = (PROBE, PROBE_MAX) if probing else (BACKOFF, BACKOFF_MAX)
        self._backoff = min(max(self._backoff * 2, first), last)
        self._again(self._backoff)

    def _drop(self) -> None:
        if self._sock is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._sock = None
