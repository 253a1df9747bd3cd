# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of each measurement: the name of a figure -> its value."""

from __future__ import annotations

import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop import attacks
from tests.lab import (
    FAR,
    Daemon,
    Host,
    Instance,
    Keepalived,
    LanLab,
    Pings,
    Router,
    SeedLab,
    Service,
    Tandem,
    seed_daemon,
    synced_daemon,
    wait_until,
)
from tests.lab.process import Cost
from tests.openwrt import everything
from tests.openwrt_pieces import USR

Figures = dict[str, float]
IDLE_S = 5.0  # how long CPU time is added up
STRANGERS = 2000  # adverts a second
MANY = 255  # as many as there are virtual router ids


def _pair(kind: str, number: int, advert_s: float) -> Daemon:
    """The daemon of router `number`; tandemd knows its peer, and so has heartbeats and replication."""
    return synced_daemon(number, advert_s) if kind == Tandem.name else seed_daemon(kind, advert_s)


def failover(kind: str, advert_s: float, only: set[str]) -> Figures:
    """Outage in ms as the client sees it, after power loss, SIGTERM, and loss of the active's WAN link.

    The phase of the advert timer decides most of the first: each event comes at a random one.
    """
    figures: Figures = {}
    patience = 15 + 5 * advert_s
    label = f"adverts {advert_s:g} s"
    with SeedLab(lambda number: _pair(kind, number, advert_s), tag="bench") as lab:
        lab.up()
        Service(lab.server, "echo", FAR, "7")
        for router in lab.routers:
            router.start()
        for router in lab.routers:
            router.wait_started()
        wait_until(lambda: lab.active, patience, "one active", explain=lab.logs)
        pings = Pings(lab.client, FAR)

        def event(action: Callable[[Router], object]) -> tuple[Router, float, int]:
            router = wait_until(lambda: lab.active, patience, "one active", explain=lab.logs)
            wait_until(lambda: lab.other(router).all_in("BACKUP"), patience, "a backup", explain=lab.logs)
            pings.flowing(timeout=patience)
            time.sleep(random.uniform(0.5, 0.5 + advert_s))
            before = time.monotonic()
            action(router)
            outage = pings.outage_since(before, timeout=patience)
            return router, outage.ms, outage.lost

        if "power" in only:
            router, figures[f"power loss, {label}: outage, ms"], _ = event(Router.power_off)
            router.power_on()
        if "term" in only:
            router, outage_ms, lost = event(lambda router: router.signal(signal.SIGTERM))
            figures[f"SIGTERM, {label}: outage, ms"] = outage_ms
            figures[f"SIGTERM, {label}: datagrams lost (1 per ms)"] = lost
            router.processes[-1].wait(patience)
            router.start()
        if "wan" in only:
            router, figures[f"WAN link loss, {label}: outage, ms"], _ = event(
                lambda router: lab.cut(router, "eth0.2")
            )
    return figures


def _costs(routers: list[Router]) -> list[tuple[float, Cost]]:
    """CPU in percent of a core over IDLE_S, and memory after it, of each router's daemon."""
    before = [router.cost().cpu_s for router in routers]
    start = time.monotonic()
    time.sleep(IDLE_S)
    after = [router.cost() for router in routers]
    elapsed = time.monotonic() - start
    return [(100 * (cost.cpu_s - cpu) / elapsed, cost) for cpu, cost in zip(before, after, strict=True)]


def _cost_figures(label: str, active: Router, backup: Router) -> Figures:
    figures: Figures = {}
    for role, (cpu, cost) in zip(("active", "backup"), _costs([active, backup]), strict=True):
        figures[f"{label}, {role}: CPU, % of a core"] = cpu
        figures[f"{label}, {role}: RSS, MiB"] = cost.rss_kib / 1024
        figures[f"{label}, {role}: PSS, MiB"] = cost.pss_kib / 1024
    return figures


def idle(kind: str) -> Figures:
    """Two instances in a sync group at 100 ms adverts, at rest."""
    with SeedLab(lambda _: seed_daemon(kind, 0.1), tag="bench") as lab:
        lab.up()
        for router in lab.routers:
            router.start()
        for router in lab.routers:
            router.wait_started()
        active = wait_until(lambda: lab.active, 15, "one active", explain=lab.logs)
        wait_until(lambda: lab.other(active).all_in("BACKUP"), 15, "a backup", explain=lab.logs)
        time.sleep(1.0)  # the start's own work is over
        return _cost_figures("2 instances, 0.1 s", active, lab.other(active))


def full(kind: str) -> Figures:
    """The same with all of Tandem configured, where there is a ubusd; keepalived has none of it."""
    if kind != Tandem.name or not (USR / "sbin/ubusd").exists():
        return {}
    with tempfile.TemporaryDirectory() as directory, everything.pair(Path(directory)) as routers:
        time.sleep(1.0)
        return _cost_figures("everything on, 0.1 s", *routers)


def strangers(kind: str) -> Figures:
    """One instance at 100 ms adverts, while a host sends right adverts of ever new, lesser routers."""

    def daemon(priority: int) -> Daemon:
        address = f"{attacks.GATEWAY4}/24"
        vr = Instance("V", "eth0", attacks.V3, (address,), priority=priority, advert_s=0.1, version=3)
        return Tandem([vr]) if kind == Tandem.name else Keepalived([vr])

    with LanLab([daemon(200), daemon(100)], tag="bench") as lab:
        lab.up()
        lab.start()
        active, backup = lab.routers
        wait_until(lambda: active.active and backup.all_in("BACKUP"), 15, "a pair", explain=lab.logs)
        with flooding(lab.client):
            time.sleep(1.0)  # the first burst is over
            costs = _costs([active, backup])
        label = f"{STRANGERS} adverts/s of strangers"
        return {
            f"{label}, {role}: CPU, % of a core": cpu
            for role, (cpu, _) in zip(("active", "backup"), costs, strict=True)
        }


def _packet_socket() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(("eth0", 0))
    return sock


@contextmanager
def flooding(host: Host) -> Iterator[None]:
    """Send adverts of strangers from a host by a thread meanwhile, STRANGERS a second."""
    with host.enter(_packet_socket) as sock, _strangers(sock):
        yield


@contextmanager
def _strangers(sock: socket.socket) -> Iterator[None]:
    frames = [bytes(attacks.ip4() / attacks.v3(priority=1)) for _ in range(STRANGERS // 20)]
    over = threading.Event()

    def send() -> None:
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            for frame in frames:
                sock.send(frame)
            due += 0.05

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def many(kind: str) -> Figures:
    """255 instances on one interface at 1 s adverts: start and elect alone, then rest with a backup."""

    def daemon(priority: int) -> Daemon:
        instances = [
            Instance(f"V{vrid}", "eth0", vrid, (f"10.1.0.{vrid}/32",), priority=priority)
            for vrid in range(1, MANY + 1)
        ]
        return Tandem(instances) if kind == Tandem.name else Keepalived(instances)

    with LanLab([daemon(200), daemon(100)], tag="bench") as lab:
        lab.up()
        first, second = lab.routers
        start = time.monotonic()
        first.start()
        wait_until(lambda: first.active, 60, "all instances active", every=0.05, explain=lab.logs)
        figures: Figures = {f"{MANY} instances: start until all are active, s": time.monotonic() - start}
        second.start()
        second.wait_started(60)
        wait_until(lambda: second.all_in("BACKUP"), 60, "all in backup", every=0.1, explain=lab.logs)
        time.sleep(6.0)  # also the second burst of gratuitous ARP
        return figures | _cost_figures(f"{MANY} instances, 1 s", first, second)
