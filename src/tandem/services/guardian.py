# SPDX-License-Identifier: GPL-2.0-or-later
"""The guardian: a process that stops the services when the daemon is gone or hangs.

The backup takes the role over then, and starts the services. The virtual addresses have a lifetime in the
kernel, but a service has none. So a child of the daemon holds the commands that stop what runs. It runs
them when the pipe from the daemon ends, or when nothing came for `limit`: then it kills the daemon first,
which init starts anew.

The child is a fork without exec: nearly all its memory is shared with the daemon. While it waits, its
real-time priority is above the daemon's: the peers start the services soon after the daemon has hung.
The next daemon waits until the guardian has ended, and only then looks which services run.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import struct
import time

from tandem.core.timers import MILLISECOND, SECOND
from tandem.scheduling import leave_realtime, realtime_priority, set_realtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from tandem.loop import Loop

    # What stops a service: argv and environment, or the process id of a command; how long it may take, ns;
    # and the argv of what succeeds while the service runs on after that; empty: it does not run on.
    Stop = tuple[tuple[str, ...], dict[str, str], int, int, tuple[str, ...]]

SIZE_MAX = 1 << 20  # bytes of one message
BEATS = 6  # signs of life within the limit: a daemon that is late for some of them is not killed
PRIORITY_MAX = 99
_HEAD = struct.Struct("=I")
_DESCRIPTORS = 1024
_LOOK_S = 0.02


class Guardian:
    """The daemon's end. `failed(why)` is called when there is no child, or another one."""

    def __init__(self, loop: Loop, failed: Callable[[str], None]) -> None:
        self.pid = 0
        self._loop = loop
        self._limit = 0
        self._failed = failed
        self._pipe = -1
        self._stops: list[Stop] = []

    def guard(self, stops: Sequence[Stop], limit: int) -> None:
        """Let these commands, in this order, be what stops the services that run; none: nothing runs.

        `limit`: ns of silence after which the child acts; 0: when the daemon is gone.
        """
        if (list(stops), limit) == (self._stops, self._limit):
            return
        self._stops, self._limit = list(stops), limit
        if not self.pid and self._stops:
            self._start()
        if self.pid:
            self._tell()

    def close(self) -> None:
        """End: without a goodbye, the child stops what still runs."""
        self._loop.call_at("guardian", None)
        if self.pid:
            os.close(self._pipe)

    def _start(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        # The child has the daemon's handlers, which would tell the daemon of signals that the child gets.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        priority = realtime_priority()
        try:
            self.pid = os.fork()
            if not self.pid:
                _guard(reading, priority)
        except OSError as error:
            os.close(writing)
            self._failed(f"no process watches over the services: {error.strerror}")
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(reading)
        os.set_blocking(writing, False)
        self._pipe = writing

    def _send(self, data: bytes) -> None:
        try:
            if os.write(self._pipe, _HEAD.pack(len(data)) + data) < len(data) + _HEAD.size:
                raise BlockingIOError  # it would misunderstand what follows
        except OSError:
            self._lost()

    def _lost(self) -> None:
        """The child is gone, because it has stopped the services, or somebody has killed it: have another."""
        os.close(self._pipe)
        self._pipe = -1
        self._reap()
        self._loop.call_at("guardian", None)
        self._failed("the process that watches over the services has ended: there is another one")
        if self._stops:
            self._start()
            if self.pid:
                self._tell()

    def _tell(self) -> None:
        self._send(marshal.dumps((self._limit, self._stops)))
        self._beat(self._loop.now())

    def _reap(self) -> None:
        pid, self.pid, self._pipe = self.pid, 0, -1
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            pass

    def _beat(self, now: int) -> None:
        """Send signs of life, while something runs."""
        wanted = self._limit and self._stops and self.pid
        pause = self._limit // BEATS
        self._loop.call_at("guardian", now + pause if wanted else None, self._beats, pause // 2)

    def _beats(self, now: int) -> None:
        self._send(marshal.dumps(None))
        self._beat(now)


def watch_end(loop: Loop, pid: int, then: Callable[[], None]) -> bool:
    """Call `then` when the guardian of an earlier daemon has ended; False: it has, or nobody can know."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return False

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        then()

    loop.add_reader(descriptor, ended)
    return True


def _guard(pipe: int, priority: int) -> NoReturn:
    """The life of the child of a daemon with this real-time priority; 0: none."""
    daemon = os.getppid()
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        kept = os.dup2(pipe, 3, inheritable=False)
        os.closerange(4, _DESCRIPTORS)
        if priority:
            set_realtime(min(priority + 1, PRIORITY_MAX))
        stops = _watch(kept, daemon)
        leave_realtime()
        for stop in stops:
            _stop(*stop)
    finally:
        os._exit(0)


def _watch(pipe: int, daemon: int) -> list[Stop]:
    """Wait for the end of the daemon, or end it, and return what stops the services that run."""
    limit = 0
    stops: list[Stop] = []
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        if not poll.poll(limit // MILLISECOND if limit and stops else None) and not poll.poll(0):
            # The kernel ends its sessions. So the peers know that this router lives and stops its services.
            os.kill(daemon, signal.SIGKILL)
            return stops
        data = _message(pipe)
        if data is None:
            return stops
        if (news := marshal.loads(data)) is not None:
            limit, stops = news


def _message(pipe: int) -> bytes | None:
    """Return the next message; None: the daemon is gone."""
    head = _exactly(pipe, _HEAD.size)
    return None if head is None else _exactly(pipe, min(_HEAD.unpack(head)[0], SIZE_MAX))


def _exactly(pipe: int, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = os.read(pipe, size - len(data))
        if not part:
            return None
        data += part
    return data


def _stop(
    argv: tuple[str, ...], variables: dict[str, str], pid: int, timeout: int, running: tuple[str, ...]
) -> None:
    """Stop one service, and wait for it; a command that goes on is killed at its timeout."""
    deadline = time.monotonic_ns() + (timeout or SECOND)
    if pid:
        _signal(pid, signal.SIGTERM)
        _ends(lambda: not _alive(pid), pid, deadline)
        return
    _run(argv, variables, deadline)
    while running and _run(running, variables, deadline) == 0 and time.monotonic_ns() < deadline:
        time.sleep(_LOOK_S)


def _run(argv: tuple[str, ...], variables: dict[str, str], deadline: int) -> int:
    """Run a command until its end, or its deadline in monotonic ns, and return its wait status."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            os.execve(argv[0], argv, variables)
        finally:
            os._exit(127)
    status = 0

    def ended() -> bool:
        nonlocal status
        found, status = os.waitpid(pid, os.WNOHANG)
        return found != 0

    _ends(ended, pid, deadline)
    return status


def _ends(ended: Callable[[], bool], pid: int, deadline: int) -> None:
    while not ended():
        if time.monotonic_ns() >= deadline:
            _signal(pid, signal.SIGKILL)
            return
        time.sleep(_LOOK_S)


def _alive(pid: int) -> bool:
    """Whether the process group has members left that are no zombies."""
    try:
        os.killpg(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except OSError:
        pass  # it has ended
