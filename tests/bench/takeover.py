# SPDX-License-Identifier: GPL-2.0-or-later
"""A takeover while both cores are busy: as fast with very many replicated connections as with none.

The active loses its power. Measured is the time from its last advert to the first gratuitous ARP of its
successor, which follows the addresses, by the kernel's timestamps in the switch. What a client sees varies by
100 ms on such a machine: the client gets no processor either.
"""

from __future__ import annotations

import math
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tandem.conntrack.encode import Builder
from tandem.conntrack.writer import Restorer
from tests.bench.conntrackd import fill
from tests.bench.replication import CROWD, Figures, daemon, entries_of, known, mirrored, started
from tests.lab import Router, SeedLab, Tandem, netns, wait_until
from tests.netns import live

SHARE = 0.7  # of the kernel's limit: above, the backup's kernel gets nothing ahead of a takeover
CHUNKS_A_S = 200  # of some hundred entries
ETH_P_ALL, VRRP = 3, 112
SO_TIMESTAMPNS = 35
IPV4, ARP = b"\x08\x00", b"\x08\x06"
FRESH_MS = 20  # an advert that was read this soon is the last one: the next one comes after the power loss
VIRTUAL = "192.168.1.4"
LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")


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
    """Milliseconds from the last advert of the active to the ARP of its successor."""
    with room_for(3 * CROWD) as most:
        return {
            f"power loss, cores busy, {count // 1000}k flows: last advert to ARP, ms": _takeover(kind, count)
            for count in (0, CROWD, most)
        }


@contextmanager
def room_for(count: int) -> Iterator[int]:
    """Raise the kernel's limit for a while, which all namespaces share; yield how many there is room for."""
    before = int(LIMIT.read_text())
    wanted = max(before, math.ceil(count / SHARE) + CROWD // 10)
    try:
        with suppress(OSError):  # a container may not
            LIMIT.write_text(str(wanted))
        yield min(count, int(SHARE * int(LIMIT.read_text())))
    finally:
        if int(LIMIT.read_text()) != before:
            LIMIT.write_text(str(before))


def crowded(lab: SeedLab, kind: str, active: Router, backup: Router, count: int) -> None:
    """Put so many flows into the active's kernel; wait until the backup has them as well."""
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


def emptied(lab: SeedLab) -> None:
    """Empty the routers' tables: the kernel works for seconds at those of a namespace that has ended."""
    for router in lab.routers:
        router.exec("conntrack", "-F")


def _packets(device: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind((device, ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    opened.settimeout(20)
    return opened


def _next(wire: socket.socket, kind: bytes, sender: bytes) -> float:
    """Return when the next such packet of a sender was in the switch, in ms."""
    while True:
        frame, notes, _, _ = wire.recvmsg(2048, 256)
        vrrp = frame[12:14] == IPV4 and frame[23] == VRRP and frame[26:30] == sender
        arp = frame[12:14] == ARP and frame[28:32] == sender
        if vrrp if kind == IPV4 else arp:
            seconds, nanoseconds = struct.unpack_from("@qq", notes[0][2])
            return float(seconds * 1e3 + nanoseconds / 1e6)


def _takeover(kind: str, count: int) -> float:
    with SeedLab(daemon(kind), tag="bench") as lab:
        active, backup = started(lab, kind)
        crowded(lab, kind, active, backup, count)
        with busy_cores(), netns.enter(lab.switch_namespace, lambda: _packets("lan")) as wire:
            time.sleep(1)
            source = socket.inet_aton(f"192.168.1.{1 + lab.routers.index(active) + 1}")
            last = _next(wire, IPV4, source)
            while time.clock_gettime(time.CLOCK_REALTIME) * 1e3 - last > FRESH_MS:
                last = _next(wire, IPV4, source)
            active.power_off()
            took = _next(wire, ARP, socket.inet_aton(VIRTUAL)) - last
        emptied(lab)
        return took
