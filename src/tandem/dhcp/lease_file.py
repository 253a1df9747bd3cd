# SPDX-License-Identifier: GPL-2.0-or-later
"""dnsmasq's lease file: read, replaced, and watched for changes.

dnsmasq reads the file when it starts and writes it in place whenever a lease changes; it never reads it
again. A running dnsmasq therefore keeps writing to the old file, and can't harm its replacement. The file
is in a directory that all may write to (files.py).
"""

from __future__ import annotations

import ctypes
import os

from tandem import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop

FILE_MAX = 4 << 20  # bytes; 4096 leases have 5 MB if all are of the longest kind, usually 0.3 MB
WAIT = 20_000_000  # ns from a change to the reading: dnsmasq writes in pieces
_IN_MODIFY, _IN_CLOSE_WRITE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x2, 0x8, 0x400, 0x800
_IN_DONT_FOLLOW = 0x2000000
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK, IN_CLOEXEC: include/uapi/linux/inotify.h


class LeaseFile:
    """The file at `path`; `changed` is called after any program has changed it."""

    def __init__(self, loop: Loop, path: str, changed: Callable[[], None]) -> None:
        self.path = path
        self._loop = loop
        self._changed = changed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = -1
        self._watched: tuple[int, int] | None = None  # device and inode
        self._seen: tuple[int, int] | None = None  # size and time of change, at the last look
        self._before = -1  # the file that the running dnsmasq writes to, after `replace`

    def start(self) -> None:
        """Begin to watch."""
        self._inotify = self._libc.inotify_init1(_IN_FLAGS)
        if self._inotify >= 0:  # otherwise only `look` finds changes (no inotify: limit of 128 reached)
            self._loop.add_reader(self._inotify, self._notified)
        self.look()

    def stop(self) -> None:
        """Watch no more."""
        self._loop.call_at(("lease file", id(self)), None)
        self.forget()
        if self._inotify >= 0:
            self._loop.remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = -1

    def look(self) -> bool:
        """Return whether the watched file is still the one at its path; otherwise watch the new one.

        This also finds changes that inotify has not reported.
        """
        try:
            found = os.lstat(self.path)
        except OSError:
            self._watched = None
            return False
        seen, self._seen = self._seen, (found.st_size, found.st_mtime_ns)
        if (found.st_dev, found.st_ino) == self._watched:
            if seen != self._seen:
                self._soon()
            return True
        self._watched = found.st_dev, found.st_ino
        if self._inotify >= 0:
            mask = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_DONT_FOLLOW
            self._libc.inotify_add_watch(self._inotify, os.fsencode(self.path), mask)
        self._soon()
        return False

    def read(self) -> str | None:
        """Return the text; "": there is no file; None: dnsmasq is writing it, read again later. OSError."""
        try:
            with open(files.opened(self.path), "rb") as file:
                return _whole(file.fileno())
        except FileNotFoundError:
            return ""

    def replace(self, text: str) -> None:
        """Replace the file, whole or not at all. OSError.

        Until `forget`, `before` reads the replaced file, which dnsmasq has open.
        """
        if self._before < 0:
            try:
                self._before = files.opened(self.path)
            except FileNotFoundError:
                pass
        files.replace(self.path, text.encode())
        self.look()

    @property
    def has_before(self) -> bool:
        """Return whether a replaced file is still open."""
        return self._before >= 0

    def before(self) -> str | None:
        """Return the text that the former dnsmasq left in the replaced file; None: there is no such file."""
        try:
            return None if self._before < 0 else _whole(self._before)
        except OSError:  # larger than any lease file
            return None

    def forget(self) -> None:
        """Close the file that was replaced."""
        if self._before >= 0:
            os.close(self._before)
            self._before = -1

    def _notified(self) -> None:
        try:
            os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return
        self._soon()

    def _soon(self) -> None:
        self._loop.call_at(("lease file", id(self)), self._loop.now() + WAIT, self._read_now)

    def _read_now(self, _now: int) -> None:
        self.look()
        self._changed()

    def again(self) -> None:
        """Call `changed` once more, because `read` has found a file that is being written."""
        self._soon()


def _whole(fd: int) -> str | None:
    size = os.fstat(fd).st_size
    if size > FILE_MAX:
        raise OSError(f"the lease file is larger than {FILE_MAX} bytes")
    data = os.pread(fd, size + 1, 0)
    if len(data) != size or (data and not data.endswith(b"\n")):
        return None
    return data.decode(errors="replace")
