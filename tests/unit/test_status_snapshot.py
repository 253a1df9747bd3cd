# SPDX-License-Identifier: GPL-2.0-or-later
"""The status of a router with stand-ins for its sockets: every figure in its unit, and the schema."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.control import status as module
from tandem.control.status import snapshot
from tandem.core.damping import Damping
from tandem.core.events import Standby
from tandem.core.settings import Address, Track
from tandem.core.sync_group import SyncGroup
from tests.tools.json_schema import problems
from tests.tools.status_files import schema
from tests.unit.scenario import HIGHER, OURS, active, heard, instance, ready, started, sync_group

SECOND = 1_000_000_000
NOW = 5_000 * SECOND
WALL = 1_700_000_000
FACTS: dict[str, Any] = {
    "started": NOW - 90 * SECOND, "config_file": "/etc/config/tandem", "memory_locked": True, "health": {},
    "dhcp": None, "follow": [], "peers": [], "services": [], "checks": [], "virtual_servers": [],
    "quorum": None,    "heartbeat_ms": None, "history": [], "counters": {"adverts": 3},
}  # fmt: skip


class Links:
    """Network lan is the device br-lan; wan has none now."""

    networks: dict[str, str | None] = {"lan": "br-lan", "wan": None}  # noqa: RUF012

    def device(self, name: str) -> str | None:
        return self.networks.get(name)


def endpoint(**changes: Any) -> Any:
    counters = {"sent": 2, "failed": 0}
    return SimpleNamespace(
        **{"source": OURS, "home": "lan", "stranger": None, "counters": counters} | changes
    )


def taken(group: SyncGroup, end: Any = None, standby: tuple[Any, ...] = (None, None, False)) -> Any:
    """The status of a router with this group, whose first member has changed 1.5004 s ago."""
    name = group.members[0].name
    router: Any = SimpleNamespace(
        plan=SimpleNamespace(config=SimpleNamespace(globals=SimpleNamespace(router_id="r1"))),
        groups={group.settings.name: group}, links=Links(), drops={"ttl": 1},
        endpoints={member.name: end or endpoint() for member in group.members},
        changed={name: NOW - 1_500_400_000}, transitions={name: 4},
    )  # fmt: skip
    loop: Any = SimpleNamespace(
        now=lambda: NOW, late_max=1_234_567, late_count=2, turn_max=7_654_321, turn_by="x", turn_count=1
    )
    found: Any = snapshot(router, loop, SimpleNamespace(of=lambda _group: standby), FACTS)  # type: ignore[arg-type]
    return found


@pytest.fixture(autouse=True)
def wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "time", lambda: float(WALL))


def test_it_fits_the_schema() -> None:
    assert list(problems(taken(started(sync_group(instance()), NOW)), schema())) == []


def test_the_daemon() -> None:
    found = taken(started(sync_group(instance()), NOW))
    assert (found["schema_version"], found["pid"], found["uptime_s"]) == (1, os.getpid(), 90)
    scheduling = found["scheduling"]
    assert (scheduling["late_max_ms"], scheduling["late_limit_ms"]) == (1.235, 10)
    assert (scheduling["turn_max_ms"], scheduling["turn_limit_ms"]) == (7.654, 20)
    assert found["counters"] == {"adverts": 3, "ttl": 1}


def test_a_backup_that_hears_a_router() -> None:
    group = started(sync_group(instance(advert_int_cs=150, preempt=False)), NOW)
    group.handle(heard(120, interval_cs=150), NOW - 250_000_000)
    found = taken(group)["instances"][0]
    assert found["peer"] == {
        "address": "192.168.1.3", "priority": 120, "interval_ms": 1500, "last_advert_s": 0.25,
    }  # fmt: skip
    assert (found["advert_int_ms"], found["since_s"], found["since"]) == (1500, 1.5, WALL - 2)
    assert (found["state"], found["source"], found["stranger"]) == ("BACKUP", "192.168.1.2", None)
    assert (found["transitions"], found["counters"]) == (4, {"sent": 2})


def test_what_has_not_started_has_no_peer() -> None:
    group = started(sync_group(instance()), NOW)
    group.handle(heard(120), NOW)
    assert taken(group)["instances"][0]["peer"] is not None
    group.handle(Standby(), NOW)
    assert taken(group)["instances"][0]["peer"] is None
    assert taken(ready(sync_group(instance())), endpoint(source=None))["instances"][0]["source"] is None


def test_a_stranger() -> None:
    end = endpoint(stranger=(HIGHER, 99, 250, NOW - 2 * SECOND))
    assert taken(started(sync_group(instance()), NOW), end)["instances"][0]["stranger"] == {
        "address": "192.168.1.3", "priority": 99, "interval_ms": 2500, "last_advert_s": 2,
    }  # fmt: skip


def test_addresses_and_their_devices() -> None:
    member = instance(
        virtual_addresses=(Address("192.168.1.4", 24, 4), Address("10.0.0.1", 8, 4, "wan")),
        excluded_addresses=(Address("fd00::4", 64, 6, "eth7"),),
    )
    found = taken(started(sync_group(member), NOW))["instances"][0]
    assert found["addresses"] == ["192.168.1.4/24 dev br-lan", "10.0.0.1/8 dev wan", "fd00::4/64 dev eth7"]


def test_a_group_and_its_members() -> None:
    tracks = (Track("script", "chk", 10), Track("interface", "wan", 0))
    group = active(sync_group(instance(), instance("WAN"), tracks=tracks), NOW)
    group.tracking.update("script", "chk", True)
    status = taken(group, standby=(WALL, "ann", True))
    [found], (first, second) = status["groups"], status["instances"]
    assert (found["name"], found["state"], found["members"]) == ("G", "MASTER", ["LAN", "WAN"])
    assert (found["since_s"], found["since"], found["damped_s"]) == (1.5, WALL - 2, None)
    assert (found["standby_since"], found["standby_by"], found["standby_lasts"]) == (WALL, "ann", True)
    assert (first["group"], first["priority"]["why"]) == ("G", ["script chk +10"])
    assert (second["since_s"], second["since"], second["transitions"]) == (None, None, 0)
    assert first["trackers"][0] == {"kind": "script", "name": "chk", "up": True, "weight": 10}


def test_a_group_whose_role_has_changed_too_often() -> None:
    group = started(sync_group(instance()), NOW)
    group.damping = Damping(1, 60 * SECOND)
    group.damping.note(NOW - 15 * SECOND)
    assert taken(group)["groups"][0]["damped_s"] == 45
