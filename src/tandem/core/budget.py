# SPDX-License-Identifier: GPL-2.0-or-later
"""A budget for work that others can cause: log lines, scripts, packets that are read."""

from __future__ import annotations


class Budget:
    """A token bucket: it holds `burst` tokens and gets another one every `refill` ns. All times are in ns."""

    __slots__ = ("_burst", "_full_at", "_refill")

    def __init__(self, burst: int, refill: int) -> None:
        self._burst = burst
        self._refill = refill
        self._full_at = 0  # when the bucket is full again

    def take(self, now: int) -> bool:
        """Take a token if there is one, and return whether there was."""
        full_at = max(self._full_at, now) + self._refill
        if full_at > now + self._burst * self._refill:
            return False
        self._full_at = full_at
        return True

    def spend(self, tokens: int, now: int) -> None:
        """Take this many tokens; no more than are left."""
        self._full_at = max(self._full_at, now) + tokens * self._refill

    def left(self, now: int) -> int:
        """Return how many tokens there are."""
        return self._burst - -(-max(0, self._full_at - now) // self._refill)

    @property
    def ready_at(self) -> int:
        """When the next token is there."""
        return self._full_at - (self._burst - 1) * self._refill
