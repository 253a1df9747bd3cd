# SPDX-License-Identifier: GPL-2.0-or-later
"""Two files that keep the history: one in memory over a restart, and one on the disk over a reboot.

The file in memory follows each change. The file on the disk (`option history_file`) is written at most once
in PAUSE, and at the end of the daemon, because flash wears. A loss of power can cost the changes of the last
PAUSE.
"""

from __future__ import annotations

from tandem import files
from tandem.control.history import SIZE_MAX, History
from tandem.core.timers import SECOND
from tandem.effects.saved import SavedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.log import Logger
    from tandem.loop import Loop

SAVE_AFTER = SECOND  # from a transition to the file in memory: what restores the role comes first
PAUSE = 600 * SECOND  # between two writes to the disk
FIRST_AFTER = 10 * SECOND  # from a transition to the disk, after a pause
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class HistoryFile:
    """Reads a history when the daemon starts, and writes it."""

    def __init__(self, loop: Loop, log: Logger, history: History, path: str, lasting: str) -> None:
        """`path` lies in memory; `lasting` on the disk, empty: there is none."""
        self._loop = loop
        self._log = log
        self._history = history
        self._path = path
        self._boot = ""
        self._lasting: SavedFile | None = None
        self._lasting_path = ""
        self._unsaved = False  # the disk lacks a change
        self._saved_at: int | None = None  # when the disk was written
        self.keep_in(lasting)
        self._read()

    def keep_in(self, path: str) -> None:
        """Keep the history in this file on the disk from now on; empty: in none."""
        if path != self._lasting_path:
            self._lasting_path, self._saved_at = path, None
            self._lasting = SavedFile(self._loop, self._log, path) if path else None
            if self._unsaved or len(self._history):
                self._save_soon()

    def changed(self) -> None:
        """The history has another entry."""
        self._loop.call_at("history", self._loop.now() + SAVE_AFTER, lambda _now: self._save())
        self._save_soon()

    def close(self) -> None:
        """Write what is not written yet."""
        self._save()
        if self._unsaved:
            self._save_lasting()

    def _read(self) -> None:
        """Take the transitions of an earlier daemon; the file in memory is never older than the other one."""
        try:
            self._boot = files.read(BOOT_ID, 64).decode().strip()
        except OSError as error:
            self._log.warning(f"{BOOT_ID}: {error.strerror}: times before this start may be wrong")
        for path in filter(None, (self._path, self._lasting_path)):
            try:
                self._history.take(files.read(path, SIZE_MAX), self._boot)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                self._log.warning(f"{path} is not understood ({error}): its part of the history is lost")
                continue
            return

    def _save(self) -> None:
        """Write the file in memory, which makes nobody wait."""
        try:
            files.replace(self._path, self._history.text(self._boot, self._loop.now()), 0o600)
        except OSError as error:
            self._log.limited(("history", ""), "warning", f"{self._path}: {error.strerror}")

    def _save_soon(self) -> None:
        if self._lasting is None or self._unsaved:
            return
        self._unsaved = True
        when = self._loop.now() + FIRST_AFTER
        if self._saved_at is not None:
            when = max(when, self._saved_at + PAUSE)
        self._loop.call_at("lasting history", when, lambda _now: self._save_lasting())

    def _save_lasting(self) -> None:
        now = self._loop.now()
        self._unsaved, self._saved_at = False, now
        if self._lasting is not None:
            self._lasting.write(self._history.text(self._boot, now))
