# SPDX-License-Identifier: GPL-2.0-or-later
"""False takeovers while nothing is wrong, but for the load: CPU hogs, new flows, a flood of adverts.

The default configuration, with replication and heartbeats of 50 ms, with real-time scheduling (the default)
and without. keepalived has no such choice here: it runs as it is installed.
"""

from __future__ import annotations

import time

from tests.bench.flood import Flood
from tests.bench.measure import flooding
from tests.bench.takeover import busy_cores
from tests.lab import Daemon, SeedLab, Tandem, seed_daemon, wait_until
from tests.netns import live

Figures = dict[str, float]
SECONDS = 60.0
FLOWS = 1000  # new ones a second
ADVERT_S = 1.0


def saturated(kind: str) -> Figures:
    """Return how many roles the daemons took within SECONDS, by their own logs."""
    schedules = {"SCHED_FIFO": "50", "without SCHED_FIFO": "0"} if kind == Tandem.name else {"SCHED_FIFO": ""}
    return {
        f"saturated for {SECONDS:g} s, {name}: false takeovers": _run(kind, priority)
        for name, priority in schedules.items()
    }


def _daemon(kind: str, number: int, priority: str) -> Daemon:
    if kind != Tandem.name:
        return seed_daemon(kind, ADVERT_S)
    options = {"vrrp_rt_priority": priority}
    return live.synced(number, advert_s=ADVERT_S, options_of_globals=options, heartbeat="1")


def _run(kind: str, priority: str) -> float:
    with SeedLab(lambda number: _daemon(kind, number, priority), tag="bench") as lab:
        lab.up()
        for router in lab.routers:
            router.start()
        for router in lab.routers:
            router.wait_started()
        active = wait_until(lambda: lab.active, 30, "one active", explain=lab.logs)
        wait_until(lambda: lab.other(active).all_in("BACKUP"), 30, "a backup", explain=lab.logs)
        wait_until(lambda: _taken(lab, kind) >= len(active.daemon.instances), 30, "all is told")
        before = _taken(lab, kind)
        until = time.monotonic() + SECONDS
        flood = Flood(lab.client, active)
        with busy_cores(), flooding(lab.client):
            while time.monotonic() < until:
                flood.send(FLOWS, FLOWS)
        wait_until(lambda: lab.active, 60, "one is active", explain=lab.logs)
        return (_taken(lab, kind) - before) / len(active.daemon.instances)


def _taken(lab: SeedLab, kind: str) -> int:
    """How often instances became MASTER, as the logs say."""
    word = ": MASTER (" if kind == Tandem.name else "Entering MASTER STATE"
    return sum(router.log().count(word) for router in lab.routers)
