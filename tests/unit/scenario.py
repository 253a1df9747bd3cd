# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared parts of the tests of the pure core: short constructors, and a clock that the test sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tandem.core.actions import Action
from tandem.core.events import AdvertReceived, SourceChanged, Start, Tick, TrackerChanged
from tandem.core.packet import Advertisement
from tandem.core.settings import Garp, Group, Instance, Track
from tandem.core.sync_group import SyncGroup

QUIET = Garp(delay_ms=0, repeat=5, refresh_ms=0, lower_prio_repeat=0)  # no announcements of its own accord
OURS = bytes((192, 168, 1, 2))
LOWER = bytes((192, 168, 1, 1))
HIGHER = bytes((192, 168, 1, 3))


def instance(name: str = "LAN", **settings: Any) -> Instance:
    """An instance on the interface of its own name, 1 s adverts, version 3, priority 100."""
    values: dict[str, Any] = {
        "interface": name.lower(), "virtual_router_id": 51, "version": 3, "garp": QUIET,
    }  # fmt: skip
    return Instance(name, **values | settings)


def sync_group(*instances: Instance, tracks: tuple[Track, ...] = ()) -> SyncGroup:
    """A configured sync group "G", or a group of one for a single instance."""
    names = tuple(member.name for member in instances)
    implicit = len(names) == 1
    return SyncGroup(Group(names[0] if implicit else "G", names, tracks, implicit=implicit), instances)


def ready(group: SyncGroup, now: int = 0, source: bytes = OURS) -> SyncGroup:
    """Links up, weight-0 scripts up and addresses known, not yet started."""
    for track in group.tracking.tracks:
        if track.kind == "interface" or track.weight == 0:
            assert group.handle(TrackerChanged(track.kind, track.name, True), now) == []
    for member in group.members:
        assert group.handle(SourceChanged(member.name, source), now) == []
    return group


def started(group: SyncGroup, now: int = 0, source: bytes = OURS) -> SyncGroup:
    """In BACKUP since `now`."""
    ready(group, now, source).handle(Start(), now)
    return group


def active(group: SyncGroup, now: int = 0, source: bytes = OURS) -> SyncGroup:
    """ACTIVE since `now`, or before when it owns its addresses."""
    interval = max(member.active_down_interval() for member in group.members)
    run(started(group, now - interval, source), now)
    return group


def heard(
    priority: int, source: bytes = HIGHER, name: str = "LAN", interval_cs: int = 100, version: int = 3
) -> AdvertReceived:
    """An advertisement for `name`."""
    return AdvertReceived(name, Advertisement(version, 51, priority, interval_cs, ()), source)


def run(group: SyncGroup, until: int) -> list[tuple[int, list[Action]]]:
    """Tick at every deadline up to `until` with nobody else on the LAN; what was done when."""
    done: list[tuple[int, list[Action]]] = []
    while (now := group.next_deadline()) is not None and now <= until:
        done.append((now, group.handle(Tick(), now)))
        after = group.next_deadline()
        assert after is None or after > now, "a busy loop"
    return done


def feed(group: SyncGroup, now: int, *events: Any) -> list[Action]:
    """The actions of several events at one time."""
    actions: list[Action] = []
    for event in events:
        actions += group.handle(event, now)
    return actions


def of(kind: type, actions: Iterable[Action]) -> list[Any]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]
