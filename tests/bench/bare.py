# SPDX-License-Identifier: GPL-2.0-or-later
"""What a router at rest costs in Python at least: a loop that only sends, or reads, the adverts.

It stands in the place of tandemd, at the same real-time priority: the active router wakes each interval and
sends an advert on each interface, the backup wakes when they come and reads them. Nothing else is done.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab import LabError, Router
from tests.lab.process import cost

REST_S = 10.0
_LOOP = """
import os, select, socket, struct, sys, time
side, interval, *devices = sys.argv[1:]
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
group, sockets, ready = "224.0.0.18", {}, select.epoll()
for device in devices:
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    place = socket.inet_aton(group) + bytes(4) + struct.pack("=i", socket.if_nametoindex(device))
    one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, place)
    one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    if side == "backup":
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, place)
        ready.register(one, select.EPOLLIN)
    sockets[one.fileno()] = one
print("ready", flush=True)
advert, to, due = bytes.fromhex("3105640100645b5fc0a801fe"), (group, 0), time.monotonic()
while side == "backup":
    for number, _ in ready.poll():
        sockets[number].recv(1096)
while True:
    due += float(interval)
    ready.poll(max(0.0, due - time.monotonic()))
    for one in sockets.values():
        one.sendto(advert, to)
"""


def bare(active: Router, backup: Router, interval_s: float) -> dict[str, float]:
    """Return the cost of such loops in % of a core; the routers' own daemons stand still meanwhile."""
    with _loop("active", active, interval_s) as one, _loop("backup", backup, interval_s) as other:
        before = [cost(pid).cpu_s for pid in (one, other)]
        time.sleep(REST_S)
        used = [cost(pid).cpu_s - was for pid, was in zip((one, other), before, strict=True)]
    return {side: 100 * cpu / REST_S for side, cpu in zip(("active", "backup"), used, strict=True)}


@contextmanager
def _loop(side: str, router: Router, interval_s: float) -> Iterator[int]:
    router.freeze()
    devices = [virtual_router.device for virtual_router in router.daemon.instances]
    argv = [sys.executable, "-ISc", _LOOP, side, str(interval_s), *devices]
    loop = router.popen(*argv, stdout=subprocess.PIPE)
    try:
        assert loop.stdout is not None
        if not loop.stdout.readline():
            raise LabError(f"the loop of the {side} router has ended")
        yield loop.pid
    finally:
        loop.kill()
        loop.wait()
        router.thaw()
