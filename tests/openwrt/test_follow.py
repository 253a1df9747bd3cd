# SPDX-License-Identifier: GPL-2.0-or-later
"""One line and one address for two routers: genuine netifd and udhcpc, dnsmasq as the provider."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import FAR, Pings, Router, Service, Tandem, stays, wait_until
from tests.lab.capture import Capture
from tests.netns.live import connections, sync
from tests.openwrt_pieces import needs_root, needs_ubus

from .one_line import MAC, OneLine, has_device, network

pytestmark = [needs_ubus, needs_root]

Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open) -> OneLine:
    found: OneLine = open_lab(OneLine())
    found.start()
    return found


def both(lab: OneLine) -> tuple[Router, Router]:
    """The active router and the other one, which knows all of its connections."""

    def in_step() -> bool:
        active = lab.active
        return active is not None and bool(sync(active)["channel"]["peers"][0].get("in_step"))

    wait_until(in_step, 20, "the backup is in step", explain=lab.logs)
    active = lab.active
    assert active is not None
    return active, lab.other(active)


def failover(active: Router) -> None:
    Tandem.request(active, "failover")


def power_loss(active: Router) -> None:
    active.power_off()


def test_the_backup_says_nothing_and_knows_the_lease(lab: OneLine) -> None:
    active, backup = both(lab)
    assert has_device(active) and not has_device(backup)
    assert network(backup)["address"] == network(active)["address"] == "192.168.0.50/24"
    assert [line.split()[1] for line in lab.leases()] == [MAC]
    with (
        Capture(lab, backup.cable("eth1"), filter="inbound") as silent,
        Capture(lab, active.cable("eth1"), filter="inbound") as spoken,
    ):
        lab.client.exec("ping", "-c3", "-W3", FAR)
        stays(lambda: lab.active is active, 3)
    assert spoken.count(f"eth.src == {MAC}") >= 3
    assert silent.count("eth.type != 0x88b5") == 0  # which is the capture's own


@pytest.mark.parametrize("fault", [failover, power_loss])
def test_connections_go_on_at_the_other_router(lab: OneLine, fault: Callable[[Router], None]) -> None:
    active, backup = both(lab)
    Service(lab.server, "echo", FAR, "7")
    with connections() as made:
        made.add(lab.client, lab.server, FAR, 25, server_speaks=True)
        made.add(lab.client, lab.server, FAR, 25, server_speaks=False)
        pings = Pings(lab.client, FAR)
        pings.flowing()
        both(lab)
        start = time.monotonic()
        fault(active)
        wait_until(lambda: backup.active, 10, explain=lab.logs)
        outage = pings.outage_since(start)
        print(fault.__name__, outage)
        made.all_go_on()
        wait_until(lambda: network(backup)["state"] == "bound", 20, explain=lab.logs)
        made.all_go_on()
        pings.stop()
    assert network(backup)["address"] == "192.168.0.50/24"
    assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]]
