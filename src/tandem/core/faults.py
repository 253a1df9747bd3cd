# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of a sync group: why it takes no part in elections, and when a failed effect is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tandem.core.settings import Group, Instance, Track
from tandem.core.timers import SECOND
from tandem.core.virtual_router import VirtualRouter

EFFECT_RETRY = 10 * SECOND
EFFECT_RETRY_MAX = 300 * SECOND


class EffectFaults:
    """The effects that the kernel refused, by instance; each failure doubles the pause before a retry."""

    def __init__(self) -> None:
        self.retry_at: int | None = None
        self._reasons: dict[str, str] = {}
        self._pause = EFFECT_RETRY
        self._failed_at: int | None = None

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def copy(self) -> EffectFaults:
        """Return the same faults with the same deadline, for another group."""
        other = EffectFaults()
        other.__dict__.update(self.__dict__)
        other._reasons = dict(self._reasons)
        return other

    def failed(self, name: str, reason: str, now: int) -> None:
        """Note that the kernel refused something of an instance."""
        failed_at, self._failed_at = self._failed_at, now
        self._reasons[name] = reason
        if self.retry_at is None:
            again = failed_at is not None and now < failed_at + 2 * self._pause
            self._pause = min(2 * self._pause, EFFECT_RETRY_MAX) if again else EFFECT_RETRY
            self.retry_at = now + self._pause

    def forget(self, name: str) -> None:
        """Drop the fault of an instance that leaves the group."""
        self._reasons.pop(name, None)

    def clear(self) -> None:
        """Drop all faults: the effects are tried again."""
        self.retry_at = None
        self._reasons.clear()

    def reasons(self) -> list[str]:
        """Return one sentence for each fault."""
        return [f"{name}: {reason}" for name, reason in self._reasons.items()]


def tracks_of(settings: Group, members: Iterable[VirtualRouter]) -> list[Track]:
    """Return everything that a group tracks: its own trackers, its members' and their interfaces."""
    tracks = list(settings.tracks)
    for member in members:
        instance = member.settings
        explicit = any((t.kind, t.name) == ("interface", instance.interface) for t in instance.tracks)
        if instance.track_primary and not explicit:
            tracks.append(Track("interface", instance.interface))
        tracks += instance.tracks
    return tracks


def missing_sources(members: Iterable[VirtualRouter]) -> Iterator[str]:
    """Yield a fault for each member that has no address to send from, and needs one."""
    for member in members:
        settings = member.settings
        if member.source is None and (settings.track_primary or _tracks_source(settings)):
            if settings.source:
                yield f"{settings.source} is not on {settings.interface}"
            else:
                yield f"no address on {settings.interface}"


def _tracks_source(settings: Instance) -> bool:
    """Whether the instance needs its configured source address, whatever becomes of its interface."""
    return settings.source is not None and settings.track_src_ip
