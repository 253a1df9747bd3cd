# SPDX-License-Identifier: GPL-2.0-or-later
"""A file that outlives the daemon, on a disk that may be slow: a child writes it, and the loop does not wait.

Flash can take longer for one write than a router may be silent. So the daemon forks a child for each write.
Only one child writes at a time; it is followed by the latest content that was wanted meanwhile.
"""

from __future__ import annotations

import os
import signal

from tandem import files
from tandem.core.timers import MILLISECOND
from tandem.scheduling import leave_realtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.log import Logger
    from tandem.loop import Loop

_DESCRIPTORS = 1024
_LOOK = 20 * MILLISECOND  # how often a child is looked at


class SavedFile:
    """The file at `path`, mode 0600."""

    def __init__(self, loop: Loop, log: Logger, path: str) -> None:
        self._loop = loop
        self._log = log
        self._path = path
        self._wanted: bytes | None = None  # what is to be written next
        self._child = 0

    def write(self, data: bytes) -> None:
        """Let the file have this content soon."""
        self._wanted = data
        if not self._child:
            self._start()

    def _start(self) -> None:
        data, self._wanted = self._wanted, None
        assert data is not None  # the caller has put it there
        # The child has the daemon's handlers, which would tell the daemon of signals that the child gets.
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        try:
            self._child = os.fork()
            if not self._child:
                _write_and_exit(self._path, data)
        except OSError as error:
            self._failed(error.errno or 0)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._loop.call_at(("saved", self._path), self._loop.now() + _LOOK, self._look)

    def _look(self, now: int) -> None:
        try:
            pid, status = os.waitpid(self._child, os.WNOHANG)
        except ChildProcessError:
            pid, status = self._child, 0  # another part of the daemon has reaped it
        if not pid:
            self._loop.call_at(("saved", self._path), now + _LOOK, self._look)
            return
        self._child = 0
        if code := os.waitstatus_to_exitcode(status):
            self._failed(code)
        if self._wanted is not None:
            self._start()

    def _failed(self, code: int) -> None:
        reason = os.strerror(code) if code > 0 else f"the child was ended by signal {-code}"
        self._log.limited(("saved", self._path), "error", f"{self._path} can't be written: {reason}")


def _write_and_exit(path: str, data: bytes) -> None:
    """The life of the child, which outlives a daemon that ends and must not keep its lock."""
    code = 1
    try:
        os.closerange(3, _DESCRIPTORS)
        leave_realtime()
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        files.replace(path, data, 0o600, sync=True)
        code = 0
    except OSError as error:
        code = error.errno or 1
    finally:
        os._exit(code)
