# SPDX-License-Identifier: GPL-2.0-or-later
"""Power loss of the active router as a client sees it: the default configuration, and the fastest one.

By default adverts come every second, and tandemd's heartbeats every 50 ms, with no, 100,000 and 300,000
replicated connections. The fastest: heartbeats of 10 ms, and for keepalived adverts of 10 ms.
The silence after which tandemd takes its peer for dead grows with the lateness that the peer has had in the
last minute: a machine that stands still for a moment explains an outage that is longer than the others.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.bench.conntrackd import KeepalivedConntrackd
from tests.bench.replication import CROWD, started
from tests.bench.takeover import crowded, emptied, room_for
from tests.lab import FAR, Daemon, Pings, SeedLab, Service, Tandem
from tests.netns import live
from tests.netns.daemon import status

Figures = dict[str, float]
DEFAULT_S, FAST_S = 1.0, 0.01  # between adverts
YOUNG_S = 5.0  # so long a router that has just started is given more time


def loss(kind: str) -> Figures:
    """The outage in ms, by the number of replicated connections; the phase of the timers is random."""
    # The fastest first: for seconds after a laboratory has gone the kernel clears its 300,000 connections.
    figures = _loss("power loss, 10 ms", kind, 0, fast=True)
    with room_for(3 * CROWD) as most:
        for count in (0, CROWD, most):
            figures |= _loss(f"power loss, default, {count // 1000}k flows", kind, count)
    return figures


def _daemon(kind: str, fast: bool) -> Callable[[int], Daemon]:
    if kind == Tandem.name:
        globals_ = {"heartbeat_interval": str(FAST_S)} if fast else {}
        return lambda number: live.synced(
            number, advert_s=DEFAULT_S, options_of_globals=globals_, limit_entries="400000", heartbeat="1"
        )
    protocol = "meta l4proto 112 accept"
    firewall = live.FIREWALL.replace(protocol, f"{protocol}\nudp dport 3780 accept")
    return lambda number: KeepalivedConntrackd(number, FAST_S if fast else DEFAULT_S, firewall)


def _loss(label: str, kind: str, count: int, fast: bool = False) -> Figures:
    with SeedLab(_daemon(kind, fast), tag="bench") as lab:
        active, backup = started(lab, kind)
        crowded(lab, kind, active, backup, count)
        Service(lab.server, "echo", FAR, "7")
        pings = Pings(lab.client, FAR)
        pings.flowing(timeout=60)
        time.sleep(YOUNG_S + random.uniform(0.5, 0.5 + DEFAULT_S))
        figures: Figures = {}
        if kind == Tandem.name:
            beats = status(backup)["peers"][0]["heartbeats"]
            figures[f"{label}: silence that is a death, ms"] = beats["limit_ms"]
        before = time.monotonic()
        active.power_off()
        outage = pings.outage_since(before, timeout=60)
        emptied(lab)
        return {f"{label}: outage, ms": outage.ms} | figures
