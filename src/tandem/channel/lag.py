# SPDX-License-Identifier: GPL-2.0-or-later
"""Lag: how far the peer is behind, measured on one record after the other."""

from __future__ import annotations

from tandem.core.timers import SECOND

INTERVAL = SECOND  # between two measurements, each of which is an acknowledgement at once


class Lag:
    """The time from a push to its acknowledgement, ns: `last`, and the longest as `longest`."""

    __slots__ = ("_after", "_probe", "last", "longest")

    def __init__(self, now: int) -> None:
        self.last = self.longest = 0
        self._probe: tuple[int, int] | None = None  # position and when it was pushed
        self._after = now

    @property
    def measures(self) -> bool:
        """Whether a record is on its way that is measured."""
        return self._probe is not None

    def pushed(self, position: int, now: int) -> None:
        """A record was pushed to a peer in step."""
        if self._probe is None and now >= self._after:
            self._probe = position, now

    def acked(self, position: int, now: int) -> None:
        """The peer has applied everything up to this position."""
        if self._probe is not None and position >= self._probe[0]:
            self.last = now - self._probe[1]
            self.longest = max(self.longest, self.last)
            self._probe = None
            self._after = now + INTERVAL

    def lost(self) -> None:
        """Discard the measurement that is under way."""
        self._probe = None

    def now(self, now: int) -> int:
        """Return the lag as last measured, or longer when that is known already."""
        return self.last if self._probe is None else max(self.last, now - self._probe[1])
