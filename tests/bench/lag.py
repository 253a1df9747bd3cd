# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a backup is behind while RATE new flows a second go through the active router.

    age      of the oldest flow that the backup does not hold yet, at a random moment: what would be lost if
             the active died then. Seen from outside, the same way with both daemons: the sender notes when
             it sends which flow, the backup's daemon is asked how many it holds. tandemd says when that
             was; for conntrackd it is half-way between question and answer, 0.1 ms from either.
    lag      what tandemd itself shows: from reading the kernel's event to the peer's acknowledgement.

Flows come BURST at a time, evenly spaced.
"""

from __future__ import annotations

import math
import mmap
import os
import statistics
import time

from tests.bench.flood import Flood, before_processes
from tests.bench.replication import Figures, daemon, known, started
from tests.lab import Router, SeedLab, Tandem
from tests.netns import live

RATE, SECONDS = 20_000, 8
COUNT = RATE * SECONDS
BURST = 16
PAUSE_S = 0.01  # between two looks


def lag(kind: str) -> Figures:
    """Milliseconds."""
    with SeedLab(daemon(kind), tag="bench") as lab, mmap.mmap(-1, 8 * (COUNT // BURST + 1)) as shared:
        active, backup = started(lab, kind)
        flood = Flood(lab.client, active)
        had = known(backup, kind)
        sent_at = memoryview(shared).cast("d")  # of each burst; 0: not yet

        def told(done: int, when: float) -> None:
            sent_at[done // BURST] = when

        sender = os.fork()
        if not sender:
            flood.send(COUNT, RATE, BURST, told)
            os._exit(0)
        ages, lags = [], []
        with before_processes():
            while os.waitpid(sender, os.WNOHANG) == (0, 0):
                holds, when = held_at(backup, kind)
                sent = sent_at[min(max(0, holds - had), COUNT) // BURST]
                ages.append(1000 * max(0.0, when - sent) if sent else 0.0)
                if kind == Tandem.name:
                    lags.append(live.peer(active)["lag_ms"])
                time.sleep(PAUSE_S)
        sent_at.release()
        label = f"{RATE // 1000}k new flows/s"
        figures = _figures(f"{label}: age of the oldest that the backup lacks, ms", ages)
        return figures | (_figures(f"{label}: lag, ms", lags) if lags else {})


def held_at(backup: Router, kind: str) -> tuple[int, float]:
    """How many connections the backup holds, and when it did, s."""
    if kind == Tandem.name:
        found = live.sync(backup)
        return sum(found["held"].values()), found["at_ns"] / 1e9
    asked = time.monotonic()
    holds = known(backup, kind)
    return holds, (asked + time.monotonic()) / 2


def _figures(label: str, samples: list[float]) -> Figures:
    samples = sorted(samples[10:])  # without the start
    return {
        f"{label}: median": statistics.median(samples),
        f"{label}: p99": samples[math.ceil(len(samples) * 0.99) - 1],
    }
