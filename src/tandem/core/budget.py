# SPDX-License-Identifier: GPL-2.0-or-later
"""A budget for what others can cause: log lines, scripts, packets that are read."""

from __future__ import annotations


class Budget:
    """A token bucket: `burst` tokens at once, then another one every `refill` ns. All times in ns."""

    __slots__ = ("_burst", "_full_at", "_refill")

    def __init__(self, burst: int, refill: int) -> None:
        self._burst = burst
        self._refill = refill
        self._full_at = 0  # when the bucket is full again

    def take(self, now: int) -> bool:
        """Take a token if there is one; whether there was."""
        full_at = max(self._full_at, now) + self._refill
        if full_at > now + self._burst * self._refill:
            return False
        self._full_at = full_at
        return True

    def spend(self, tokens: int, now: int) -> None:
        """Take so many tokens, which must not be more than are left."""
        self._full_at = max(self._full_at, now) + tokens * self._refill

    def left(self, now: int) -> int:
        """How many tokens there are."""
        return self._burst - -(-max(0, self._full_at - now) // self._refill)

    @property
    def ready_at(self) -> int:
        """From when on there is a token."""
        return self._full_at - (self._burst - 1) * self._refill
