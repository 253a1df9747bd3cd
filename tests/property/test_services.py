# SPDX-License-Identifier: GPL-2.0-or-later
"""Services under random faults: none runs on two routers, and all run on one when the faults are over."""

from __future__ import annotations

import pytest

from tandem.core.services import Place
from tandem.core.settings import Service
from tests.property.service_world import World, fault

FAULTS = 1000
CHAIN = [
    Service("disk", "ocf:heartbeat:Filesystem", group="G", failure_timeout_ms=30_000),
    Service("database", "ocf:heartbeat:mysql", group="G", after=("disk",), together=("disk",)),
    Service("web", "systemd:web", group="G", after=("database",), migration_threshold=3),
    Service("proxy", "procd:proxy", group="G", on_fail="failover"),
    Service("replica", command=("/bin/replica",), group="G", where="backup"),
]


@pytest.mark.parametrize(
    ("seed", "failing"), [(seed, failing) for seed in range(4) for failing in (0.0, 0.05, 0.4)]
)
def test_no_service_runs_twice(seed: int, failing: float) -> None:
    world = World(CHAIN, seed, failing)
    world.elect(handed_over=False)
    while world.faults < FAULTS:
        fault(world)
    assert world.ran, "this test sees services that run"
    world.settle()
    active = world.active()
    assert active is not None
    for service in CHAIN:
        place = active.place if service.where == "active" else Place.BACKUP
        for router in world.routers.values():
            runs = service.name in router.truth
            assert runs == (router.place is place), (
                service.name,
                router.name,
                router.core.services[service.name].state,
            )
