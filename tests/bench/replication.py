# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication on running routers, with keepalived and conntrackd in the other column.

    stream   new UDP flows through the active router, as fast as RATE or this machine goes: what got lost on
             the way to the backup, CPU of both sides, lag of a stream of a third of it
    burst    new entries put into the active's kernel at RATE: events come as fast, without a router's work
    crowd    200 TCP connections among 100,000 other flows; the active loses its power
    gate     what `guarantee 'connection'` costs a connection

conntrackd's lag can't be seen from outside. Tandem's backup puts what it is told into its kernel as well,
which conntrackd's does not do before it takes over: that is in its CPU time.
"""

from __future__ import annotations

import ctypes
import math
import os
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise

from tandem.replication.record import IPS_CONFIRMED, SNAT, Entry
from tandem.replication.restore import Builder
from tandem.replication.restorer import Restorer
from tests.bench.conntrackd import KeepalivedConntrackd, ask, entries
from tests.lab import FAR, Capture, Host, NotReached, Pings, Router, SeedLab, Service, Tandem, wait_until
from tests.lab.netns import write_sysctls
from tests.lab.process import cost
from tests.netns import live

Figures = dict[str, float]
RATE = 60_000  # new flows a second
FLOWS = 120_000
LAG_RATE, LAG_S = 20_000, 5
CROWD = 100_000
ADVERT_S = 0.1
PORTS = 60_000  # of one source port
QUIET = """
table inet quiet {
    chain in {
        type filter hook prerouting priority raw
        udp dport != 7 drop
    }
}
"""


class SockaddrIn(ctypes.Structure):
    """struct sockaddr_in."""

    _fields_ = (
        ("family", ctypes.c_uint16),
        ("port", ctypes.c_uint16),
        ("address", ctypes.c_uint32),
        ("zero", ctypes.c_uint64),
    )


class Flood:
    """New flows from the client to ports of the far server, one empty datagram each."""

    def __init__(self, client: Host) -> None:
        self._client = client
        self._source = 20_000
        libc = ctypes.CDLL(None, use_errno=True)
        self._sendto = libc.sendto
        self._sendto.argtypes = (
            ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint,
        )  # fmt: skip

    def send(self, count: int, rate: float) -> float:
        """Make so many flows, at most `rate` a second; the rate that it was."""
        began = time.monotonic()
        done = 0
        while done < count:
            some = min(PORTS, count - done)
            self._from_one_port(some, began, done, rate)
            done += some
        return count / (time.monotonic() - began)

    def _from_one_port(self, count: int, began: float, done: int, rate: float) -> None:
        self._source += 1
        address = struct.unpack("=I", socket.inet_aton(FAR))[0]
        to = SockaddrIn(socket.AF_INET, 0, address, 0)
        pointer, size = ctypes.addressof(to), ctypes.sizeof(to)
        with self._client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.bind(("", self._source))
            fd, sendto = sock.fileno(), self._sendto
            for number in range(count):
                to.port = socket.htons(1000 + number)
                sendto(fd, None, 0, 0, pointer, size)
                if not number & 63:
                    early = began + (done + number) / rate - time.monotonic()
                    if early > 0:
                        time.sleep(early)


def _daemon(kind: str, rules: str = "", **options: str) -> Callable[[int], object]:
    if kind == Tandem.name:
        return partial(live.synced, advert_s=ADVERT_S, rules=rules, limit_entries="400000", **options)
    protocol = "meta l4proto 112 accept"
    firewall = live.FIREWALL.replace(protocol, f"{protocol}\nudp dport 3780 accept")
    return lambda number: KeepalivedConntrackd(number, ADVERT_S, firewall + rules)


def _started(lab: SeedLab, kind: str) -> tuple[Router, Router]:
    lab.up()
    for router in lab.routers:
        router.start()
    for router in lab.routers:
        router.wait_started()
    lab.server.exec("nft", "-f", "-", stdin=QUIET)
    if kind == Tandem.name:
        found = live.settle(lab)
    else:
        active = wait_until(lambda: lab.active, 15, "one active", explain=lab.logs)
        found = active, lab.other(active)
        time.sleep(2)  # its scripts
    for router in lab.routers:
        write_sysctls(router.namespace, {"netfilter/nf_conntrack_udp_timeout": 600})
    return found


def _known(backup: Router, kind: str) -> int:
    return live.held(backup) if kind == Tandem.name else entries(backup, "external")


def _mirrored(backup: Router) -> bool:
    kernel = live.sync(backup)["kernel"]
    return bool(kernel["whole"] and not kernel["waiting"])


def _replicator(router: Router) -> float:
    """CPU seconds of tandemd, or of conntrackd beside keepalived."""
    return cost(router.processes[0].pid).cpu_s


def _memory(router: Router) -> int:
    """KiB, likewise."""
    return cost(router.processes[0].pid).rss_kib


def stream(kind: str) -> Figures:
    """New flows at RATE, and for tandemd the lag at LAG_RATE."""
    with SeedLab(_daemon(kind), tag="bench") as lab:
        active, backup = _started(lab, kind)
        flood = Flood(lab.client)
        memory = _memory(backup)
        before = [_replicator(router) for router in (active, backup)]
        known = _known(backup, kind)
        rate = flood.send(FLOWS, RATE)
        began = time.monotonic()
        with suppress(NotReached):
            wait_until(lambda: _known(backup, kind) >= known + FLOWS, 20, every=0.1)
        took = time.monotonic() - began
        missing = known + FLOWS - _known(backup, kind)
        if kind == Tandem.name:  # the work that is its alone
            wait_until(lambda: _mirrored(backup), 30, "the kernel has them", every=0.2)
        after = [_replicator(router) for router in (active, backup)]
        label = f"{RATE // 1000}k new flows/s"
        figures = {
            f"{label}: reached, flows/s": rate,
            f"{label}: missing at the backup in the end": float(max(0, missing)),
            f"{label}: until it has all, s": took,
            f"{label}: active, CPU s per 100k": (after[0] - before[0]) * 100_000 / FLOWS,
            f"{label}: backup, CPU s per 100k": (after[1] - before[1]) * 100_000 / FLOWS,
            f"{label}: backup, bytes an entry": (_memory(backup) - memory) * 1024 / FLOWS,
        }
        if kind != Tandem.name:
            return figures
        overruns = live.sync(active)["events"]["overruns"]
        return figures | {f"{label}: overruns": float(overruns)} | lag(kind)


def _entries(count: int) -> Iterator[Entry]:
    """UDP flows of the client through SNAT."""
    head = b"\0\0\4\x11" + socket.inet_aton("192.168.1.10")
    for number in range(count):
        server = bytes((203, 0, 114, number // PORTS))
        ports = struct.pack("!HH", 1024 + number % PORTS, 53)
        body = struct.pack("!BHI", SNAT, IPS_CONFIRMED, 600) + socket.inet_aton("192.168.0.4") + ports[:2]
        yield head + server + ports, body


def burst(kind: str) -> Figures:
    """Entries at RATE, in chunks of some hundreds."""
    with SeedLab(_daemon(kind), tag="bench") as lab:
        active, backup = _started(lab, kind)
        restorer = active.enter(Restorer)
        restorer.restore(Builder(16_384).chunks(_entries(FLOWS)))
        known = _known(backup, kind)
        before = [_replicator(router) for router in (active, backup)]
        began = time.monotonic()
        while not restorer.step():
            early = began + restorer.figures.entries / RATE - time.monotonic()
            if early > 0:
                time.sleep(early)
        rate = FLOWS / (time.monotonic() - began)
        with suppress(NotReached):
            wait_until(lambda: _known(backup, kind) >= known + FLOWS, 20, every=0.1)
        took = time.monotonic() - began - FLOWS / rate
        missing = known + FLOWS - _known(backup, kind)
        if kind == Tandem.name:
            wait_until(lambda: _mirrored(backup), 30, "the kernel has them", every=0.2)
        after = [_replicator(router) for router in (active, backup)]
        restorer.close()
        label = f"{RATE // 1000}k new entries/s"
        figures = {
            f"{label}: reached, entries/s": rate,
            f"{label}: missing at the backup in the end": float(max(0, missing)),
            f"{label}: until it has all, s": took,
            f"{label}: active, CPU s per 100k": (after[0] - before[0]) * 100_000 / FLOWS,
            f"{label}: backup, CPU s per 100k": (after[1] - before[1]) * 100_000 / FLOWS,
        }
        if kind == Tandem.name:
            figures[f"{label}: overruns"] = float(live.sync(active)["events"]["overruns"])
        return figures


def lag(kind: str) -> Figures:
    """ms from push to acknowledgement while flows are made at LAG_RATE, asked for 50 times a second."""
    with SeedLab(_daemon(kind), tag="bench") as lab:
        active, _ = _started(lab, kind)
        reading, writing = os.pipe()
        sender = os.fork()
        if not sender:
            Flood(lab.client).send(LAG_RATE * LAG_S, LAG_RATE)
            os._exit(0)
        os.close(reading)
        os.close(writing)
        time.sleep(0.5)
        samples = []
        while os.waitpid(sender, os.WNOHANG) == (0, 0):
            samples.append(live.peer(active)["lag_ms"])
            time.sleep(0.02)
        samples.sort()
        label = f"lag at {LAG_RATE // 1000}k new flows/s, ms"
        return {
            f"{label}: median": statistics.median(samples),
            f"{label}: p99": samples[math.ceil(len(samples) * 0.99) - 1],
        }


def crowd(kind: str) -> Figures:
    """Survivors, and when the gateway and the last connection came back."""
    with SeedLab(_daemon(kind), tag="bench") as lab, live.connections() as flows:
        active, backup = _started(lab, kind)
        Service(lab.server, "echo", FAR, "7")
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=False)
        Flood(lab.client).send(CROWD, 10_000)
        flows.all_go_on()
        try:
            wait_until(lambda: _known(backup, kind) >= CROWD + 200, 30, every=0.2)
        except NotReached:
            ask(backup, "-n")
            wait_until(lambda: _known(backup, kind) >= CROWD + 200, 60, "the backup has all", every=0.2)
        if kind == Tandem.name:
            live.told(lab)
            wait_until(lambda: _mirrored(backup), 60, "and its kernel", every=0.2)
        pings = Pings(lab.client, FAR)
        pings.flowing()
        with Capture(lab, f"{backup.name}.lan", filter="ip proto 112") as adverts:
            before = time.monotonic()
            active.power_off()
            outage = pings.outage_since(before)
            marks = [flow.received + 3000 for flow in flows.flows]

            def settled() -> bool:
                pairs = zip(flows.flows, marks, strict=True)
                return all(flow.error or flow.received >= mark for flow, mark in pairs)

            with suppress(NotReached):
                wait_until(settled, 20, every=0.02)
            took = time.monotonic() - before
        own = backup.ports[0].addresses[0].split("/")[0]
        sent = adverts.fields(f"vrrp.prio > 0 && ip.src == {own}", "frame.time_epoch")
        ours = [float(when) for [when] in sent]
        gaps = [1000 * (later - sooner) for sooner, later in pairwise(ours)]
        alive = sum(
            not flow.error and flow.received >= mark for flow, mark in zip(flows.flows, marks, strict=True)
        )
        label = f"power loss with {CROWD // 1000}k flows at {ADVERT_S} s"
        return {
            f"{label}: gateway back, ms": outage.ms,
            f"{label}: connections that go on, of 200": float(alive),
            f"{label}: all settled, ms": took * 1000,
            f"{label}: adverts late by at most, ms": max(gaps, default=0.0) - 1000 * ADVERT_S,
        }


def gate(kind: str) -> Figures:
    """Milliseconds of connect() through the router; conntrackd has no such guarantee."""
    options = {"guarantee": "connection"} if kind == Tandem.name else {}
    with SeedLab(_daemon(kind, **options), tag="bench") as lab:
        active, _ = _started(lab, kind)
        if kind == Tandem.name:
            wait_until(lambda: live.sync(active)["gate"]["state"] == "on", 10, "the gate is on")
        listener = lab.server.enter(lambda: socket.create_server((FAR, 0)))
        listener.listen(100)
        samples = []
        with listener:
            for _ in range(500):
                with lab.client.enter(socket.socket) as sock:
                    began = time.monotonic()
                    sock.connect(listener.getsockname())
                    samples.append(1000 * (time.monotonic() - began))
                    listener.accept()[0].close()
        samples.sort()
        return {
            "connect(), guarantee in tandemd's column, ms: median": statistics.median(samples),
            "connect(), guarantee in tandemd's column, ms: p99": samples[494],
        }
