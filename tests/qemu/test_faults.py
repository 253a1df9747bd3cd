# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of routers other than a loss of power; one pair of each guest lives through all of it."""

from __future__ import annotations

import re
import time

import pytest

from qemu.router import Pair, RouterMachine
from qemu.traffic import Traffic, fill, told, traffic
from tests.lab import FAR, Download, stays, wait_until

from .guests import LAB, MIXED, OPENWRT, on

ENTRIES = 10_000


@on(*LAB, *OPENWRT)
@pytest.mark.parametrize("card", ["eth0", "eth1"])
def test_a_cable_is_pulled(standing: Pair, card: str) -> None:
    lab = standing
    active = lab.in_step()
    with traffic(lab) as client:
        start = time.monotonic()
        active.pull(card)
        try:
            wait_until(lambda: lab.active is lab.other(active), 60, "the other takes over", every=0.2)
            client.outage_since(start)
            client.go_on()
            if card == "eth1":  # on the LAN it hears nothing of why
                assert "FAULT" in active.states().values()
        finally:
            active.put(card)
        assert lab.in_step() is lab.other(active)
        client.go_on()


@on(*LAB, *OPENWRT, *MIXED)
def test_ten_thousand_connections_are_restored(standing: Pair) -> None:
    lab = standing
    active = lab.in_step()
    other = lab.other(active)
    fill(lab, active, ENTRIES)
    told(lab, active)
    active.power_off()
    wait_until(lambda: other.active, 60, "the other takes over", every=0.2)
    wait_until(
        lambda: other.entries() >= ENTRIES,
        30,
        "its kernel knows them all",
        every=0.5,
        explain=lambda: f"{other.entries()}: {other.status('conntrack')['restore_steps']}",
    )
    active.power_on()
    active.wait_booted()
    assert lab.in_step() is other


@on(*LAB, *OPENWRT)
@pytest.mark.parametrize("position", [1, 2])
def test_a_router_that_stood_still_does_not_fight(standing: Pair, position: int) -> None:
    """Frozen, it says nothing and counts no time; when it goes on it believes itself active.

    By the RFC's rule for equal priorities the one with the higher address, r2, keeps the role then.
    """
    lab = standing
    active = _make_active(lab, position)
    with traffic(lab) as client:
        _stand_still(lab, active, client)
        client.go_on()
    lab.in_step()


@on(*LAB, *OPENWRT)
@pytest.mark.parametrize("position", [1, 2])
def test_what_was_opened_while_it_stood_still_goes_on(standing: Pair, position: int) -> None:
    lab = standing
    active = _make_active(lab, position)
    with traffic(lab) as client:
        _stand_still(lab, active, client, opened_meanwhile=True)
        client.go_on()


def _stand_still(lab: Pair, active: RouterMachine, client: Traffic, opened_meanwhile: bool = False) -> None:
    other = lab.other(active)
    active.freeze()
    try:
        wait_until(lambda: other.active, 60, "the other takes over", every=0.2)
        client.go_on()
        if opened_meanwhile:
            client.downloads.append(Download(lab.client, FAR))
            client.go_on()
    finally:
        active.thaw()
    now = lab.elected(30)
    stays(lambda: lab.active is now, 5, "one of them is active", every=0.2)


def _make_active(lab: Pair, position: int) -> RouterMachine:
    wanted = lab.routers[position - 1]
    active = lab.in_step()
    if active is not wanted:
        active.run("tandem failover", 60)
        wait_until(lambda: lab.active is wanted, 60, "handed over", every=0.2)
    return lab.in_step()


@on(*LAB, *OPENWRT)
def test_reboot_of_the_active_router_and_failback(standing: Pair) -> None:
    """r1 is preferred: it goes down properly, comes back, and takes its role back when it is in step."""
    lab = standing
    lab.in_step()
    _configure(lab, preempt=True)
    wait_until(lambda: lab.active is lab.r1, 120, "the preferred router is active", every=0.2)
    lab.in_step()
    with traffic(lab) as client:
        lab.r1.console.send("reboot\n")
        wait_until(lambda: lab.r2.active, 120, "r2 takes over", every=0.2)
        client.go_on(120)
        lab.r1.wait_booted()
        wait_until(lambda: lab.active is lab.r1, 180, "the preferred router is back", every=0.5)
        client.go_on(120)
    _configure(lab, preempt=False)
    lab.in_step()


@on(*LAB, *OPENWRT)
def test_downloads_survive_an_upgrade(standing: Pair) -> None:
    downloads_survive_an_upgrade(standing)


def downloads_survive_an_upgrade(lab: Pair) -> None:
    """One router after the other; the daemon that is exchanged hands over to its peer."""
    active = lab.in_step()
    with traffic(lab) as client:
        for router in (lab.other(active), active):
            before = router.pid()
            router.upgrade()
            wait_until(lambda r=router, p=before: r.pid() != p, 60, "another daemon runs", every=0.5)
            client.go_on(120)
            lab.in_step()


def _configure(lab: Pair, *, preempt: bool) -> None:
    for router in lab.routers:
        router.configure(preempt=preempt)


@on(*MIXED)
def test_a_label_means_the_same_on_both(standing: Pair) -> None:
    """Set by nft on one, known to nft on the other after a takeover; both ways."""
    for _ in range(2):
        _labels_go_over(standing)


def _labels_go_over(lab: Pair) -> None:
    active = lab.in_step()
    other = lab.other(active)
    # A kernel keeps labels for conntrack only when a rule sets one.
    other.run("nft insert rule inet lab forward udp dport 9 ct label set 7")
    other.run("nft insert rule inet lab forward ct label 5 counter")
    active.run("nft insert rule inet lab forward ct label set 5")
    with traffic(lab) as client:
        told(lab, active)
        active.run("tandem failover", 60)
        wait_until(lambda: other.active, 60, "handed over", every=0.2)
        client.go_on()
        rules = other.run("nft list chain inet lab forward")
        counted = re.search(r"ct label 5 counter packets (\d+)", rules)
        assert counted and int(counted[1]) > 0, rules
    for router in lab.routers:
        router.run("nft delete table inet lab; nft -f /etc/lab/firewall", 60)
    lab.in_step()
