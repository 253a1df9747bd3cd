# SPDX-License-Identifier: GPL-2.0-or-later
"""A connection to ubusd through libubus, on which nothing waits for ever; ubus.py says what is promised."""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import socket
import time
from ctypes import byref

from tandem.openwrt import libubus as lib
from tandem.openwrt.ubus_guard import ConnectingWatchdog, OwnSignals, Watchdog, await_hello, ready
from tandem.openwrt.ubus_object import UbusError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Callable
    from typing import Any

SOCKETS = ("/var/run/ubus/ubus.sock", "/var/run/ubus.sock")  # since 21.02; before

_SEND_BUFFER = 4 << 20  # bytes; the largest message then always fits into a socket that polls writable
_SO_SNDBUFFORCE = 31 if os.uname().machine.startswith("mips") else 32  # asm/socket.h


def socket_path() -> str:
    """Return the path at which ubusd listens, or would listen."""
    return next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])


class UbusConnection:
    """One connection to ubusd; a synchronous call on it ends within `timeout` seconds."""

    def __init__(self, path: str | None, timeout: float, library: str | None) -> None:
        """Load libubus; OSError when there is none."""
        self.timeout = timeout
        self.library = lib.load(library)
        self.context: int | None = None
        self.serial = 0  # the number of the connection
        self.unread = False  # whether something was sent that ubusd may not have read yet
        self.on_end: Callable[[], None] = lambda: None  # before the descriptor of a connection is closed
        self._path = path
        self._sock: lib.UloopFd
        self._socket: socket.socket  # a second descriptor of the connection
        self._errors: list[BaseException] = []  # raised by callbacks
        self._depth = 0  # nested calls into libubus
        self._stopping = False
        self._watchdogs: list[Watchdog] = []  # their threads may not have ended yet

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known: its end may not have been noticed yet."""
        return self.context is not None

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 while not connected."""
        return self._socket.fileno() if self.context is not None else -1

    def connect(self, greeted: bool = False) -> None:
        """Connect to ubusd. UbusError when ubusd is not there, or does not answer in time.

        `greeted`: the caller knows already that ubusd answers (`await_hello`).
        """
        if self.context is not None:
            return
        path = self._path or socket_path()
        if not greeted:
            await_hello(path, self.timeout)
        watchdog = ConnectingWatchdog(self.timeout)
        with OwnSignals(), watchdog:
            context = self.library.ubus_connect(path.encode())
        self._watchdogs.append(watchdog)
        if not context:
            self._join()
            raise UbusError(lib.TIMEOUT if watchdog.expired else lib.CONNECTION_FAILED, path)
        self.context = context
        self.unread = False
        self.serial += 1
        atexit.register(self.disconnect)
        self._sock = lib.Context.from_address(context).sock
        self._socket = socket.socket(fileno=os.dup(self._sock.fd))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        except PermissionError:
            pass  # without the larger buffer a long message may be refused while ubusd is behind

    def disconnect(self) -> None:
        """Leave the bus with all objects. Calls that wait for an answer fail.

        Everything that was sent before arrives. ubusd does not read the rest of a client that has hung up,
        so this call waits until ubusd has read all, at most for `timeout`.
        """
        if self._depth:
            self._sock.eof = True  # a callback called this: libubus still needs its context
            return
        try:
            if self.unread and self.context is not None:
                self._wait(self.library.ubus_lookup_id, b"", byref(ctypes.c_uint32()))
        finally:
            self._lost()

    def handle(self) -> None:
        """Read one or a few messages that have arrived, and run their callbacks.

        Raises the first exception of the callbacks. Without a connection, or when the connection has ended,
        this does nothing, and `connected` is false.
        """
        if self.context is not None:
            self._enter(lambda: self._sock.cb(ctypes.addressof(self._sock), 1))

    def loop(self, timeout: float | None = None) -> None:
        """Handle messages for `timeout` seconds, until `stop()`, or until the connection ends.

        With 0: handle the messages that are there. The call may last longer while more messages come.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self._stopping = False
        while self.context is not None and not self._stopping:
            wait = None if end is None else max(0.0, end - time.monotonic())
            if ready(self._socket, select.POLLIN, wait):
                self.handle()
            elif wait == 0:
                return

    def stop(self) -> None:
        """End `loop()` after the present message."""
        self._stopping = True

    def check_writable(self) -> None:
        """UbusError when ubusd does not read its messages: to send more could block."""
        if self.context is None:
            raise UbusError(lib.CONNECTION_FAILED)
        if not ready(self._socket, select.POLLOUT, 0):
            raise UbusError(lib.TIMEOUT, "ubusd does not read")
        self.unread = True

    # Within

    def _wait(self, function: Any, *arguments: Any, timeout: float | None = None) -> int:
        """Call a function of libubus that waits for ubusd; return the status."""
        if self.context is None:
            raise UbusError(lib.CONNECTION_FAILED)
        self._join()
        watchdog = Watchdog(self._socket, self.timeout if timeout is None else timeout)
        try:
            with watchdog:
                status: int = self._enter(lambda: function(self.context, *arguments))
        finally:
            self._watchdogs.append(watchdog)
            if not self.connected:
                self._join()
        self.unread = False  # ubusd reads one message after the other
        return lib.TIMEOUT if watchdog.expired else status

    def _check_sent(self, status: int, what: str) -> None:
        """UbusError when a message was not sent; libubus answers "invalid argument" if ubusd has gone."""
        if status:
            raise UbusError(lib.CONNECTION_FAILED if self._sock.eof else status, what)

    def _enter(self, function: Callable[[], Any]) -> Any:
        self._depth += 1
        try:
            result = function()
        finally:
            self._depth -= 1
        if not self._depth:
            if self._sock.eof:
                self._lost()
            if self._errors:
                errors, self._errors = self._errors, []
                raise errors[0]
        return result

    def _join(self) -> None:
        """Wait for the threads of earlier watchdogs; nearly always these have ended long before."""
        while self._watchdogs:
            self._watchdogs.pop().join()

    def _lost(self) -> None:
        if self.context is None:
            return
        self._join()
        atexit.unregister(self.disconnect)
        self._guard(self.on_end)
        ended = self._ending()
        self.library.ubus_free(self.context)
        self.context = None
        self._socket.close()
        ended()

    def _ending(self) -> Callable[[], None]:
        """Prepare for the end of the connection; return what is to be done when libubus has let go of it."""
        return lambda: None

    def _guard(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a callback; an exception is kept until libubus has returned."""
        try:
            function(*arguments)
        except BaseException as error:  # noqa: BLE001 - no exception may pass through C
            self._errors.append(error)
