# SPDX-License-Identifier: GPL-2.0-or-later
"""A small router: each router's daemons are held to QUOTA of a core by a cgroup, version 1 or 2.

A quota does not bind real-time processes: tandemd runs with `vrrp_rt_priority 0` here. keepalived and
conntrackd have the same cgroups. States are read from the logs, because a question would cost CPU.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.conntrackd import KeepalivedConntrackd
from tests.bench.flood import Flood
from tests.lab import FAR, Daemon, Pings, Router, SeedLab, Service, Tandem, wait_until
from tests.lab.netns import run
from tests.lab.process import cost
from tests.netns import live

Figures = dict[str, float]
QUOTA = 0.05  # of a core
PERIOD_US = 100_000
ADVERT_S = 1.0
RATES = (20, 100, 300)  # new flows a second
FLOWS_S = 10.0
PATIENCE = 120.0
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


@contextmanager
def cgroups(count: int) -> Iterator[list[Path]]:
    """Cgroups whose processes get QUOTA of a core together."""
    version2 = (_V2 / "cgroup.controllers").exists()
    base = _V2 if version2 else _V1
    made = [base / f"tandem-bench-{os.getpid()}-{number}" for number in range(count)]
    quota = str(int(PERIOD_US * QUOTA))
    try:
        for path in made:
            path.mkdir()
            if version2:
                (base / "cgroup.subtree_control").write_text("+cpu")
                (path / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                (path / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (path / "cpu.cfs_quota_us").write_text(quota)
                if (path / "cpu.rt_runtime_us").exists():  # conntrackd is a real-time process
                    (path / "cpu.rt_runtime_us").write_text(str(int(1_000_000 * QUOTA)))
        yield made
    finally:
        for path in made:
            wait_until(lambda: not (path / "cgroup.procs").read_text(), 10, "the cgroup is empty")  # noqa: B023
            path.rmdir()


def start(router: Router, cgroup: Path) -> None:
    """Start a router's daemons in a cgroup; they have run for some milliseconds when they enter it.

    `ip netns exec` gives them a fresh /sys, without the mounted cgroups that a router has there: tandemd
    reads its quota in them.
    """
    router.start()
    for pid in router.family():
        (cgroup / "cgroup.procs").write_text(str(pid))
    if not isinstance(router.daemon, Tandem):
        return
    inside = ["nsenter", "-m", "-t", str(router.processes[0].pid)]
    if (_V2 / "cgroup.controllers").exists():
        run([*inside, "mount", "-t", "cgroup2", "cgroup", str(_V2)])
    else:
        run([*inside, "mount", "-t", "tmpfs", "cgroup", str(_V2)])
        run([*inside, "mkdir", str(_V1)])
        run([*inside, "mount", "-t", "cgroup", "-o", "cpu", "cgroup", str(_V1)])


def _daemon(kind: str, number: int) -> Daemon:
    if kind != Tandem.name:
        protocol = "meta l4proto 112 accept"
        firewall = live.FIREWALL.replace(protocol, f"{protocol}\nudp dport 3780 accept")
        return KeepalivedConntrackd(number, ADVERT_S, firewall)
    daemon = live.synced(number, advert_s=ADVERT_S, heartbeat="1", digest_interval="10")
    daemon.text = daemon.text.replace(
        "\toption router_id", "\toption vrrp_rt_priority '0'\n\toption router_id", 1
    )
    return daemon


def _cpu(router: Router) -> float:
    return sum(cost(item.pid).cpu_s for item in router.processes)


def _backup(kind: str, router: Router) -> bool:
    """Whether the log says that every instance is in backup."""
    text = router.log()
    form = "{}: BACKUP" if kind == Tandem.name else "({}) Entering BACKUP"
    return all(form.format(vr.name) in text for vr in router.daemon.instances)


def small(kind: str) -> Figures:
    """Start, respawn, reload, flows and takeover with QUOTA of a core for each router."""
    label = f"{100 * QUOTA:g} % of a core"
    figures: Figures = {}

    def until(figure: str, router: Router, condition: Callable[[], bool]) -> None:
        began = time.monotonic()
        wait_until(condition, PATIENCE, figure, every=0.02, explain=router.log)
        figures[f"{label}: {figure}, s"] = time.monotonic() - began
        figures[f"{label}: {figure}, CPU s"] = _cpu(router)

    with (
        cgroups(2) as groups,
        SeedLab(lambda number: _daemon(kind, number), tag="bench") as lab,
    ):
        lab.up()
        Service(lab.server, "echo", FAR, "7")
        first, second = lab.routers
        start(first, groups[0])
        wait_until(lambda: first.active, PATIENCE, "one is active", explain=first.log)
        start(second, groups[1])
        until("start to BACKUP", second, lambda: _backup(kind, second))
        second.kill()
        start(second, groups[1])
        until("respawn to BACKUP", second, lambda: _backup(kind, second))
        time.sleep(15)  # in step
        before = _cpu(second)
        second.signal(signal.SIGHUP)
        time.sleep(20)
        figures[f"{label}: reload without a change, CPU s"] = _cpu(second) - before
        for rate in RATES:
            before, began = [_cpu(router) for router in lab.routers], time.monotonic()
            Flood(lab.client, first).send(int(rate * FLOWS_S), rate, burst=max(1, rate // 50))
            elapsed = time.monotonic() - began
            for role, router, had in zip(("active", "backup"), lab.routers, before, strict=True):
                figure = f"{label}, {rate} flows/s: {role}: CPU, % of a core"
                figures[figure] = 100 * (_cpu(router) - had) / elapsed
        figures[f"{label}: false takeovers"] = float(
            (second.log() + first.log()).count("MASTER") - len(first.daemon.instances)
        )
        pings = Pings(lab.client, FAR)
        pings.flowing(timeout=PATIENCE)
        began = time.monotonic()
        first.power_off()
        outage = pings.outage_since(began, timeout=PATIENCE)
        figures[f"{label}: takeover at {ADVERT_S:g} s adverts, ms"] = outage.ms
    return figures
