# SPDX-License-Identifier: GPL-2.0-or-later
"""Trackers: the state of interfaces, scripts and checks, and its worth to a group.

A tracker with weight 0 that is down is a fault; a weighted one moves the priority, as
keepalived.conf(5) has it: a positive weight is added while up, a negative one while down.
A sync group has one set of trackers, all members' and its own, so that its priority moves
as one; the same object tracked by several members counts once.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.core.settings import Track

OWNER = 255


class Tracking:
    """The trackers of one group with the last known state of each."""

    def __init__(self, tracks: Iterable[Track]) -> None:
        self._tracks: dict[tuple[str, str], Track] = {}
        self._up: dict[tuple[str, str], bool] = {}
        self._why: dict[tuple[str, str], str] = {}  # what was seen of those that are down
        self.replace(tracks)

    def replace(self, tracks: Iterable[Track]) -> None:
        """Track these from now on; what stays tracked keeps its state (a reload)."""
        self._tracks = {}
        for track in tracks:
            known = self._tracks.get((track.kind, track.name))
            if known is None or known.weight != 0:  # a fault for one member is one for the group
                self._tracks[track.kind, track.name] = track
        self._up = {key: up for key, up in self._up.items() if key in self._tracks}

    def copy(self) -> Tracking:
        """The same objects in the same states."""
        other = Tracking(self.tracks)
        other._up, other._why = dict(self._up), dict(self._why)
        return other

    def update(self, kind: str, name: str, up: bool, why: str = "") -> None:
        """Note the state of a tracked object, and why; objects not tracked here are ignored."""
        if self.has(kind, name):
            self._up[kind, name] = up
            self._why[kind, name] = "" if up else why

    def has(self, kind: str, name: str) -> bool:
        """Whether the object is tracked here."""
        return (kind, name) in self._tracks

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracked interfaces and scripts."""
        return tuple(self._tracks.values())

    def up(self, track: Track) -> bool | None:
        """Whether the object is up, before `reverse`; None until it is first known."""
        return self._up.get((track.kind, track.name))

    @property
    def pending(self) -> tuple[str, ...]:
        """Trackers whose first result the election must wait for (keepalived's script init)."""
        return tuple(
            f"{track.kind} {track.name}"
            for track in self.tracks
            if track.weight == 0 and self.up(track) is None
        )

    @property
    def failed(self) -> tuple[Track, ...]:
        """The trackers of weight 0 that are down."""
        return tuple(track for track in self.tracks if self._bad(track))

    @property
    def faults(self) -> tuple[str, ...]:
        """A reason for every tracker of weight 0 that is down."""
        return tuple(
            f"{track.kind} {track.name} {self._why.get((track.kind, track.name)) or 'down'}"
            for track in self.failed
        )

    @property
    def changes(self) -> tuple[tuple[str, int], ...]:
        """Every weight that counts now, as ("script chk", +10)."""
        return tuple(
            (f"{track.kind} {track.name}", track.weight) for track in self.tracks if self._counts(track)
        )

    def priority(self, base: int) -> int:
        """The effective priority: 1..254, or 255 for the owner, whom no weight moves."""
        if base == OWNER:
            return OWNER
        return max(1, min(254, base + sum(weight for _, weight in self.changes)))

    def _good(self, track: Track) -> bool | None:
        up = self.up(track)
        return up if up is None else up != track.reverse

    def _bad(self, track: Track) -> bool:
        return track.weight == 0 and self._good(track) is False

    def _counts(self, track: Track) -> bool:
        good = self._good(track)
        return (good is True and track.weight > 0) or (good is False and track.weight < 0)
