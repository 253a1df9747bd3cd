# SPDX-License-Identifier: GPL-2.0-or-later
"""One snapshot of the daemon for the command line, ubus, LuCI and metrics."""

from __future__ import annotations

import os
import time

from tandem import __version__
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.virtual_router import VirtualRouter
from tandem.effects.endpoint import Endpoint, text
from tandem.loop import LATE, MILLISECOND, Loop
from tandem.router import Router
from tandem.scheduling import policy_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Snapshot = dict[str, Any]

SECOND = 1_000_000_000


def snapshot(router: Router, loop: Loop, facts: Snapshot) -> Snapshot:
    """Everything that is known now, as values that JSON carries.

    `facts` are what only the daemon knows: config_file, memory_locked, started (in ns), health, dhcp,
    history, counters.
    `networks` are the names that netifd knows, each with its device or null, see `Links.networks`.
    Durations are seconds (`_s`) or milliseconds (`_ms`), `since` is seconds since the epoch or null.
    """
    now = loop.now()
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": _seconds(now - facts["started"]),
        "router_id": router.plan.config.globals.router_id,
        "config_file": facts["config_file"],
        "scheduling": {
            "policy": policy_name(),
            "memory_locked": facts["memory_locked"],
            "late_max_ms": round(loop.late_max / MILLISECOND, 3),
            "late_count": loop.late_count,
            "late_limit_ms": LATE // MILLISECOND,
        },
        "health": facts["health"],
        "dhcp": facts["dhcp"],
        "networks": dict(router.links.networks),
        "groups": [_group(group, router, now) for group in router.groups.values()],
        "instances": [
            _instance(group, member, router.endpoints[member.name], router, now)
            for group in router.groups.values()
            for member in group.members
        ],
        "history": facts["history"],
        "counters": facts["counters"] | router.drops,
    }


def _group(group: SyncGroup, router: Router, now: int) -> Snapshot:
    settings, damped = group.settings, group.damping.until(now)
    return {
        "name": settings.name,
        "state": group.state,
        **_since(router.changed.get(group.members[0].name), now),
        "members": list(settings.members),
        "implicit": settings.implicit,
        "standby": group.standby,
        "held": group.held,
        "probation": group.probation,
        "damped_s": None if damped is None else _seconds(damped - now),
        "faults": list(group.faults),
    }


def _instance(
    group: SyncGroup, member: VirtualRouter, endpoint: Endpoint, router: Router, now: int
) -> Snapshot:
    settings = member.settings
    faults = group.faults
    return {
        "name": settings.name,
        "group": group.settings.name,
        "state": group.state,
        **_since(router.changed.get(settings.name), now),
        "interface": settings.interface,
        "device": router.links.device(settings.interface),
        "family": settings.family,
        "version": settings.version,
        "virtual_router_id": settings.virtual_router_id,
        "priority": {
            "base": settings.priority,
            "effective": member.priority,
            "why": [f"{name} {weight:+}" for name, weight in group.tracking.changes],
        },
        "advert_int_ms": settings.advert_int_cs * 10,
        "preempt": settings.preempt,
        "faults": list(faults),
        "source": None if endpoint.source is None else text(endpoint.source),
        "peer": _peer(member, now),
        "stranger": _stranger(endpoint, now),
        "addresses": [
            f"{address.address}/{address.prefixlen} dev {_device(address.device or endpoint.home, router)}"
            for address in settings.virtual_addresses + settings.excluded_addresses
        ],
        "routes": len(settings.routes),
        "rules": len(settings.rules),
        "snat": settings.snat,
        "trackers": [
            {"kind": track.kind, "name": track.name, "up": group.tracking.up(track), "weight": track.weight}
            for track in group.tracking.tracks
        ],
        "transitions": router.transitions.get(settings.name, 0),
        "counters": {name: count for name, count in endpoint.counters.items() if count},
    }


def _device(name: str, router: Router) -> str:
    """The device of a network that has one, else the name itself."""
    return router.links.device(name) or name


def _peer(member: VirtualRouter, now: int) -> Snapshot | None:
    peer = member.peer
    if peer is None or member.role is Role.INITIALIZE:
        return None
    return {
        "address": text(peer.source),
        "priority": peer.priority,
        "interval_ms": peer.interval_cs * 10,
        "last_advert_s": _seconds(now - peer.heard),
    }


def _stranger(endpoint: Endpoint, now: int) -> Snapshot | None:
    """The router whose adverts were ignored last, because it is no Tandem peer."""
    if endpoint.stranger is None:
        return None
    source, priority, interval_cs, heard = endpoint.stranger
    return {
        "address": text(source),
        "priority": priority,
        "interval_ms": interval_cs * 10,
        "last_advert_s": _seconds(now - heard),
    }


def _since(changed: int | None, now: int) -> Snapshot:
    """How long ago; the wall clock may have been set since, so it is reckoned from now."""
    if changed is None:
        return {"since_s": None, "since": None}
    age = _seconds(now - changed)
    return {"since_s": age, "since": round(time.time() - age)}


def _seconds(duration: int) -> float:
    return round(duration / SECOND, 3)
