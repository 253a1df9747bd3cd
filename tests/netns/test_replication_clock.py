# SPDX-License-Identifier: GPL-2.0-or-later
"""The time of day jumps, as it does when a router without a battery gets its time: nothing depends on it.

A library in front of libc tells the daemons another time of day, see lab/clock.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial

import pytest

from tests.lab import FAR, Router, SeedLab, wait_until
from tests.lab.clock import LIBRARY, build, preload, set_clock

from .daemon import status
from .live import (
    SyncedTandem,
    connections,
    equal,
    no_resets,
    peer,
    power_loss,
    started,
    synced,
    takes_over,
    told,
    transitions,
    udp_flows,
)

Open = Callable[[SeedLab], SeedLab]

YEAR = 365 * 86400


class ClockedTandem(SyncedTandem):
    """Its time of day is as far off as `set_clock` says."""

    def prepare(self, router: Router) -> None:
        super().prepare(router)
        set_clock(router.file("clock"), 0)
        if not (router.lab.directory / LIBRARY).exists():
            build(router.lab.directory)

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        return [[*preload(router.lab.directory / LIBRARY, router.file("clock")), *argv]]


def clocked(number: int) -> ClockedTandem:
    plain = synced(number)
    made = ClockedTandem(plain.instances, number, "")
    made.text = plain.text
    return made


def began(router: Router) -> int:
    """When it came into its state, by its time of day."""
    return int(status(router)["instances"][0]["since"])


def tells(router: Router, when: int) -> bool:
    return abs(began(router) - when) < 60


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_the_time_of_day_jumps(open_lab: Open) -> None:
    lab = open_lab(SeedLab(clocked))
    active, backup = started(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        udp_flows(lab.client, 500)
        told(lab)
        before = [(transitions(router), peer(router)["sessions"]) for router in lab.routers]
        resyncs = peer(active)["resyncs"]
        since = {router: began(router) for router in lab.routers}
        for offset in (10 * YEAR, -20 * YEAR, 3600, 0):
            for router in lab.routers:
                set_clock(router.file("clock"), offset)
                wait_until(partial(tells, router, since[router] + offset), 5, "it has another time of day")
            udp_flows(lab.client, 200, source=6000)
            flows.all_go_on()
            wait_until(lambda: equal(lab), 10, "both have the same")
        assert [(transitions(router), peer(router)["sessions"]) for router in lab.routers] == before
        assert peer(active)["resyncs"] == resyncs
        set_clock(backup.file("clock"), 10 * YEAR)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
