# SPDX-License-Identifier: GPL-2.0-or-later
"""Surplus: when the memory of connections that have ended is given back to the kernel; pure."""

from __future__ import annotations

from tandem.core.timers import SECOND

LEAST = 10_000  # entries, about 1.5 MiB
REST = 40 * SECOND  # the tables have given up what they had allocated by then: see `Cache.tidy`


class Surplus:
    """Looks at how many entries there are, once a second."""

    def __init__(self) -> None:
        self._most = 0  # entries since memory was given back
        self._since: int | None = None  # since when there are less than half as many

    def due(self, entries: int, now: int) -> bool:
        """Whether memory is to be given back now: a flood is over."""
        self._most = max(self._most, entries)
        if self._most - entries < max(LEAST, self._most // 2):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < REST:
            return False
        self._most, self._since = entries, None
        return True
