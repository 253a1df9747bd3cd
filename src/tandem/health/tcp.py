# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP connection: the host accepts it, or at least answers."""

from __future__ import annotations

import errno
import os
import socket

from tandem.health.question import Answer, Question


class Connection(Question):
    """One TCP connection at a time. `refused_counts`: a host that refuses it is reached as well."""

    refused_counts = False

    def _ask(self) -> None:
        sock = self._open(socket.SOCK_STREAM)
        code = sock.connect_ex((self._host, self._port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._loop.add_writer(sock.fileno(), self._writable)

    def _writable(self) -> None:
        assert self._socket is not None  # it is watched
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code and not (self.refused_counts and code == errno.ECONNREFUSED):
            self._end(Answer(os.strerror(code)))
        else:
            self._connected()

    def _connected(self) -> None:
        self._end(Answer("connects", True))


class Reached(Connection):
    """One TCP connection at a time to a host that may also refuse it: the host is there."""

    refused_counts = True
