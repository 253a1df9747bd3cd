# SPDX-License-Identifier: GPL-2.0-or-later
"""Trouble: problems between this router and the others on its networks, though every role may be fine.

Observations are noted when they are made; `look` reports those that still hold. An observation counts after a
while only (SETTLE), because two routers may both be active while roles change. After the last sight it counts
for KEEP. All times are monotonic ns. The text of a problem stays the same as long as the problem does.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Key = tuple[str, ...]

SETTLE = 3 * SECOND
KEEP = 60 * SECOND
NOTED_MAX = 64  # of each kind: anybody can send any number of different packets

Report = dict[str, list[str]]  # by reason of `health`, each with its details


@dataclass(frozen=True, slots=True)
class Situation:
    """The state of an instance, and the other routers that it knows of."""

    name: str
    active: bool
    since: int  # when its role changed last
    interval_ms: int
    learns_interval: bool  # VRRP version 3
    peer: tuple[str, int] | None = None  # a backup's active router: address, interval in ms
    unheard: tuple[str, ...] = ()  # neighbours that say that they are active for it, and are not heard here
    strays: tuple[tuple[str, str], ...] = ()  # address and device of virtual addresses without the role


class _Notes:
    """The first and the last time of each observation, in a row without a long pause; bounded."""

    def __init__(self, gap: int) -> None:
        self._gap = gap  # a longer pause begins a new row
        self._seen: dict[Key, tuple[int, int]] = {}

    def note(self, key: Key, now: int) -> None:
        first, last = self._seen.get(key, (now, now))
        if key not in self._seen and len(self._seen) >= NOTED_MAX:
            self._seen = {key: times for key, times in self._seen.items() if now - times[1] <= self._gap}
            if len(self._seen) >= NOTED_MAX:
                return
        self._seen[key] = (first if now - last <= self._gap else now), now

    def lasting(self, now: int) -> list[Key]:
        """Return the observations that span SETTLE or more, the last one not longer ago than a gap."""
        return [key for key in self.recent(now) if self._seen[key][1] - self._seen[key][0] >= SETTLE]

    def old(self, now: int) -> list[Key]:
        """Return the observations that began SETTLE ago or earlier, and still go on."""
        return [key for key in self.recent(now) if now - self._seen[key][0] >= SETTLE]

    def recent(self, now: int) -> list[Key]:
        """Return the observations whose last time is not longer ago than a gap."""
        return [key for key, (_, last) in self._seen.items() if now - last <= self._gap]


class Trouble:
    """Notes observations, and reports problems."""

    def __init__(self) -> None:
        self._dropped = _Notes(KEEP)
        self._claimed = _Notes(KEEP)
        self._unheard = _Notes(3 * SETTLE)  # peers that are active as well
        self._contested: dict[str, _Notes] = {}

    def dropped(self, instance: str, source: str, why: str, now: int) -> None:
        """Note an advert for this instance that was dropped."""
        self._dropped.note((instance, source, why), now)

    def contested(self, instance: str, source: str, interval_ms: int, now: int) -> None:
        """Note that another router advertises while this one is active."""
        notes = self._contested.get(instance)
        if notes is None:
            gap = max(SETTLE, 3 * interval_ms * MILLISECOND)
            notes = self._contested[instance] = _Notes(gap)
        notes.note((source,), now)

    def claimed(self, instance: str, address: str, mac: str, since: int, now: int) -> None:
        """Note that another host claims a virtual address; this router is active since `since`.

        A claim soon after a change of role may come from the router that was active before.
        """
        if now - since >= SETTLE:
            self._claimed.note((instance, address, mac, str(since)), now)

    def look(self, now: int, situations: Iterable[Situation]) -> Report:
        """Report the problems of now."""
        found: Report = {}
        present = {one.name: one for one in situations}
        self._contested = {name: notes for name, notes in self._contested.items() if name in present}
        adverts = [
            f"{name}: adverts from {source} are dropped: {why}"
            for name, source, why in self._dropped.lasting(now)
            if name in present
        ]
        addresses = [
            f"{name}: {address} is also at {mac}: give that host another address"
            for (name, address, mac, since) in self._claimed.old(now)
            if name in present and present[name].active and str(present[name].since) == since
        ]
        for one in present.values():
            adverts += self._of(one, now)
            if not one.active and now - one.since >= SETTLE:
                addresses += [
                    f"{one.name}: {address} is on {device}, where another program has put it: "
                    f"ip address delete {address} dev {device}"
                    for address, device in one.strays
                ]
        if adverts:
            found["adverts"] = adverts
        if addresses:
            found["addresses"] = addresses
        return found

    def _of(self, one: Situation, now: int) -> list[str]:
        found = []
        for peer in one.unheard if one.active else ():
            self._unheard.note((one.name, peer), now)
        if one.active and one.name in self._contested:
            for (source,) in self._contested[one.name].lasting(now):
                found.append(
                    f"{one.name}: {source} is active as well: it does not hear this router, "
                    "look at what lies between them and at their firewalls"
                )
        found += [
            f"{one.name}: {peer} is active as well: its adverts are not heard here, "
            "look at what lies between them and at this router's firewall"
            for name, peer in self._unheard.lasting(now)
            if one.active and name == one.name and peer in one.unheard
        ]
        if not one.active and one.peer is not None and one.learns_interval:
            source, interval_ms = one.peer
            if interval_ms != one.interval_ms:
                found.append(
                    f"{one.name}: advert_int is {interval_ms} ms on {source} and {one.interval_ms} ms here: "
                    "set it alike"
                )
        return found
