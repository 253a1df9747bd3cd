# SPDX-License-Identifier: GPL-2.0-or-later
"""Flap damping: a group that changes its role too often keeps the role that it has, where that is safe.

Each change interrupts the traffic of hosts and runs every script. A damped group does not preempt a lesser
router. It takes over after a silence of at least three of its own intervals, not after a resignation; it
believes a partner's resignation until one has proved to be forged. A damped group still yields to a better
router.
"""

from __future__ import annotations


class Damping:
    """Remembers the last changes; `changes` of them within `time` ns damp the group. 0 changes: never."""

    def __init__(self, changes: int = 0, time: int = 0) -> None:
        self.changes = changes
        self.time = time
        self._noted: tuple[int, ...] = ()  # the last `changes` of them

    def note(self, now: int) -> None:
        """Note a change of role."""
        if self.changes:
            self._noted = (*self._noted, now)[-self.changes :]

    def forget(self) -> None:
        """Begin anew: an operator has decided who shall be active."""
        self._noted = ()

    def doubts(self, partner: bool, deceived_at: int | None, now: int) -> bool:
        """Whether to wait for silence after a resignation, because anybody can forge one.

        Where connections are replicated, only the `partner`'s resignation is heard. It counts, unless another
        one was forged in the partner's name at `deceived_at`, lately.
        """
        trusts = partner and (deceived_at is None or now >= deceived_at + self.time)
        return not trusts and self.until(now) is not None

    def until(self, now: int) -> int | None:
        """Return when the damping ends; None when the group is not damped."""
        if not self.changes or len(self._noted) < self.changes:
            return None
        end = self._noted[0] + self.time
        return end if now < end else None
