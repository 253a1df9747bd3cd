# SPDX-License-Identifier: GPL-2.0-or-later
"""Gathering: when the events of the kernel are read; pure, times in ns.

To be woken, and to send, costs ten times as much as an event, on both routers. So events wait for each other.
Those count that ring the bell (socket_filter.py), because the peer should know them at once; the others are
read with them:

    quiet     the first event wakes the router, which reads GATHER later (a web page is several connections),
              or at once when the last ALONE events came alone
    busy      WORTH events and more come in GATHER: nothing wakes the router, which looks every GATHER
    flood     what takes long to tell is read sooner, so that no event is older than GATHER at the peer

A router that is `prompt`, because somebody waits for what an event says, reads the first event at once, and
all events count.
Events that come within PROMPT_BUSY of each other are then read each PAUSE, or after REST times as long as it
takes to tell them, up to PAUSE_MAX.
"""

from __future__ import annotations

from tandem.core.timers import MILLISECOND

GATHER = 9 * MILLISECOND  # the peer knows an event within 10 ms
BUSY = 2 * GATHER
ALONE = 8
WORTH = 2  # events that a look has to find: for fewer, to be woken costs less
VAIN = 2  # so many looks that found fewer end that
PAUSE, PAUSE_MAX = 3 * MILLISECOND // 10, MILLISECOND
PROMPT_BUSY = MILLISECOND
REST = 2  # the peer takes about as long to apply events as this router takes to tell them


class Gathering:
    """Says when to read, after each wake-up and after each read."""

    def __init__(self) -> None:
        self.prompt = False
        self._looks = False  # the router looks by itself: no event wakes it
        self._began: int | None = None  # when the reads began that have not drained the queue yet
        self._found_at = -BUSY  # when events were found last
        self._alone = 0  # so many events in a row have come alone
        self._count = 0  # events since the last read that drained the queue
        self._vain = 0  # looks in a row that were not worth it
        self._took = 0  # how long a read takes, on average

    def woken(self, now: int) -> int:
        """An event has come: return when to read it."""
        if self.prompt:
            return now
        return max(now, self._found_at + GATHER) if self._alone >= ALONE else now + GATHER

    def read(self, began: int, ended: int, count: int, drained: bool) -> int | None:
        """Events were read: return when to look for more, or None to be woken by the next event.

        `count` of them have come since the read before this one, which went from `began` to `ended`;
        `drained`: there are no more.
        """
        if self._began is None:
            self._began = began
        self._count += count
        if not drained:
            return ended
        began, self._began = self._began, None
        count, self._count = self._count, 0
        since, took = began - self._found_at, ended - began
        if count:
            self._alone = self._alone + 1 if count == 1 and since >= GATHER else 0
            self._found_at = began
        if self.prompt:
            self._looks = bool(count) and (self._looks or since < PROMPT_BUSY)
            return ended + min(max(PAUSE, REST * took), PAUSE_MAX) if self._looks else None
        self._vain = 0 if count >= WORTH else self._vain + 1
        self._looks = self._vain < VAIN and (self._looks or (count >= WORTH and since < BUSY))
        self._took += (took - self._took) // 4
        return max(began + GATHER - REST * self._took, ended + PAUSE) if self._looks else None
