# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking over a table of NATed connections: what conntrackd does with `-c`, and what tandemd does.

conntrackd runs with its FTFW example's settings on two hosts; the first one's kernel gets the entries,
they are replicated, and the second commits them. Tandem's figure is the same work of the daemon's own
parts, from what is held for the peer to what the kernel has; they run here instead of in a daemon.
"""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tandem.conntrack.encode import Builder
from tandem.conntrack.record import NEW, SNAT, TCP
from tandem.conntrack.writer import Restorer
from tandem.replication.cache import Cache
from tests.bench.conntrackd import ask, fill, write_conf
from tests.bench.flood import before_processes
from tests.lab import Host, LabError, LanLab, Router, Tandem, wait_until

ENTRIES = 100_000
FILL_RATE = 25_000  # entries a second that conntrackd gets to know before
CLIENTS = 10  # whose connections they are: 192.168.1.100 and following


def table() -> Iterator[tuple[bytes, bytes]]:
    """ENTRIES established TCP connections of clients through SNAT, each with a port of its own."""
    inside, outside, server = bytes((192, 168, 1, 100)), bytes((192, 168, 0, 4)), bytes((203, 0, 113, 1))
    status = 0x0E  # SEEN_REPLY, ASSURED, CONFIRMED
    for number in range(ENTRIES):
        client = inside[:3] + bytes((inside[3] + number % CLIENTS,))
        ports = struct.pack("!HH", 1024 + number // CLIENTS, 80)
        key = b"\0\0\4\6" + client + server + ports
        # The port outside: with one server address there are not enough of them, so servers vary.
        key = key[:11] + bytes((number % 250,)) + key[12:]
        body = struct.pack("!BHI5B", SNAT | TCP, status, 3600, 3, 7, 7, 3, 3) + outside + ports[:2]
        yield key, body


def restore(kind: str) -> dict[str, float]:
    """Milliseconds until all entries are in the kernel of the router that takes over."""
    with LanLab([Tandem(), Tandem()], tag="bench") as lab:
        lab.up()
        figure = f"restore of {ENTRIES // 1000}k NATed entries, ms"
        if kind == "tandemd":
            return {figure: _tandem(lab.routers[1])}
        return {figure: _conntrackd(lab.routers)}


def _count(host: Host) -> int:
    return int(host.exec("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))


def _inject(host: Host) -> None:
    """Put the entries into the kernel at FILL_RATE: at 300,000 a second conntrackd lost some for good."""
    restorer = host.enter(Restorer)
    restorer.restore(Builder(16_384).chunks(table()))
    began = time.monotonic()
    while not restorer.step():
        time.sleep(max(0.0, began + restorer.figures.entries / FILL_RATE - time.monotonic()))
    failed = restorer.figures.failed
    restorer.close()
    if failed:
        raise LabError(f"{failed} entries were refused")


def _tandem(host: Host) -> float:
    cache = Cache(2 * ENTRIES, 1 << 30)
    cache.apply_all([(NEW, key, body) for key, body in table()], time.monotonic_ns())
    restorer = host.enter(Restorer)
    with before_processes():  # as the daemon does
        began = time.monotonic()
        restorer.restore(Builder().chunks(entry for part in cache.slices() for entry in part))
        while not restorer.step():
            pass
        took = time.monotonic() - began
    if _count(host) < ENTRIES:
        raise LabError(f"only {_count(host)} entries: {restorer.figures}")
    restorer.close()
    return took * 1000


def _conntrackd(routers: list[Router]) -> float:
    daemons = []
    try:
        for number, host in enumerate(routers, 1):
            command = write_conf(host, number)
            daemons.append(host.popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        active, backup = routers
        sockets = [Path(host.file("conntrackd.ctl")) for host in routers]
        wait_until(lambda: all(path.exists() for path in sockets), 10, "conntrackd")
        _inject(active)
        fill(active, backup, ENTRIES)
        began = time.monotonic()
        ask(backup, "-c")
        wait_until(lambda: _count(backup) >= ENTRIES, 30, "conntrackd has committed", every=0.001)
        return (time.monotonic() - began) * 1000
    finally:
        for daemon in daemons:
            daemon.terminate()
            daemon.wait()
