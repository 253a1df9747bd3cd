# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the lab: signal whole process trees, measure what they cost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first; empty when it is gone."""
    found = [pid] if Path("/proc", str(pid)).exists() else []
    for parent in found:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@dataclass(frozen=True)
class Cost:
    """The cost of a process tree: CPU in seconds since its start, memory in KiB."""

    cpu_s: float
    rss_kib: int
    pss_kib: int
    processes: int


def cost(pid: int) -> Cost:
    """Sum over the process tree: /proc/PID/task/*/schedstat (ns on a CPU) and smaps_rollup.

    PSS counts a page that n processes share as 1/n in each of them, so its sum is honest.
    """
    cpu_ns = rss = pss = 0
    pids = tree(pid)
    for member in pids:
        try:
            tasks = [(task / "schedstat").read_text() for task in Path(f"/proc/{member}/task").iterdir()]
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            if member == pid:
                raise
            continue  # a child that has ended meanwhile
        cpu_ns += sum(int(task.split()[0]) for task in tasks)
        for line in lines:
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return Cost(cpu_ns / 1e9, rss, pss, len(pids))
