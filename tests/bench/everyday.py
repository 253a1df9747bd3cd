# SPDX-License-Identifier: GPL-2.0-or-later
"""The cost of replication at the rates of a home, a school or an office, and how far the backup is behind.

    udp    one datagram that nobody answers
    dns    a query and its answer
    tcp    a connection of ten packets: one request, one answer

CPU is what the replicating daemons use for a flow, beyond what they use in the same time without one. tandemd
replicates the same as conntrackd (`sync_after 0`), and then only what its defaults ask for. At rest all of a
router's daemons count: keepalived as well, which conntrackd needs. bare.py says what Python needs at least.
The age is that of the oldest flow that the backup lacks at a random moment, see lag.py.
"""

from __future__ import annotations

import math
import mmap
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.bench.bare import bare
from tests.bench.lag import held_at
from tests.bench.replication import ADVERT_S, Figures, daemon, known, started
from tests.lab import FAR, Daemon, Host, Router, SeedLab, Tandem
from tests.lab.process import cost
from tests.netns import live

RATES = 20, 100, 300, 1000
SECONDS = 5.0
FLOWS_MIN = 400
REST_S = 10.0
SETTLE_S = 5.0  # a backup looks through its kernel's table once
DEFAULTS = {"heartbeat": "1", "digest_interval": "10"}  # the tests of the lab have shorter ones
PAUSE_S = 0.011  # between two looks at the backup
PORT, SILENT_PORT = 7, 10_000  # what answers, and what does not
LINGER_S = 0.2  # how long the client keeps a socket


def everyday(kind: str) -> Figures:
    """CPU a flow of both routers, and the backup's age."""
    figures: Figures = {}
    if kind == Tandem.name:
        with SeedLab(_without_heartbeats, tag="bench") as lab:
            routers = started(lab, kind)
            figures |= _at_rest("at rest, without heartbeats", *routers)
            for side, share in bare(*routers, ADVERT_S).items():
                label = f"at rest, a bare loop of Python, adverts {1000 * ADVERT_S:g} ms"
                figures[f"{label}: {side}: CPU, % of a core"] = share
    plans = [("all", DEFAULTS)]
    if kind == Tandem.name:
        plans.append(("defaults", DEFAULTS | {"sync_after": "2"}))
    for plan, options in plans:
        with SeedLab(daemon(kind, **options), tag="bench") as lab:
            active, backup = started(lab, kind)
            if plan == "all":
                figures |= _at_rest("at rest", active, backup)
            with _served(lab.server):
                idle = _used([active, backup], lambda: time.sleep(REST_S))
                for what in ("udp", "dns", "tcp"):
                    for rate in RATES:
                        label = f"{what}, {rate} flows/s, {plan}"
                        figures |= _cost(label, what, rate, lab.client, (active, backup), idle)
                if plan == "all":
                    for rate in RATES:
                        figures |= _age(f"udp, {rate} flows/s", rate, lab.client, backup, kind)
    return figures


def _without_heartbeats(number: int) -> Daemon:
    made = live.synced(number, advert_s=ADVERT_S, **DEFAULTS)
    option = "\toption router_id"
    made.text = made.text.replace(option, f"\toption heartbeat_interval '0'\n{option}", 1)
    return made


def _at_rest(label: str, active: Router, backup: Router) -> Figures:
    def used(router: Router) -> float:
        return sum(cost(process.pid).cpu_s for process in router.processes)

    time.sleep(SETTLE_S)
    before = [used(router) for router in (active, backup)]
    time.sleep(REST_S)
    label += f", adverts {1000 * ADVERT_S:g} ms"
    return {
        f"{label}: {side}: CPU, % of a core": 100 * (used(router) - had) / REST_S
        for side, router, had in zip(("active", "backup"), (active, backup), before, strict=True)
    }


def _used(routers: list[Router], work: Callable[[], object]) -> list[float]:
    """CPU seconds of each router's daemon while the work is done, and the time that this takes."""
    pids = [router.processes[0].pid for router in routers]
    before, began = [cost(pid).cpu_s for pid in pids], time.monotonic()
    work()
    took = time.monotonic() - began
    return [*(cost(pid).cpu_s - was for pid, was in zip(pids, before, strict=True)), took]


def _cost(
    label: str, what: str, rate: int, client: Host, routers: tuple[Router, Router], idle: list[float]
) -> Figures:
    count = max(FLOWS_MIN, int(rate * SECONDS))

    def work() -> None:
        sender = _sender(what, rate, count, client)
        os.waitpid(sender, 0)
        time.sleep(1.1)  # what the backup does once a second

    used = _used(list(routers), work)
    share = used[2] / idle[2]
    return {
        f"{label}: {side}, us a flow": 1e6 * max(0.0, used[number] - idle[number] * share) / count
        for number, side in enumerate(("active", "backup"))
    }


def _age(label: str, rate: int, client: Host, backup: Router, kind: str) -> Figures:
    count = max(FLOWS_MIN, int(rate * SECONDS))
    with mmap.mmap(-1, 8 * (count + 1)) as shared:
        sent_at = memoryview(shared).cast("d")

        def told(done: int) -> None:
            sent_at[done] = time.monotonic()

        had = known(backup, kind)
        sender = _sender("udp", rate, count, client, told)
        ages = []
        while os.waitpid(sender, os.WNOHANG) == (0, 0):
            holds, when = held_at(backup, kind)
            holds -= had
            sent = sent_at[min(max(0, holds), count)]
            ages.append(1000 * max(0.0, when - sent) if sent else 0.0)
            time.sleep(PAUSE_S)
        sent_at.release()
    ages.sort()
    return {
        f"{label}: age of the oldest that the backup lacks, ms: p99": ages[math.ceil(len(ages) * 0.99) - 1]
    }


# --- the traffic -----------------------------------------------------------------------------


def _sender(
    what: str, rate: int, count: int, client: Host, told: Callable[[int], None] = lambda done: None
) -> int:
    """A process that opens flows at this rate; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        client.enter(lambda: _send(what, rate, count, told))
    finally:
        os._exit(0)


def _send(what: str, rate: int, count: int, told: Callable[[int], None]) -> None:
    opened: list[tuple[float, socket.socket]] = []
    began = time.monotonic()
    for number in range(count):
        early = began + number / rate - time.monotonic()
        if early > 0:
            time.sleep(early)
        told(number)
        with suppress(OSError):
            opened.append((time.monotonic(), _open(what, number)))
        while opened and opened[0][0] < time.monotonic() - LINGER_S:
            opened.pop(0)[1].close()


def _open(what: str, number: int) -> socket.socket:
    if what == "tcp":
        sock = socket.create_connection((FAR, PORT), 5)
        sock.send(b"question")
        sock.recv(100)
        sock.close()
        return sock
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((FAR, PORT if what == "dns" else SILENT_PORT + number))  # no two are one flow
    sock.send(b"question")
    return sock


@contextmanager
def _served(server: Host) -> Iterator[None]:
    """The far server answers on PORT."""
    pid = os.fork()
    if not pid:
        try:
            server.enter(_serve)
        finally:
            os._exit(0)
    time.sleep(0.5)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve() -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((FAR, PORT))
    listener = socket.create_server((FAR, PORT), backlog=500)
    with selectors.DefaultSelector() as waits:
        waits.register(datagrams, selectors.EVENT_READ)
        waits.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in waits.select():
                sock = key.fileobj
                if sock is datagrams:
                    data, peer = datagrams.recvfrom(2000)
                    datagrams.sendto(data, peer)
                elif sock is listener:
                    waits.register(listener.accept()[0], selectors.EVENT_READ)
                elif isinstance(sock, socket.socket):
                    with suppress(OSError):
                        if data := sock.recv(2000):
                            sock.send(data)
                            continue
                    waits.unregister(sock)
                    sock.close()
