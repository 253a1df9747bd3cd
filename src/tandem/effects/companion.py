# SPDX-License-Identifier: GPL-2.0-or-later
"""A companion: a process that works for the daemon as long as it is wanted, and the socket to it.

One message is one packet (SOCK_SEQPACKET), so that none is ever torn. The companion gets the number of its
end of the socket in its arguments, and ends when the daemon closes the other one.
"""

from __future__ import annotations

import os
import signal
import socket

from tandem.core.timers import SECOND
from tandem.programs import PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

MESSAGE_MAX = 1 << 16  # bytes
REAP_PAUSE = SECOND // 10


class Companion:
    """One process at a time; `heard` gets each message, `ended` is called when the process is gone.

    `messages`: so many at most are taken in one turn of the loop. `buffer`: bytes that wait in the socket for
    the companion at most; 0: the kernel's default. `first`: what it says is read before what others say.
    """

    def __init__(
        self,
        loop: Loop,
        argv: Callable[[int], list[str]],
        heard: Callable[[bytes], None],
        ended: Callable[[], None],
        messages: int,
        buffer: int = 0,
        first: bool = False,
    ) -> None:
        """`argv(fd)`: the command."""
        self.pid = 0
        self.starts = 0
        self._loop = loop
        self._argv = argv
        self._heard = heard
        self._ended = ended
        self._messages = messages
        self._buffer = buffer
        self._first = first
        self._socket: socket.socket | None = None

    @property
    def runs(self) -> bool:
        """Whether messages can be sent."""
        return self._socket is not None

    def start(self) -> None:
        """Start the process. OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        for end in (ours, theirs) if self._buffer else ():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        try:
            argv = self._argv(theirs.fileno())
            os.set_inheritable(theirs.fileno(), True)
            self.pid = os.posix_spawn(argv[0], argv, {"PATH": PATH}, setsigmask=[])
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.starts += 1
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._readable, first=self._first)

    def send(self, message: bytes) -> None:
        """Send a message. BlockingIOError: there is no room now; OSError: the process has ended."""
        if self._socket is None:
            raise BrokenPipeError
        self._socket.send(message)

    def when_writable(self, call: Callable[[], None] | None) -> None:
        """Call as long as there is room for messages; None: no more."""
        if self._socket is None:
            return
        if call is None:
            self._loop.remove_writer(self._socket.fileno())
        else:
            self._loop.add_writer(self._socket.fileno(), call)

    def kill(self) -> None:
        """End a process that hangs. Its end of the socket is closed then, and `ended` is called."""
        if self._socket is not None:
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the process end; `ended` is not called any more."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        pid, self.pid = self.pid, 0
        self._reap(pid)

    def _readable(self) -> None:
        for _ in range(self._messages):
            if self._socket is None:
                return
            try:
                message = self._socket.recv(MESSAGE_MAX)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                self._ended()
                return
            self._heard(message)

    def _reap(self, pid: int) -> None:
        """Collect a process that is about to end."""
        try:
            if not pid or os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return
        self._loop.call_at(("companion", pid), self._loop.now() + REAP_PAUSE, lambda _now: self._reap(pid))
