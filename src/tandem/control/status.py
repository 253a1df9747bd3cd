# SPDX-License-Identifier: GPL-2.0-or-later
"""One snapshot of the daemon for the command line, ubus, LuCI and metrics."""

from __future__ import annotations

import os
import time

from tandem import __version__
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND, SECOND
from tandem.core.virtual_router import VirtualRouter
from tandem.effects.endpoint import Endpoint, text
from tandem.loop import LATE, TURN_LIMIT, Loop
from tandem.router import Router
from tandem.scheduling import policy_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.control.standby import Standby
    from tandem.status_schema import Advertiser, DaemonFacts, Group, Instance, Status

SCHEMA_VERSION = 1  # see status_schema


def snapshot(router: Router, loop: Loop, standby: Standby, facts: DaemonFacts) -> Status:
    """Return the daemon's present state, as `status_schema` describes it."""
    now = loop.now()
    return {
        "schema_version": SCHEMA_VERSION,
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
            "turn_max_ms": round(loop.turn_max / MILLISECOND, 3),
            "turn_max_by": loop.turn_by,
            "turn_count": loop.turn_count,
            "turn_limit_ms": TURN_LIMIT // MILLISECOND,
            "heartbeat_ms": facts["heartbeat_ms"],
        },
        "health": facts["health"],
        "dhcp": facts["dhcp"],
        "follow": facts["follow"],
        "networks": dict(router.links.networks),
        "peers": facts["peers"],
        "quorum": facts["quorum"],
        "services": facts["services"],
        "checks": facts["checks"],
        "virtual_servers": facts["virtual_servers"],
        "groups": [_group(group, router, standby, now) for group in router.groups.values()],
        "instances": [
            _instance(group, member, router.endpoints[member.name], router, now)
            for group in router.groups.values()
            for member in group.members
        ],
        "history": facts["history"],
        "counters": facts["counters"] | router.drops,
    }


def _group(group: SyncGroup, router: Router, standby: Standby, now: int) -> Group:
    settings, damped = group.settings, group.damping.until(now)
    age = _age(router.changed.get(group.members[0].name), now)
    since, who, lasts = standby.of(settings.name)
    return {
        "name": settings.name,
        "state": group.state,
        "since_s": age,
        "since": _when(age),
        "members": list(settings.members),
        "implicit": settings.implicit,
        "standby": group.standby,
        "standby_since": since,
        "standby_by": who,
        "standby_lasts": lasts,
        "held": group.held,
        "probation": group.fault_state.probation,
        "damped_s": None if damped is None else _seconds(damped - now),
        "faults": list(group.faults),
        "waits": group.offer.waits,
    }


def _instance(
    group: SyncGroup, member: VirtualRouter, endpoint: Endpoint, router: Router, now: int
) -> Instance:
    settings = member.settings
    faults = group.faults
    age = _age(router.changed.get(settings.name), now)
    return {
        "name": settings.name,
        "group": group.settings.name,
        "state": group.state,
        "since_s": age,
        "since": _when(age),
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
    """Return the device of a network that has one, otherwise the name itself."""
    return router.links.device(name) or name


def _peer(member: VirtualRouter, now: int) -> Advertiser | None:
    peer = member.peer
    if peer is None or member.role is Role.INITIALIZE:
        return None
    return {
        "address": text(peer.source),
        "priority": peer.priority,
        "interval_ms": peer.interval_cs * 10,
        "last_advert_s": _seconds(now - peer.heard),
    }


def _stranger(endpoint: Endpoint, now: int) -> Advertiser | None:
    """Return the router whose adverts were ignored last, because it is no Tandem peer."""
    if endpoint.stranger is None:
        return None
    source, priority, interval_cs, heard = endpoint.stranger
    return {
        "address": text(source),
        "priority": priority,
        "interval_ms": interval_cs * 10,
        "last_advert_s": _seconds(now - heard),
    }


def _age(changed: int | None, now: int) -> float | None:
    return None if changed is None else _seconds(now - changed)


def _when(age: float | None) -> int | None:
    """Return the time of day so many seconds ago; the clock may have been set since."""
    return None if age is None else round(time.time() - age)


def _seconds(duration: int) -> float:
    return round(duration / SECOND, 3)
