# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether replication can be relied on: the health reason `replication_stale`, pure.

A takeover loses connections when a peer was out of step, was behind, or when records were lost on the way.
The first two count once they have lasted for `lag_limit`, losses when they exceed `loss_limit` within a
minute: the next resync repairs a few losses, and nobody has to know. Connections without room in a table
count until there is room.
"""

from __future__ import annotations

from collections import deque

from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from tandem.replication.cache import Cache

    PeerHealth = tuple[str, str, int]  # name, what is wrong ("": in step), lag in ns

MINUTE = 60 * SECOND


class Health:
    """The judge of samples, one a second. Limits: `lag_limit` in ns, `loss_limit` in records; 0: never."""

    def __init__(self, lag_limit: int, loss_limit: int) -> None:
        self.lag_limit = lag_limit
        self.loss_limit = loss_limit
        self._wrong: dict[str, int] = {}  # since when something is wrong, by peer
        self._losses: deque[tuple[int, int]] = deque()  # (when, total) of the last minute and one before
        self.stale: list[str] = []

    def judge(self, now: int, peers: Iterable[PeerHealth], lost: int, lacking: str = "") -> bool:
        """Take a sample; return whether replication has become stale, or healthy again. `stale` says why.

        `now` is monotonic, `lost` a total; one that falls begins anew (a table was given away). `lacking`:
        how many connections there is no room for, "": there is for all.
        """
        before = bool(self.stale)
        room = [f"no room for {lacking} connections, which a takeover would lose: raise limit_entries"]
        self.stale = [*self._peers(now, peers), *self._loss(now, lost), *(room if lacking else [])]
        return bool(self.stale) != before

    def _peers(self, now: int, peers: Iterable[PeerHealth]) -> list[str]:
        if not self.lag_limit:
            return []
        found, wrong = [], dict[str, int]()
        for name, what, lag in peers:
            if what:
                since = self._wrong.get(name, now)
                wrong[name] = since
                if now - since > self.lag_limit:
                    found.append(f"{name}: {what} for {(now - since) // SECOND} s")
            elif lag > self.lag_limit:
                found.append(f"{name}: {lag // MILLISECOND} ms behind")
        self._wrong = wrong
        return found

    def _loss(self, now: int, lost: int) -> list[str]:
        losses = self._losses
        if losses and lost < losses[-1][1]:
            losses.clear()
        losses.append((now, lost))
        while len(losses) > 1 and losses[1][0] <= now - MINUTE:
            losses.popleft()
        within = lost - losses[0][1]
        if not self.loss_limit or within <= self.loss_limit:
            return []
        return [f"{within} records lost within a minute"]


def lacking(caches: Iterable[Cache]) -> str:
    """Return how many connections the tables have no room for; "" when all have room."""
    most, more = 0, False
    for cache in caches:
        most, more = max(most, cache.lacking), more or cache.lacks_more
    return f"{'more than ' if more else ''}{most}" if most else ""


def peer_health(peer: dict[str, Any]) -> PeerHealth:
    """Return the facts of a peer that `Health` judges, from its status."""
    if peer["state"] != "up":
        return peer["name"], "not connected", 0
    there = not peer["streaming"] or peer["in_step"]
    here = not peer["peer_streaming"] or peer["held_in_step"]
    lag = int(peer["lag_ms"] * MILLISECOND) if peer["lag_records"] else 0
    return peer["name"], "" if here and there else "out of step", lag
