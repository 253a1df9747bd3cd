# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication on running routers, with keepalived and conntrackd in the other column.

    stream   new UDP flows through the active router, as fast as RATE or this machine goes: what got lost on
             the way to the backup, CPU of both sides; and how many there are while nobody replicates
    lag      a stream of 20,000: lag.py
    burst    new entries put into the active's kernel at RATE: events come as fast, without a router's work
    crowd    200 TCP connections among 100,000 other flows; the active loses its power
    takeover power loss while both cores are busy, with 0 to 300,000 flows: takeover.py
    gate     what `guarantee 'connection'` costs a connection

Tandem's backup puts what it is told into its kernel as well, which conntrackd's does not do before it takes
over: that is in its CPU time. All share two cores; flood.py says who goes first.
"""

from __future__ import annotations

import math
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise

from tandem.conntrack.encode import Builder
from tandem.conntrack.record import IPS_CONFIRMED, SNAT, Entry
from tandem.conntrack.writer import Restorer
from tests.bench.conntrackd import KeepalivedConntrackd, entries, fill
from tests.bench.flood import PORTS, Flood
from tests.lab import (
    FAR,
    Capture,
    NotReached,
    Pings,
    Router,
    SeedLab,
    Service,
    Tandem,
    netns,
    seed_daemon,
    wait_until,
)
from tests.lab.process import cost
from tests.netns import live

Figures = dict[str, float]
RATE = 66_000  # new flows a second; 60,000 are wanted, and a machine's hiccups cost some
FLOWS = 120_000
CROWD = 100_000
ADVERT_S = 0.1
# Behind the routers the flood ends in the cable, and costs no CPU.
SINK = """
table netdev sink {{
    chain in {{
        type filter hook ingress devices = {{ {cables} }} priority 0
        udp dport != 7 drop
    }}
}}
"""


def daemon(kind: str, rules: str = "", **options: str) -> Callable[[int], object]:
    """Return a function that makes the daemon of a router from its number; `options` of conntrack_sync."""
    if kind == Tandem.name:
        return partial(live.synced, advert_s=ADVERT_S, rules=rules, limit_entries="400000", **options)
    protocol = "meta l4proto 112 accept"
    firewall = live.FIREWALL.replace(protocol, f"{protocol}\nudp dport 3780 accept")
    return lambda number: KeepalivedConntrackd(number, ADVERT_S, firewall + rules)


def ceiling(kind: str) -> float:
    """Flows a second that this machine makes while nobody listens to them."""
    with SeedLab(lambda _: seed_daemon(kind, ADVERT_S), tag="bench") as lab:
        lab.up()
        for router in lab.routers:
            router.start()
            router.exec("nft", "-f", "-", stdin=live.FIREWALL)
        _sink(lab)
        active = wait_until(lambda: lab.active, 15, "one active", explain=lab.logs)
        return Flood(lab.client, active).send(FLOWS, math.inf)


def started(lab: SeedLab, kind: str) -> tuple[Router, Router]:
    """Active and backup, in step; nobody answers what `Flood` sends."""
    lab.up()
    for router in lab.routers:
        router.start()
    for router in lab.routers:
        router.wait_started()
    _sink(lab)
    if kind == Tandem.name:
        found = live.settle(lab)
    else:
        active = wait_until(lambda: lab.active, 15, "one active", explain=lab.logs)
        found = active, lab.other(active)
        time.sleep(2)  # its scripts
    for router in lab.routers:
        netns.write_sysctls(router.namespace, {"netfilter/nf_conntrack_udp_timeout": 600})
    return found


def _sink(lab: SeedLab) -> None:
    cables = ", ".join(f'"{router.cable(router.devices[1])}"' for router in lab.routers)
    netns.run(
        ["ip", "netns", "exec", lab.switch_namespace, "nft", "-f", "-"], stdin=SINK.format(cables=cables)
    )


def known(backup: Router, kind: str) -> int:
    """How many connections of the active the backup's daemon holds."""
    return live.held(backup) if kind == Tandem.name else entries(backup, "external")


def mirrored(backup: Router) -> bool:
    """Whether the backup's kernel has all that its daemon holds."""
    kernel = live.sync(backup)["kernel"]
    return bool(kernel["whole"] and not kernel["waiting"])


def _replicator(router: Router) -> float:
    """CPU seconds of tandemd, or of conntrackd beside keepalived."""
    return cost(router.processes[0].pid).cpu_s


def _memory(router: Router) -> int:
    """Return the memory of tandemd, or of conntrackd, in KiB."""
    return cost(router.processes[0].pid).rss_kib


def stream(kind: str) -> Figures:
    """New flows at RATE."""
    most = ceiling(kind)
    with SeedLab(daemon(kind), tag="bench") as lab:
        active, backup = started(lab, kind)
        flood = Flood(lab.client, active)
        memory = _memory(backup)
        before = [_replicator(router) for router in (active, backup)]
        had = known(backup, kind)
        rate = flood.send(FLOWS, RATE)
        began = time.monotonic()
        with suppress(NotReached):
            wait_until(lambda: known(backup, kind) >= had + FLOWS, 20, every=0.1)
        took = time.monotonic() - began
        missing = had + FLOWS - known(backup, kind)
        if kind == Tandem.name:  # the work that is its alone
            wait_until(lambda: mirrored(backup), 30, "the kernel has them", every=0.2)
        after = [_replicator(router) for router in (active, backup)]
        label = f"{RATE // 1000}k new flows/s"
        figures = {
            f"{label}: reached, flows/s": rate,
            f"{label}: reached while nobody replicates": most,
            f"{label}: missing at the backup in the end": float(max(0, missing)),
            f"{label}: until it has all, s": took,
            f"{label}: active, CPU s per 100k": (after[0] - before[0]) * 100_000 / FLOWS,
            f"{label}: backup, CPU s per 100k": (after[1] - before[1]) * 100_000 / FLOWS,
            f"{label}: backup, bytes an entry": (_memory(backup) - memory) * 1024 / FLOWS,
        }
        if kind == Tandem.name:
            figures[f"{label}: overruns"] = float(live.sync(active)["events"]["overruns"])
        return figures


def entries_of(count: int) -> Iterator[Entry]:
    """Return UDP flows of the client through SNAT."""
    head = b"\0\0\4\x11" + socket.inet_aton("192.168.1.10")
    for number in range(count):
        server = bytes((203, 0, 114, number // PORTS))
        ports = struct.pack("!HH", 1024 + number % PORTS, 53)
        body = struct.pack("!BHI", SNAT, IPS_CONFIRMED, 600) + socket.inet_aton("192.168.0.4") + ports[:2]
        yield head + server + ports, body


def burst(kind: str) -> Figures:
    """Entries at RATE, in chunks of some hundreds."""
    with SeedLab(daemon(kind), tag="bench") as lab:
        active, backup = started(lab, kind)
        restorer = active.enter(Restorer)
        restorer.restore(Builder(16_384).chunks(entries_of(FLOWS)))
        had = known(backup, kind)
        before = [_replicator(router) for router in (active, backup)]
        began = time.monotonic()
        while not restorer.step():
            early = began + restorer.figures.entries / RATE - time.monotonic()
            if early > 0:
                time.sleep(early)
        rate = FLOWS / (time.monotonic() - began)
        with suppress(NotReached):
            wait_until(lambda: known(backup, kind) >= had + FLOWS, 20, every=0.1)
        took = time.monotonic() - began - FLOWS / rate
        missing = had + FLOWS - known(backup, kind)
        if kind == Tandem.name:
            wait_until(lambda: mirrored(backup), 30, "the kernel has them", every=0.2)
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
            figures |= _longest_turns(label, {"active": active, "backup": backup})
        return figures


def _longest_turns(label: str, routers: dict[str, Router]) -> Figures:
    """The longest turn of each event loop since its start; who took most of it goes to stderr."""
    figures: Figures = {}
    for role, router in routers.items():
        found = Tandem.request(router, "status")["scheduling"]
        print(f"{label}: longest turn of the {role} in {found['turn_max_by']}", file=sys.stderr)
        figures[f"{label}: longest turn of the {role}, ms"] = found["turn_max_ms"]
    return figures


def crowd(kind: str) -> Figures:
    """Survivors, and when the gateway and the last connection came back."""
    with SeedLab(daemon(kind), tag="bench") as lab, live.connections() as flows:
        active, backup = started(lab, kind)
        Service(lab.server, "echo", FAR, "7")
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=False)
        Flood(lab.client, active).send(CROWD, 10_000)
        flows.all_go_on()
        if kind == Tandem.name:
            wait_until(lambda: known(backup, kind) >= CROWD + 200, 30, "the backup has all", every=0.2)
        else:
            fill(active, backup, CROWD + 200)
        if kind == Tandem.name:
            live.told(lab)
            wait_until(lambda: mirrored(backup), 60, "and its kernel", every=0.2)
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
        turns = _longest_turns(label, {"new active": backup}) if kind == Tandem.name else {}
        return turns | {
            f"{label}: gateway back, ms": outage.ms,
            f"{label}: connections that go on, of 200": float(alive),
            f"{label}: all settled, ms": took * 1000,
            f"{label}: adverts late by at most, ms": max(gaps, default=0.0) - 1000 * ADVERT_S,
        }


def gate(kind: str) -> Figures:
    """Milliseconds of connect() through the router; conntrackd has no such guarantee."""
    options = {"guarantee": "connection"} if kind == Tandem.name else {}
    with SeedLab(daemon(kind, **options), tag="bench") as lab:
        active, _ = started(lab, kind)
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
