# SPDX-License-Identifier: GPL-2.0-or-later
"""Things of this router: a process that runs, a file that is there or has a text in it."""

from __future__ import annotations

import os

from tandem.core.timers import MILLISECOND
from tandem.health.question import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

FILE_MAX = 64 << 10  # bytes that are searched for the text
FRESH = 100 * MILLISECOND  # processes that were looked for at one time are looked for once
_COMM = 15  # characters of a process's name that the kernel keeps


class Look:
    """One look at a time; an Attempt of probe.py. `look` returns what was seen, and whether that is good."""

    def __init__(self, loop: Loop, look: Callable[[], tuple[str, bool]]) -> None:
        self._loop = loop
        self._look = look
        self._key = ("look", id(self))

    def start(self, ended: Callable[[Answer], None]) -> bool:
        """Look."""
        self._loop.call_at(self._key, self._loop.now(), lambda _now: ended(Answer(*self._look())))
        return True

    def stop(self) -> None:
        """Look no more."""
        self._loop.call_at(self._key, None)


class Running:
    """The processes of this router, by name."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._names: set[str] = set()
        self._seen = -FRESH

    def look(self, name: str) -> tuple[str, bool]:
        """Return whether a process of this name runs; a name with a slash is that of its program."""
        now = self._loop.now()
        if now - self._seen > FRESH:
            self._names = {found for pid in os.listdir("/proc") if pid.isdigit() for found in _names(pid)}
            self._seen = now
        return (
            ("runs", True) if name[: None if "/" in name else _COMM] in self._names else ("no process", False)
        )


def _names(pid: str) -> tuple[str, ...]:
    """Return the names of a process: its short one, and its program; none: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            stat = file.read(256).decode(errors="replace")
        with open(f"/proc/{pid}/cmdline", "rb", 0) as file:
            program = file.read(1024).partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return ()
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return () if rest[1:2] in ("Z", "X") else (name, program)


def look_at_file(path: str, text: str) -> tuple[str, bool]:
    """Return whether a file is there, and has the text in its first 64 KiB if one is wanted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not block
    except OSError as error:
        return error.strerror or str(error), False
    try:
        if not text:
            return "is there", True
        found = text.encode() in os.read(fd, FILE_MAX)
    except OSError as error:
        return error.strerror or str(error), False
    finally:
        os.close(fd)
    return ("has the text", True) if found else ("the text is missing", False)
