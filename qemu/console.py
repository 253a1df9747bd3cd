# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine's serial console: wait for text, run a command and get its output; all with deadlines.

A thread takes whatever the machine prints, at once, so that its console never blocks.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from itertools import count

_CTRL_C, _RETYPE = 0.3, 10.0  # s
_TAIL = 3000  # characters of the log in an error message


class ConsoleError(RuntimeError):
    """A command failed, or what was expected did not come in time; the end of the log is in the text."""


class Console:
    """The console behind a connection to QEMU."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._text = ""
        self._from = 0  # what was read up to here has been looked at
        self._closed = False
        self._news = threading.Condition()
        self._numbers = count(1)
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the connection to the console; the machine may be gone already."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # QEMU ended first
        self._thread.join()
        self._socket.close()

    def send(self, text: str) -> None:
        """Type something."""
        self._socket.sendall(text.encode())

    def position(self) -> int:
        """How much the machine has printed, for `since`."""
        with self._news:
            return len(self._text)

    def since(self, position: int) -> tuple[str, int]:
        """Return the output of the machine since then, and its length now."""
        with self._news:
            return self._text[position:], len(self._text)

    def expect(self, pattern: str, timeout: float) -> re.Match[str]:
        """Wait for a pattern in what has not been looked at; the next call goes on behind it. Seconds."""
        compiled = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                found = compiled.search(self._text, self._from)
                if found:
                    self._from = found.end()
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    why = "the machine ended" if self._closed else f"not within {timeout:g} s"
                    raise ConsoleError(f"{why}: {pattern!r} on the console:\n{self._text[-_TAIL:]}")
                self._news.wait(left)

    def shell(self, timeout: float) -> None:
        """Get a root shell that neither edits lines nor echoes nor prompts out of a console.

        The lines are typed again every few seconds: what is typed while the machine still starts its
        first shell may be lost. A shell that reads the terminal as if it were a script is not interactive.
        """
        deadline = time.monotonic() + timeout
        again = False
        while True:
            mark = f"ready{next(self._numbers)}"
            if again:
                # The terminal throws away what it has not passed on when it takes Ctrl-C. Not the first
                # time: a shell that just starts may not survive it.
                self.send("\x03")
                time.sleep(_CTRL_C)
            again = True
            self.send("\nstty -echo; exec sh /proc/self/fd/0\n")
            self.send(f"case $- in *i*) ;; *) echo {mark} ;; esac\n")
            try:
                self.expect(rf"^{mark}\r?\n", min(_RETYPE, max(deadline - time.monotonic(), 0.1)))
                return
            except ConsoleError:
                if time.monotonic() > deadline:
                    raise

    def run(self, command: str, timeout: float = 30.0, check: bool = True) -> str:
        """Run a shell command, in the shell itself, and return what it prints."""
        number = next(self._numbers)
        # The quotes keep the marks out of lines that the terminal echoes; all of them come before the first.
        self.send(f"{{ echo be''gin{number}\n{command}\n}} </dev/null; s=$?; echo; echo do''ne{number} $s\n")
        found = self.expect(rf"(?s)^begin{number}\r?\n(.*?)\r?\n?^done{number} (\d+)\r?\n", timeout)
        output = found[1].replace("\r\n", "\n").replace("\r", "")
        if check and found[2] != "0":
            raise ConsoleError(f"{command}: exit {found[2]}\n{output}")
        return output

    def write(self, path: str, text: str, mode: int = 0o644, timeout: float = 30.0) -> None:
        """Make a text file; no line may be longer than a terminal takes (4095 bytes)."""
        body = text if text.endswith("\n") or not text else text + "\n"
        self.run(
            f"mkdir -p \"$(dirname '{path}')\"; cat >'{path}' <<'end of file'\n{body}end of file\n"
            f"chmod {mode:o} '{path}'",
            timeout,
        )

    def _read(self) -> None:
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            with self._news:
                self._text += data.decode(errors="replace")
                self._closed = not data
                self._news.notify_all()
            if not data:
                return
