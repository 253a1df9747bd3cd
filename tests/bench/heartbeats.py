# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of heartbeats: two routers at rest, with LAN, WAN and a cable between them, which are three paths.

Adverts come every second, so that nearly every wake is a heartbeat's. keepalived has no heartbeats: its
figures are those of adverts of 50 ms.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab import Daemon, Port, Router, SeedLab, Tandem, seed_daemon, seed_instances, wait_until
from tests.lab.process import cost
from tests.lab.scenario import tandem_uci
from tests.netns.daemon import status

Figures = dict[str, float]
INTERVAL_S = 0.05
SETTLE_S = 8.0  # the start's own work is over, and the peers know how late the routers are
REST_S = 20.0
PATHS = 3


def heartbeats(kind: str) -> Figures:
    """CPU and wakes of both routers' daemons, with heartbeats and without."""
    if kind != Tandem.name:
        return _measured(kind, "adverts of 50 ms", INTERVAL_S)
    with_them = _measured(kind, "heartbeats of 50 ms by 3 paths", INTERVAL_S)
    return with_them | _measured(kind, "without heartbeats", 0)


def _measured(kind: str, label: str, interval_s: float) -> Figures:
    lab = SeedLab(lambda number: _daemon(kind, number, interval_s), tag="bench")
    cable = lab.switch("cable")
    for number, router in enumerate(lab.routers, 1):
        router.ports = (*router.ports, Port("eth9", cable, f"10.9.9.{number}/24"))
    with lab:
        lab.up()
        for router in lab.routers:
            router.start()
        for router in lab.routers:
            router.wait_started()
        active = wait_until(lambda: lab.active, 20, "one is active", explain=lab.logs)
        if kind == Tandem.name and interval_s:
            wait_until(lambda: all(_heard(one) == PATHS for one in lab.routers), 20, "all paths")
        time.sleep(SETTLE_S)
        before, began = [_used(one) for one in lab.routers], time.monotonic()
        time.sleep(REST_S)
        after, took = [_used(one) for one in lab.routers], time.monotonic() - began
    figures: Figures = {}
    for router, (cpu, wakes), (had, woken) in zip(lab.routers, after, before, strict=True):
        role = "active" if router is active else "backup"
        figures[f"{label}: {role}: CPU, % of a core"] = 100 * (cpu - had) / took
        figures[f"{label}: {role}: wakes a second"] = (wakes - woken) / took
    return figures


def _daemon(kind: str, number: int, interval_s: float) -> Daemon:
    if kind != Tandem.name:
        return seed_daemon(kind, interval_s)
    instances = seed_instances(1.0, priority=151 - 50 * (number - 1), preempt=True)
    groups = {"G1": [instance.name for instance in instances]}
    text = tandem_uci(instances, groups, {"heartbeat_interval": str(interval_s)})
    peer = [
        "",
        "config peer 'other'",
        f"\tlist address '10.9.9.{3 - number}'",
        "\toption secret 'between two routers'",
    ]
    return Tandem(instances, groups, text=text + "\n".join([*peer, ""]))


def _heard(router: Router) -> int:
    beats = status(router)["peers"][0]["heartbeats"]
    return sum(path["up"] for path in beats["paths"]) if beats else 0


def _used(router: Router) -> tuple[float, int]:
    """CPU in seconds, and how often the daemon's processes have slept."""
    slept = 0
    for pid in router.family():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        slept += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return cost(router.pid).cpu_s, slept
