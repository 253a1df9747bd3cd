# SPDX-License-Identifier: GPL-2.0-or-later
"""One line, one address: what a client notices when it moves between genuine netifds and their clients.

With CROWD other connections in the table, 200 TCP connections go on through ROUNDS planned switches and a
power loss, and the provider's lease file has one client all the time: a run that breaks this fails. With
dnsmasq and ISC's dhcpd as the provider, and with IPv6 by DHCPv6 and a delegated prefix.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from tandem.replication.pacer import LOSING
from tests.bench.replication import CROWD, mirrored
from tests.bench.takeover import crowded
from tests.lab import FAR, Pings, Router, Service, Tandem, wait_until
from tests.netns import live
from tests.netns.daemon import status
from tests.netns.shared_line import MAC
from tests.openwrt.one_line import IscLine, OneLine, network
from tests.openwrt.one_line6 import FAR6, PREFIX, OneLine6, network6
from tests.openwrt_pieces import ROOT, USR

Figures = dict[str, float]
ROUNDS = 5
PATIENCE = 60.0


def line(kind: str) -> Figures:
    """Each provider in turn; nothing for keepalived, which leaves the line to its users."""
    if kind != Tandem.name:
        return {}
    if not (ROOT.exists() and USR.exists() and shutil.which("dhcpd")):
        print(
            "line: needs dhcpd of ISC and OpenWrt's own programs, see tests/openwrt_pieces.py",
            file=sys.stderr,
        )
        return {}
    figures = _moved("DHCP of dhcpd", IscLine, [FAR])
    return figures | _moved("DHCP of dnsmasq, DHCPv6 of dhcpd", OneLine6, [FAR, FAR6])


def _moved(label: str, lab_of: Callable[[], OneLine], addresses: list[str]) -> Figures:
    with lab_of().up() as lab, live.connections() as made:
        lab.start()
        active, backup = _ready(lab)
        crowded(lab, Tandem.name, active, backup, CROWD)  # type: ignore[arg-type]
        half = 100 // len(addresses)
        for address in addresses:
            made.add(lab.client, lab.server, address, half, server_speaks=True)
            made.add(lab.client, lab.server, address, half, server_speaks=False)
            Service(lab.server, "echo", address, "7")
        pings = [Pings(lab.client, address) for address in addresses]

        def event(action: Callable[[Router], object]) -> list[Any]:
            """Do this to the active router; return what each ping has lost, when all are answered again."""
            active, backup = _ready(lab)
            time.sleep(LOSING)  # a role that comes back sooner may wait for its connections
            for one in pings:
                one.flowing(timeout=PATIENCE)
            before = time.monotonic()
            action(active)
            wait_until(lambda: backup.active, PATIENCE, "the other one is active", explain=lab.logs)
            found = [one.outage_since(before, timeout=PATIENCE) for one in pings]
            made.all_go_on(PATIENCE, "the switch")
            wait_until(lambda: network(backup)["state"] == "bound", PATIENCE, "bound", explain=lab.logs)
            made.all_go_on(PATIENCE, "the provider's answer")
            assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]], lab.leases()
            if isinstance(lab, OneLine6):
                wait_until(lambda: network6(backup)["state"] == "bound", PATIENCE, "bound", explain=lab.logs)
                assert network6(backup)["prefixes"] == [PREFIX] and len(lab.delegations()) == 1
            return found

        planned = [event(lambda router: Tandem.request(router, "failover")) for _ in range(ROUNDS)]
        limits: list[float] = []

        def power_off(router: Router) -> None:
            limits.append(status(lab.other(router))["peers"][0]["heartbeats"]["limit_ms"])
            time.sleep(random.uniform(0, 0.1))  # the phase of the heartbeats
            router.power_off()

        lost = event(power_off)
        [limit] = limits
    figures: Figures = {}
    for number, address in enumerate(addresses):
        name = f"{label}: {'IPv6' if ':' in address else 'IPv4'}, "
        losses = [outages[number] for outages in planned]
        figures |= {
            f"{name}{ROUNDS} planned switches: datagrams lost (1 per ms)": sum(one.lost for one in losses),
            f"{name}planned switch: most datagrams lost": max(one.lost for one in losses),
            f"{name}planned switch: worst outage, ms": max(one.ms for one in losses),
            f"{name}power loss: outage, ms": lost[number].ms,
        }
    figures[f"{label}: power loss: silence that is a death, ms"] = limit
    figures[f"{label}: power loss: outage beyond it, ms"] = max(one.ms for one in lost) - limit
    return figures


def _ready(lab: OneLine) -> tuple[Router, Router]:
    """Wait until one router has the line, and the other knows all connections and leases of it."""

    def ready() -> tuple[Router, Router] | None:
        if not live.in_step(lab):  # type: ignore[arg-type]
            return None
        active = lab.active
        assert active is not None
        backup = lab.other(active)
        if not mirrored(backup):
            return None
        networks = (network, network6) if isinstance(lab, OneLine6) else (network,)
        shown = [(one(active)["state"], one(backup)["lease_left_s"]) for one in networks]
        return (active, backup) if all(state == "bound" and left for state, left in shown) else None

    found: tuple[Router, Router] = wait_until(
        ready, PATIENCE, "the line is ready", every=0.1, explain=lab.logs
    )
    return found
