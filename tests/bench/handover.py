# SPDX-License-Identifier: GPL-2.0-or-later
"""Planned hand-overs as a client sees them: datagrams lost at one per ms, and the worst outage.

The better router leaves its role in each way, and takes it back by preemption. tandemd knows its peer, and
replicates connections: none first, and then 100,000. keepalived is only stopped and started.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.bench.replication import CROWD
from tests.bench.takeover import crowded
from tests.lab import (
    FAR,
    Daemon,
    Keepalived,
    Pings,
    Router,
    SeedLab,
    Service,
    Tandem,
    seed_instances,
    wait_until,
)
from tests.lab.topology import KEEPALIVED_NAT, SYNC_GROUP
from tests.netns import live

Figures = dict[str, float]
ROUNDS = 10
ADVERT_S = 0.1
PATIENCE = 60.0


def handover(kind: str) -> Figures:
    """Each way to hand the role over, ROUNDS times."""
    figures = _rounds(kind, 0)
    return figures | _rounds(kind, CROWD) if kind == Tandem.name else figures


def _rounds(kind: str, flows: int) -> Figures:
    found: dict[str, list[tuple[int, float]]] = {}
    with SeedLab(lambda number: _daemon(kind, number), tag="bench") as lab:
        lab.up()
        Service(lab.server, "echo", FAR, "7")
        better, other = lab.routers
        for router in lab.routers:
            router.start()
        for router in lab.routers:
            router.wait_started()
        _settle(lab, kind, better)
        if flows:
            crowded(lab, kind, better, other, flows)
        pings = Pings(lab.client, FAR)

        def event(name: str, action: Callable[[], object], successor: Router) -> None:
            pings.flowing(timeout=PATIENCE)
            before = time.monotonic()
            action()
            wait_until(lambda: successor.active, PATIENCE, f"{name}: it is active", explain=lab.logs)
            outage = pings.outage_since(before, timeout=PATIENCE)
            found.setdefault(name, []).append((outage.lost, outage.ms))
            if name != "SIGTERM":
                _settle(lab, kind, successor)

        for _ in range(ROUNDS):
            for command in ("failover", "standby") if kind == Tandem.name else ():
                event(command, lambda: Tandem.request(better, command), other)  # noqa: B023
                event("failback", lambda: Tandem.request(better, "resume"), better)
            event("SIGTERM", lambda: better.signal(signal.SIGTERM), other)
            better.processes[-1].wait(PATIENCE)
            event("failback after a start", better.start, better)
    label = f"{flows // 1000}k flows: " if flows else ""
    figures: Figures = {}
    for name, values in found.items():
        figures[f"{label}{name}: datagrams lost (1 per ms), {len(values)} times"] = sum(
            one[0] for one in values
        )
        figures[f"{label}{name}: worst outage, ms"] = max(ms for _, ms in values)
    return figures


def _daemon(kind: str, number: int) -> Daemon:
    if kind == Tandem.name:
        return live.synced(number, advert_s=ADVERT_S, preempt=True)
    instances = seed_instances(ADVERT_S, priority=151 - 50 * (number - 1), preempt=True)
    return Keepalived(instances, SYNC_GROUP, nft=KEEPALIVED_NAT)


def _settle(lab: SeedLab, kind: str, active: Router) -> None:
    """Wait until this router alone is active, and the other one is ready for the next event."""
    wait_until(lambda: lab.active is active, PATIENCE, "it alone is active", explain=lab.logs)
    if kind == Tandem.name:
        wait_until(lambda: live.in_step(lab), PATIENCE, "in step", explain=lab.logs)
    else:
        wait_until(lambda: lab.other(active).all_in("BACKUP"), PATIENCE, "a backup", explain=lab.logs)
