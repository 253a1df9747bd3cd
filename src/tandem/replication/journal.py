# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the held tables a backup's kernel does not have yet, pure: keys only, the tables have the rest.

A flow that comes and goes between two looks into the journal leaves no trace in it. Both halves are
bounded: too many changes are forgotten for a walk through everything (`whole` becomes False), too many
ends are left to their timeouts.
"""

from __future__ import annotations

CHANGED_MAX = 65_536
GONE_MAX = 262_144


class Journal:
    """Notes of all tables of a router; while it is not `on`, nothing is noted."""

    def __init__(self) -> None:
        self.on = False
        self.whole = False  # but for what is noted, the kernel has everything that is held
        self.changed: dict[bytes, bool] = {}  # by key: whether the kernel can't have an entry of it
        self.gone: dict[bytes, None] = {}
        self.forgotten = 0  # ends for which there was no room

    def start(self, whole: bool) -> None:
        """Begin to note."""
        self.stop()
        self.on, self.whole = True, whole

    def stop(self) -> None:
        """Note nothing any more."""
        self.on = self.whole = False
        self.changed.clear()
        self.gone.clear()

    @property
    def waiting(self) -> int:
        """How many entries of the kernel are to be changed."""
        return len(self.changed) + len(self.gone)

    def change(self, key: bytes, new: bool) -> None:
        """An entry has come (`new`) or is another one now."""
        if key in self.changed:
            return
        if len(self.changed) >= CHANGED_MAX:
            self.changed.clear()
            self.whole = False
        self.changed[key] = self.gone.pop(key, True) is not None and new

    def remove(self, key: bytes) -> None:
        """An entry has ended."""
        if self.changed.pop(key, False):
            return
        if len(self.gone) < GONE_MAX:
            self.gone[key] = None
        else:
            self.forgotten += 1

    def doubt(self) -> None:
        """The kernel may have more than was thought."""
        self.changed = dict.fromkeys(self.changed, False)

    def take_changed(self) -> tuple[list[bytes], list[bytes]]:
        """Keys that the kernel can't have, and others; they are noted no more."""
        taken, self.changed = self.changed, {}
        return [key for key, new in taken.items() if new], [key for key, new in taken.items() if not new]

    def take_gone(self) -> list[bytes]:
        """Keys that have ended; they are noted no more."""
        taken, self.gone = self.gone, {}
        return list(taken)
