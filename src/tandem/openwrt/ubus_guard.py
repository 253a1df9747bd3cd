# SPDX-License-Identifier: GPL-2.0-or-later
"""Guards against two habits of libubus: it waits for ever, and it replaces signal handlers."""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket

from tandem.openwrt import libubus as lib
from tandem.openwrt.ubus_object import UbusError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from typing import Any

_TAKEN_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGCHLD,
)  # uloop_init sets their handlers if these are SIG_DFL


class Watchdog:
    """Shuts a connection down when the body of the `with` statement lasts longer than `timeout` seconds.

    libubus waits in poll() without a timeout, and waits again after a signal: only the end of the
    connection ends this wait.

    The thread must have ended before the interpreter ends (`join`): otherwise musl's pthread_exit crashes.
    Nobody waits for the thread earlier, because it runs without the daemon's real-time priority.
    (threading.Thread would do the same, for 100 KiB more.)
    """

    def __init__(self, connection: socket.socket | None, timeout: float) -> None:
        self.expired = False
        self._connection = connection
        self._timeout = timeout
        self._finished = _thread.allocate_lock()
        self._running = _thread.allocate_lock()
        self._ended: Any = None  # a lock that the end of the thread releases
        self._handle: Any = None  # the thread, from Python 3.13 on

    def __enter__(self) -> Watchdog:
        self._finished.acquire()
        start: Any = getattr(_thread, "start_joinable_thread", None)
        if start is not None:
            self._handle = start(self._watch)
        else:
            self._running.acquire()
            _thread.start_new_thread(self._watch, ())
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.release()

    def join(self) -> None:
        """Wait for the end of the thread. Call this once, after `__exit__`."""
        if self._handle is not None:
            self._handle.join()
        else:
            self._running.acquire()
            self._ended.acquire()

    def _watch(self) -> None:
        if self._handle is None and (sentinel := getattr(_thread, "_set_sentinel", None)) is not None:
            self._ended = sentinel()  # until Python 3.12
            self._ended.acquire()
            self._running.release()
        if not self._finished.acquire(timeout=self._timeout):
            self.expired = True
            try:
                self._shut()
            except OSError:
                pass  # it had ended already

    def _shut(self) -> None:
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)


class ConnectingWatchdog(Watchdog):
    """Ends an ubus_connect that waits too long for ubusd's hello, by a shutdown of the socket that it opened.

    libubus does not say which socket that is. It is the new one: no other thread of the process opens any.
    """

    def __init__(self, timeout: float) -> None:
        super().__init__(None, timeout)
        self._before = set(os.listdir("/proc/self/fd"))

    def _shut(self) -> None:
        for name in set(os.listdir("/proc/self/fd")) - self._before:
            try:
                with socket.socket(fileno=os.dup(int(name))) as opened:
                    if opened.family == socket.AF_UNIX:
                        opened.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # no socket, or closed again


class OwnSignals:
    """Keeps uloop_init from replacing default signal handlers: during the block no handler is the default."""

    def __enter__(self) -> None:
        self._held: list[int] = []
        self._default: list[int] = []
        for number in _TAKEN_SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                try:
                    signal.signal(number, lambda number, _frame: self._held.append(number))
                except ValueError:
                    return  # only the main thread may set handlers
                self._default.append(number)

    def __exit__(self, *_: object) -> None:
        for number in self._default:
            signal.signal(number, signal.SIG_DFL)
        for number in self._held:
            os.kill(os.getpid(), number)


def await_hello(path: str, timeout: float) -> None:
    """Wait for ubusd's greeting; UbusError after `timeout` s. libubus would wait for it for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except OSError as error:  # BlockingIOError: so many clients wait that ubusd must be hanging
            raise UbusError(lib.CONNECTION_FAILED, f"{path}: {error.strerror}") from None
        if not ready(probe, select.POLLIN, timeout):
            raise UbusError(lib.TIMEOUT, path)


def ready(connection: socket.socket, event: int, timeout: float | None) -> bool:
    """Return whether `event` comes within `timeout` s. select() can't wait for descriptors above 1023."""
    poll = select.poll()
    poll.register(connection, event)
    return any(found & (event | select.POLLHUP) for _, found in poll.poll(timeout and timeout * 1000))
