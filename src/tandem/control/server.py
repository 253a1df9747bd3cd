# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's side of the control socket: JSON lines over a Unix stream socket, for root only.

A request is one line, `{"command": "failover", "group": "G1"}`; its response is one line,
`{"ok": true, "result": ...}` or `{"ok": false, "error": "sentence"}`. A connection may carry
several requests, one after the other.

Every client is in exactly one of three phases:

    ASKING   the server reads until a line is complete
    WAITING  the handler works on the request; the server neither reads nor writes
    TAKING   the client reads the response; the server only writes

A client therefore never costs more than one request line and one response, and each request of a
pipelined flood gets a turn of the loop. Every phase has a deadline that
progress does not extend: neither a silent nor a trickling client keeps one of the few places.
One timer checks the deadlines once a second, and only while there are clients.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import struct

from tandem.control.requests import REQUESTS

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable
    from typing import Any

    from tandem.loop import Loop

    Response = dict[str, Any]
    Reply = Callable[[Response], None]
    Handler = Callable[[dict[str, str], Reply], None]

MAX_CLIENTS = 8
MAX_REQUEST = 4096  # bytes of one request line, newline included

_ASKING_NS = 10_000_000_000
_WAITING_NS = 60_000_000_000
_TAKING_NS = 5_000_000_000
_SWEEP_NS = 1_000_000_000  # between two checks of the deadlines while there are clients


def parse_request(line: bytes) -> dict[str, str]:
    """Return the request in a line, checked: a known command with arguments that it has.

    Raises ValueError with a sentence for the client.
    """
    try:
        request = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("a request is one line of JSON") from None
    command = request.pop("command", None) if isinstance(request, dict) else None
    if not (isinstance(command, str) and command in REQUESTS):
        raise ValueError(f'a request is an object with a "command" of {", ".join(REQUESTS)}')
    check_arguments(command, request)
    return {"command": command, **request}


def check_arguments(command: str, arguments: dict[str, Any]) -> None:
    """Raise ValueError, with a sentence for the client, unless the command has these arguments."""
    for name, value in arguments.items():
        if name not in REQUESTS[command]:
            raise ValueError(f"{command} does not take the argument {name[:40]!a}")
        if not isinstance(value, str) or not value.isprintable():
            raise ValueError(f"the argument {name} is not plain text")


class _Client:
    __slots__ = ("deadline", "last", "received", "serial", "sock", "unsent", "waiting")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = 0  # ns; the end of the phase
        self.received = b""
        self.unsent = b""  # the rest of the response, while TAKING
        self.serial = 0  # the number of the present request
        self.waiting = False  # whether the phase is WAITING
        self.last = False  # whether the response is the last one


class ControlServer:
    """Serves the control socket on the daemon's loop.

    `handler(request, reply)` gets requests that `parse_request` accepted; it calls `reply` with
    the response once, at once or later. A second reply, or a reply after its client went, is ignored.
    `counters` counts problems; `log` gets the first problem of each kind.

    Raises OSError when the socket can't be made; EADDRINUSE: another tandemd is running.
    """

    def __init__(self, loop: Loop, path: str, handler: Handler, log: Callable[[str], None]) -> None:
        self.counters: dict[str, int] = {}
        self._loop = loop
        self._path = path
        self._handler = handler
        self._log = log
        self._clients: set[_Client] = set()
        self._sweeping = False
        self._lock, self._listener = _listen(path)
        loop.add_reader(self._listener.fileno(), self._acceptable)

    def close(self) -> None:
        """Drop the clients and remove the socket; call it once."""
        for client in tuple(self._clients):
            self._drop(client)
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_at("control", None)
        # Remove the socket before the lock ends: otherwise a successor's socket could be removed.
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass  # somebody tidied up
        self._listener.close()
        os.close(self._lock)

    # Accepting

    def _acceptable(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors: the connection stays in the backlog and would wake the loop for ever.
            self._trouble("control_accept_errors", f"{error.strerror}")
            self._loop.remove_reader(self._listener.fileno())
            self._sweep_later()
            return
        sock.setblocking(False)
        uid: int = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()):
            self._trouble("control_denied", f"user {uid} was denied")
            _dismiss(sock, "only root may control tandemd")
        elif len(self._clients) >= MAX_CLIENTS:
            self._trouble("control_overflow", f"more than {MAX_CLIENTS} clients at once")
            _dismiss(sock, f"tandemd already serves {MAX_CLIENTS} clients, try again")
        else:
            client = _Client(sock)
            self._clients.add(client)
            self._sweep_later()
            self._ask(client)

    # ASKING

    def _ask(self, client: _Client) -> None:
        client.deadline = self._loop.now() + _ASKING_NS
        self._loop.add_reader(client.sock.fileno(), lambda: self._readable(client))
        self._take_line(client)

    def _readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(MAX_REQUEST - len(client.received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.received += data
        self._take_line(client)

    def _take_line(self, client: _Client) -> None:
        line, newline, rest = client.received.partition(b"\n")
        if not newline and len(line) < MAX_REQUEST:
            return
        self._loop.remove_reader(client.sock.fileno())
        client.received = rest
        client.last = not newline
        self._work(client, line)

    # WAITING

    def _work(self, client: _Client, line: bytes) -> None:
        client.serial += 1
        client.waiting = True
        client.deadline = self._loop.now() + _WAITING_NS

        def reply(response: Response, serial: int = client.serial) -> None:
            if client.waiting and client.serial == serial:
                self._respond(client, response)

        if client.last:
            reply(_failure(f"a request has at most {MAX_REQUEST} bytes"))
            return
        try:
            request = parse_request(line)
        except ValueError as error:
            reply(_failure(str(error)))
            return
        self._handler(request, reply)

    # TAKING

    def _respond(self, client: _Client, response: Response) -> None:
        client.waiting = False
        client.unsent = _encode(response)
        client.deadline = self._loop.now() + _TAKING_NS
        self._loop.add_writer(client.sock.fileno(), lambda: self._writable(client))

    def _writable(self, client: _Client) -> None:
        try:
            sent = client.sock.send(client.unsent)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        client.unsent = client.unsent[sent:]
        if client.unsent:
            return
        self._loop.remove_writer(client.sock.fileno())
        if client.last:
            self._drop(client)
        else:
            self._ask(client)

    # Every phase

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_at("control", self._loop.now() + _SWEEP_NS, self._sweep)

    def _sweep(self, now: int) -> None:
        self._sweeping = False
        for client in tuple(self._clients):
            if client.deadline > now:
                continue
            if client.waiting:
                self._respond(client, _failure("tandemd did not finish this in time"))
                continue
            if client.unsent:
                self._trouble("control_slow", "a client did not take its response")
            self._drop(client)
        self._loop.add_reader(self._listener.fileno(), self._acceptable)  # accepting may have been paused
        if self._clients:
            self._sweep_later()

    def _drop(self, client: _Client) -> None:
        fd = client.sock.fileno()
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        client.waiting = False
        client.sock.close()
        self._clients.remove(client)

    def _trouble(self, counter: str, line: str) -> None:
        count = self.counters.get(counter, 0)
        self.counters[counter] = count + 1
        if not count:
            self._log(f"control socket: {line}")


def _failure(sentence: str) -> Response:
    return {"ok": False, "error": sentence}


def _encode(response: Response) -> bytes:
    return json.dumps(response, separators=(",", ":"), default=repr).encode("ascii") + b"\n"


def _dismiss(sock: socket.socket, sentence: str) -> None:
    """Tell a client why it is not served and hang up."""
    try:
        sock.send(_encode(_failure(sentence)))  # the sentence fits into the empty buffer of a new socket
    except OSError:
        pass  # the client hung up first
    sock.close()


def _listen(path: str) -> tuple[int, socket.socket]:
    """Return the lock of this daemon and its listening socket, mode 0600.

    The lock, not the socket, tells a living daemon from a dead one: the kernel releases it
    with the process, and two daemons that start at once can't both replace a stale socket.
    """
    mask = os.umask(0o077)
    lock = -1
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(os.path.dirname(path) or ".", 0o700, exist_ok=True)
        lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "another tandemd is running", path) from None
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
        except FileNotFoundError:
            pass
        os.umask(0o177)
        listener.bind(path)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
    except OSError:
        listener.close()
        if lock >= 0:
            os.close(lock)
        raise
    finally:
        os.umask(mask)
    return lock, listener
