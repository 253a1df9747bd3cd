# SPDX-License-Identifier: GPL-2.0-or-later
"""Cost and times of Tandem on a machine, as a row of the table in README.md."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab import wait_until

from .image import Image
from .machine import accelerated
from .router import Pair
from .traffic import Traffic, fill, told, traffic

ENTRIES = 10_000
IDLE_S = 30.0
COLUMNS = ["guest", "boot s", "power loss, ms", "WAN cable, ms", f"restore of {ENTRIES}, ms"]
COLUMNS += ["RSS MiB", "idle CPU %"]


def figures(pair: Pair, runs: int, logs: Path) -> str:
    """Measure with a pair that is not started; three lines of Markdown, the table's head among them."""
    with pair.up() as lab:
        try:
            row = _measure(lab, lab.r1.image, runs)
        finally:
            for router in lab.routers:
                router.keep_logs(logs)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), row))


def _measure(lab: Pair, image: Image, runs: int) -> list[str]:
    began = time.monotonic()
    lab.boot()
    boot = time.monotonic() - began
    lab.set_up()
    rss, cpu = _cost(lab)
    with traffic(lab) as client:
        power = [_outage(lab, client, _power) for _ in range(runs)]
        cable = [_outage(lab, client, _cable) for _ in range(runs)]
    how = "KVM" if accelerated(image) else "TCG"
    restore = f"{_restore(lab):.1f}"
    return [f"{image.name}, {how}", f"{boot:.0f}", _spread(power), _spread(cable), restore, rss, cpu]


def _outage(lab: Pair, client: Traffic, event: Callable[[Pair], None]) -> float:
    lab.in_step()
    start = time.monotonic()
    event(lab)
    outage = client.outage_since(start, 120)
    client.go_on(120)
    for router in lab.routers:
        if not router.running:
            router.power_on()
            router.wait_booted()
        for card in router.cards:
            router.put(card.device)
    return outage.ms


def _power(lab: Pair) -> None:
    lab.elected().power_off()


def _cable(lab: Pair) -> None:
    lab.elected().pull("eth1")


def _cost(lab: Pair) -> tuple[str, str]:
    """Return the figures of the active router and of the backup."""
    active = lab.in_step()
    routers = (active, lab.other(active))
    before, began = [router.cost() for router in routers], time.monotonic()
    wait_until(lambda: time.monotonic() - began > IDLE_S, IDLE_S + 1, every=0.5)
    after, took = [router.cost() for router in routers], time.monotonic() - began
    cpu = [(late.cpu_s - early.cpu_s) / took * 100 for early, late in zip(before, after, strict=True)]
    rss = [cost.rss_kib / 1024 for cost in after]
    return " / ".join(f"{value:.1f}" for value in rss), " / ".join(f"{value:.2f}" for value in cpu)


def _restore(lab: Pair) -> float:
    """ms that a takeover spends on the connections of a router that loses its power, with all of them known.

    The backup's kernel has most of them before (tandem.replication's mirror): then it is next to nothing.
    """
    active = lab.in_step()
    other = lab.other(active)
    fill(lab, active, ENTRIES)
    told(lab, active)
    active.power_off()
    wait_until(lambda: other.active, 60, "the other takes over", every=0.2)
    known = other.entries()
    assert known >= ENTRIES, f"{known} of {ENTRIES} connections"
    return float(sum(step["ms"] for step in other.status("conntrack")["restore_steps"]))


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} [{min(values):.0f}-{max(values):.0f}]"
