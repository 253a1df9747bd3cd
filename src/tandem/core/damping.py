# SPDX-License-Identifier: GPL-2.0-or-later
"""Flap damping: a group that changes its role again and again stays where it can.

Each change costs hosts a moment and runs every script. A damped group does not preempt a lesser router, and
does not take a goodbye for the end of the active router: it waits for the silence, for three intervals of its
own at least. A partner's goodbye it believes until one has proved to be forged. It still takes over from a
router that is silent, and still yields to a better one.
"""

from __future__ import annotations

from collections import deque


class Damping:
    """Remembers the last changes; `changes` of them within `time` ns are too many. 0 changes: never."""

    def __init__(self, changes: int = 0, time: int = 0) -> None:
        self.changes = changes
        self.time = time
        self._noted: deque[int] = deque(maxlen=changes)

    def note(self, now: int) -> None:
        """The role has changed."""
        self._noted.append(now)

    def until(self, now: int) -> int | None:
        """When the group is free to move again; None when it is now."""
        if not self.changes or len(self._noted) < self.changes:
            return None
        end = self._noted[0] + self.time
        return end if now < end else None
