# SPDX-License-Identifier: GPL-2.0-or-later
"""A takeover while both cores are busy: as fast with very many replicated connections as with none.

The active loses its power. The runs with and without connections follow one another, so that they find the
same machine. The phase of the adverts is the same in all: the figures differ by what the takeover costs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tandem.conntrack.encode import Builder
from tandem.conntrack.writer import Restorer
from tests.bench.conntrackd import fill
from tests.bench.replication import ADVERT_S, CROWD, Figures, daemon, entries_of, known, mirrored, started
from tests.lab import FAR, Pings, SeedLab, Service, Tandem, netns, wait_until
from tests.netns import live

SHARE = 0.7  # of the kernel's limit: above, the backup's kernel gets nothing ahead of a takeover
CHUNKS_A_S = 200  # of some hundred entries
ETH_P_ALL, VRRP = 3, 112  # a port of a bridge shows its packets to those that hear all


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process on each core that never rests."""
    programs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def takeover(kind: str) -> Figures:
    """Outage in ms after the power loss of the active, by the number of connections."""
    limit = int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())
    counts = (0, CROWD, min(3 * CROWD, int(SHARE * limit)))
    return {
        f"power loss, cores busy, {count // 1000}k flows: outage, ms": _outage(kind, count)
        for count in counts
    }


def _packets(device: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((device, ETH_P_ALL))
    opened.settimeout(5)
    return opened


def _wait_for_advert(wire: socket.socket) -> None:
    wire.setblocking(False)
    with suppress(BlockingIOError):
        while wire.recv(2048):
            pass  # old ones
    wire.settimeout(5)
    while wire.recv(2048)[23:24] != bytes((VRRP,)):
        pass


def _outage(kind: str, count: int) -> float:
    with SeedLab(daemon(kind), tag="bench") as lab:
        active, backup = started(lab, kind)
        Service(lab.server, "echo", FAR, "7")
        restorer = active.enter(Restorer)
        restorer.restore(Builder(16_384).chunks(entries_of(count)))
        while not restorer.step():
            time.sleep(1 / CHUNKS_A_S)
        restorer.close()
        if kind == Tandem.name:
            wait_until(lambda: known(backup, kind) >= count, 60, "the backup has all", every=0.2)
            live.told(lab)
            wait_until(lambda: mirrored(backup), 120, "and its kernel", every=0.2)
        elif count:
            fill(active, backup, count)
        pings = Pings(lab.client, FAR)
        pings.flowing()
        with busy_cores(), netns.enter(lab.switch_namespace, lambda: _packets(f"{active.name}.lan")) as wire:
            time.sleep(1)
            _wait_for_advert(wire)
            time.sleep(ADVERT_S / 2)
            before = time.monotonic()
            active.power_off()
            return pings.outage_since(before, timeout=20).ms
