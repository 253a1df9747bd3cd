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
    """Dial by hand, as without a second router; the former session ends in good order."""
    active.run("ifup wan; while [ -e /sys/class/net/pppoe-wan ]; do :; done")


def planned(_lab: PppoePair, active: RouterMachine) -> None:
    active.run("tandem failover")


def power_loss(_lab: PppoePair, active: RouterMachine) -> None:
    active.run("sync")
    active.power_off()


def outage(lab: PppoePair, client: Traffic, fault: object) -> float:
    """Return the longest time without an answer, ms."""
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


def test_a_session_is_taken_over_x86_64(lab: PppoePair) -> None:
    """The session and its address stay, also where a new session would get another address."""
    lab.concentrator.serve(OTHER)
    lab.line_up()
    lab.set_session("takeover")
    with traffic(lab) as client:
        for fault in (planned, power_loss):
            active = lab.line_up()
            sessions = lab.concentrator.sessions()
            print(f"{fault.__name__}, the session goes on:", outage(lab, client, fault), "ms", flush=True)
            client.go_on(120)
            assert lab.active is lab.other(active) and lab.concentrator.sessions() == sessions
            if fault is power_loss:
                active.power_on()
                active.wait_booted()
        assert lab.line_up() is not active


def test_a_session_that_the_concentrator_has_forgotten_x86_64(lab: PppoePair) -> None:
    """The router that takes over asks in vain, and dials."""
    lab.concentrator.serve(SAME)
    lab.set_session("takeover")
    active = lab.line_up()
    with traffic(lab, downloads=0) as client:
        start = time.monotonic()
        power_loss(lab, active)
        lab.concentrator.forget()
        print("a session that is forgotten:", client.outage_since(start, 120).ms, "ms", flush=True)
    other = lab.other(active)
    assert "does not go on" in other.log() and other.status()["follow"][0]["state"] == "bound"
    active.power_on()
    active.wait_booted()
    assert lab.line_up() is other
