# SPDX-License-Identifier: GPL-2.0-or-later
"""A line with PPPoE follows the role: genuine netifd and pppd, rp-pppoe's server as the concentrator.

The kernel of a build machine may lack PPP; that of these machines has it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from qemu import pairs
from qemu.pppoe import PppoePair
from qemu.router import RouterMachine
from qemu.traffic import Traffic, traffic
from tests.lab import wait_until

from .guests import booted, skipped

SAME = ["10.64.0.100"] * 4  # a provider that gives an account one address
OTHER = [f"10.64.0.{last}" for last in range(100, 104)]  # a provider with addresses that change


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[PppoePair]:
    with skipped():
        made = pairs.pppoe(lambda: request.getfixturevalue("router_feeds"))
    with booted("pppoe", made) as pair:
        assert isinstance(pair, PppoePair)
        pair.set_up()
        yield pair


def redial(_lab: PppoePair, active: RouterMachine) -> None:
    """By hand, as without a second router; the session is ended in good order."""
    active.run("ifup wan; until ubus call network.interface.wan status | grep -q '\"up\": false'; do :; done")


def planned(_lab: PppoePair, active: RouterMachine) -> None:
    active.run("tandem failover")


def power_loss(_lab: PppoePair, active: RouterMachine) -> None:
    active.run("sync")
    active.power_off()


def outage(lab: PppoePair, client: Traffic, fault: object) -> float:
    """The time (ms) without an answer."""
    active = lab.line_up()
    start = time.monotonic()
    assert callable(fault)
    fault(lab, active)
    return client.outage_since(start, 120).ms


def test_the_line_follows_the_role_x86_64(lab: PppoePair) -> None:
    """Connections go on by the same address; the concentrator would refuse a second session."""
    lab.concentrator.serve(SAME)
    first = lab.line_up()
    assert "option device 'wan0'" in first.run("cat /etc/config/network")
    with traffic(lab, downloads=0) as client:  # the kernel ends connections with pppd's device
        print("ifup wan, by hand:", outage(lab, client, redial), "ms", flush=True)
    with traffic(lab) as client:
        for fault in (planned, power_loss):
            active = lab.line_up()
            print(f"{fault.__name__}:", outage(lab, client, fault), "ms", flush=True)
            client.go_on(120)
            assert lab.active is lab.other(active) and len(lab.concentrator.sessions()) == 1
            if fault is power_loss:
                active.power_on()
                active.wait_booted()
        assert lab.line_up() is not active


def test_another_address_ends_the_connections_of_the_former_one_x86_64(lab: PppoePair) -> None:
    """Flows of datagrams get the new address."""
    lab.concentrator.serve(OTHER)
    active = lab.line_up()
    with traffic(lab, downloads=0) as client:
        before = active.status()["follow"][0]["address"]
        outage(lab, client, planned)
        other = lab.line_up()
        assert other is not active and other.status()["follow"][0]["address"] != before
        known = f"grep -c {before.partition('/')[0]} /proc/net/nf_conntrack"
        wait_until(lambda: other.run(known, check=False).strip() == "0", 30, "its connections are gone")
