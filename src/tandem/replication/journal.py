# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal: which changes of the held tables a backup's kernel does not have yet; keys only, pure.

A flow that comes and goes between two looks into the journal leaves no trace in it. Both halves are
bounded: too many changes are forgotten for a walk through everything (`whole` becomes False), too many
ends are left to their timeouts.
"""

from __future__ import annotations

CHANGED_MAX = 65_536
GONE_MAX = 262_144


class Journal:
    """The journal of all held tables; while it is not `on`, it notes nothing."""

    def __init__(self) -> None:
        self.on = False
        self.whole = False  # the kernel has everything that is held, except what is noted
        self.unsure = False  # the kernel may have an entry that comes now, so none is noted as new
        self.new: dict[bytes, None] = {}  # keys of entries that the kernel can't have
        self.changed: dict[bytes, None] = {}  # keys of all other entries that have changed
        self.gone: dict[bytes, None] = {}
        self.noted = 0  # changes, since ever
        self.forgotten = 0  # ends for which there was no room

    def start(self, whole: bool) -> None:
        """Begin to note."""
        self.stop()
        self.on, self.whole, self.unsure = True, whole, not whole

    def stop(self) -> None:
        """Note nothing any more."""
        self.on = self.whole = False
        self.forget_changes()
        self.gone.clear()

    @property
    def waiting(self) -> int:
        """How many entries of the kernel have to be changed."""
        return len(self.new) + len(self.changed) + len(self.gone)

    def waits(self, key: bytes) -> bool:
        """Whether an entry has changed or come since the journal was looked into."""
        return key in self.new or key in self.changed

    def change(self, key: bytes, new: bool) -> None:
        """An entry has come (`new`) or is another one now."""
        if key in self.new or key in self.changed:  # `waits` would cost a call for each record
            return
        if len(self.new) + len(self.changed) >= CHANGED_MAX:
            self.forget_changes()
            self.whole = False
        self.noted += 1
        if self.gone.pop(key, True) is not None and new and not self.unsure:
            self.new[key] = None
        else:
            self.changed[key] = None

    def remove(self, key: bytes) -> None:
        """An entry has ended."""
        if self.new.pop(key, True) is None:
            return
        self.changed.pop(key, None)
        if len(self.gone) < GONE_MAX:
            self.gone[key] = None
        else:
            self.forgotten += 1

    def doubt(self) -> None:
        """The kernel may have more than was thought, until what is under way has ended."""
        self.changed |= self.new
        self.new = {}
        self.unsure = True

    def forget_changes(self) -> None:
        """Note ends only, from here on."""
        self.new, self.changed = {}, {}

    def take_changed(self) -> tuple[dict[bytes, None], dict[bytes, None]]:
        """Return the keys that the kernel can't have, and other changed keys; the journal forgets both."""
        taken = self.new, self.changed
        self.forget_changes()
        return taken

    def take_gone(self) -> dict[bytes, None]:
        """Return the keys of entries that have ended; the journal forgets them."""
        taken, self.gone = self.gone, {}
        return taken
