# SPDX-License-Identifier: GPL-2.0-or-later
"""When an active router announces its addresses: gratuitous ARP, or unsolicited neighbour advertisements.

The times are keepalived's garp_*, and a few of our own: the loser of an election may speak last.
"""

from __future__ import annotations

from tandem.core.actions import Action, Announce
from tandem.core.settings import Garp
from tandem.core.timers import MILLISECOND, SECOND, earliest

# The loser may speak last: a router advertisement or a packet under way teaches hosts its MAC address after
# our first announcements. So one more follows at each of these times, before `garp_master_delay`.
ANNOUNCE_AGAIN = (10 * MILLISECOND, 100 * MILLISECOND, SECOND)


class Announcing:
    """The announcements of one virtual router that are to come; all times in monotonic ns.

    `at` is the next deadline, or None. It is a field because the owner reads it for every advertisement.
    """

    __slots__ = ("_again", "_delayed_at", "_lesser_at", "_name", "_refresh_at", "at")

    def __init__(self, name: str) -> None:
        self._name = name
        self.stop()

    def stop(self) -> None:
        """Forget all announcements that are to come."""
        self._again: list[int] = []  # latest first
        self._delayed_at: int | None = None  # garp_master_delay
        self._refresh_at: int | None = None  # garp_master_refresh
        self._lesser_at: int | None = None  # garp_lower_prio_delay
        self.at: int | None = None

    def begin(self, garp: Garp, now: int) -> None:
        """The router has its addresses; it announces them at once without being told here."""
        self.stop()
        if garp.delay_ms:
            self._delayed_at = now + garp.delay_ms * MILLISECOND
            self._again = [now + wait for wait in reversed(ANNOUNCE_AGAIN)]
        self._refresh(garp, now)
        self._aim()

    def now_and_again(self, garp: Garp, now: int) -> list[Action]:
        """Announce now, and a few times within a second: another MAC address has the addresses."""
        self._again = [now + wait for wait in reversed(ANNOUNCE_AGAIN)]
        self._aim()
        return [Announce(self._name, garp.repeat)]

    def answer(self, garp: Garp, begins: bool, now: int) -> list[Action]:
        """Announce after a lesser router has told hosts its MAC address; `begins`: for the first time.

        Its later adverts are answered at most once a second, or in `garp_lower_prio_delay` if that is longer.
        """
        repeat = garp.lower_prio_repeat or int(begins)
        if not repeat or (self._lesser_at is not None and not begins):
            return []
        self._lesser_at = now + max(garp.lower_prio_delay_ms * MILLISECOND, SECOND)
        self._aim()
        return [Announce(self._name, repeat)]

    def due(self, garp: Garp, now: int) -> list[Action]:
        """Return the announcements of the deadlines that are not later than `now`."""
        actions: list[Action] = []
        if self._again and self._again[-1] <= now:
            while self._again and self._again[-1] <= now:
                self._again.pop()  # one is said for all that a late loop has missed
            actions.append(Announce(self._name, 1))
        if self._delayed_at is not None and self._delayed_at <= now:
            self._delayed_at = None
            actions.append(Announce(self._name, garp.repeat))
        if self._lesser_at is not None and self._lesser_at <= now:
            self._lesser_at = None
            if garp.lower_prio_delay_ms and garp.lower_prio_repeat:
                actions.append(Announce(self._name, garp.lower_prio_repeat))
        if self._refresh_at is not None and self._refresh_at <= now:
            self._refresh(garp, now)
            actions.append(Announce(self._name, garp.refresh_repeat))
        self._aim()
        return actions

    def _refresh(self, garp: Garp, now: int) -> None:
        self._refresh_at = now + garp.refresh_ms * MILLISECOND if garp.refresh_ms else None

    def _aim(self) -> None:
        again = self._again[-1] if self._again else None
        self.at = earliest(again, self._delayed_at, self._lesser_at, self._refresh_at)
