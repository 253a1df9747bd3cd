# SPDX-License-Identifier: GPL-2.0-or-later
"""A child process for work that may block: the kernel deletes a device, or starts modprobe for a helper.

The child is a fork of the daemon, which takes 0.3 ms. The child shares the daemon's sockets: the daemon must
not use a socket that the child uses before the answer has come.
"""

from __future__ import annotations

import os
import select
import signal
import time

from tandem.scheduling import leave_realtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 10_000_000_000  # ns
_ANSWER_MAX = 256  # bytes


class Aside:
    """A child process that does one piece of work at a time."""

    def __init__(self) -> None:
        self._pid = 0
        self._pipe = -1
        self._until = 0
        self._over: list[int] = []  # children whose answer is there

    @property
    def busy(self) -> bool:
        """Whether the child works, so that an answer will come."""
        return self._pipe >= 0

    def begin(self, work: Callable[[], bytes]) -> None:
        """Do the work in a child; `answer` gets its result. OSError: the kernel starts no process."""
        self._reap()
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The daemon's handlers must not run in the child, which only SIGKILL ends.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    leave_realtime()
                    os.write(writing, work())
                finally:
                    os._exit(0)
        except OSError:
            os.close(reading)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(writing)
        self._pid, self._pipe = pid, reading
        self._until = time.monotonic_ns() + PATIENCE

    def answer(self) -> bytes | None:
        """Return the result of the work; b"" when it failed or took too long, None while it goes on."""
        try:
            found = os.read(self._pipe, _ANSWER_MAX)
        except BlockingIOError:
            if time.monotonic_ns() < self._until:
                return None
            found = b""
            os.kill(self._pid, signal.SIGKILL)
        self._end()
        return found

    def wait(self) -> bytes:
        """Wait for the result of the work, as `answer` returns it, and return it; b"" if there is no work."""
        found: bytes | None = b""
        while self.busy and (found := self.answer()) is None:
            select.select([self._pipe], [], [], 1)
        return found or b""

    def close(self) -> None:
        """End the child, and collect all children."""
        if self.busy:
            os.kill(self._pid, signal.SIGKILL)
            self._end()
        for pid in self._over:
            os.waitpid(pid, 0)
        self._over.clear()

    def _end(self) -> None:
        os.close(self._pipe)
        self._pipe = -1
        self._over.append(self._pid)
        self._reap()

    def _reap(self) -> None:
        self._over = [pid for pid in self._over if os.waitpid(pid, os.WNOHANG) == (0, 0)]
