# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to routers short of losing their power; one pair of machines lives through all of it."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

import pytest

from qemu.router import LabRouter, Pair, pair_config
from tests.lab import FAR, Download, stays, wait_until

from .traffic import traffic

ENTRIES = 10_000


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


def test_a_router_that_stood_still_does_not_fight(standing: Pair) -> None:
    """Frozen, it says nothing and counts no time; when it goes on it believes itself active.

    Each of the two in turn: by the RFC's rule for equal priorities the higher address keeps the role.
    """
    lab = standing
    for _ in range(2):
        active = lab.in_step()
        other = lab.other(active)
        with traffic(lab) as client:
            active.freeze()
            try:
                wait_until(lambda r=other: r.active, 60, "the other takes over", every=0.2)
                client.go_on()
                made_meanwhile = Download(lab.client, FAR)
                client.downloads.append(made_meanwhile)
                client.go_on()
            finally:
                active.thaw()
            now = lab.elected(30)
            stays(lambda now=now: lab.active is now, 5, "one of them is active", every=0.2)
            client.go_on()
            lab.in_step()
        if now is active:
            now.run("tandem failover", 60)
            wait_until(lambda a=now: lab.active is lab.other(a), 60, "handed over", every=0.2)


def test_ten_thousand_connections_are_restored(standing: Pair) -> None:
    lab = standing
    active = lab.in_step()
    other = lab.other(active)
    with lab.client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("", 5000))
        sent = 0

        def known() -> bool:
            nonlocal sent
            # What an emulated router drops is sent again by going round.
            for port in range(sent, sent + 500):
                with suppress(OSError):
                    sock.sendto(b"", (FAR, 10_000 + port % ENTRIES))
            sent += 500
            return active.entries() >= ENTRIES

        wait_until(known, 240, f"{ENTRIES} connections", every=0.05)
    lab.in_step()

    def told() -> bool:
        page = active.status("conntrack")
        return int(page["channel"]["peers"][0].get("acked", 0)) >= int(page["channel"]["position"])

    wait_until(told, 60, "the other has all", every=0.5)
    active.power_off()
    wait_until(lambda: other.active, 60, "the other takes over", every=0.2)
    restored = sum(step["entries"] for step in other.status("conntrack")["restore_steps"])
    assert restored >= ENTRIES
    assert other.entries() >= ENTRIES
    active.power_on()
    active.wait_booted()
    assert lab.in_step() is other


def test_reboot_of_the_active_router_and_failback(standing: Pair) -> None:
    """r1 is preferred: it goes down properly, comes back, and takes its role back when it is in step."""
    lab = standing
    _configure(lab, preempt=True)
    wait_until(lambda: lab.active is lab.r1, 120, "the preferred router is active", every=0.2)
    lab.in_step()
    with traffic(lab) as client:
        lab.r1.console.send("reboot\n")
        wait_until(lambda: lab.r2.active, 120, "r2 takes over", every=0.2)
        client.go_on()
        lab.r1.wait_booted()
        wait_until(lambda: lab.active is lab.r1, 180, "the preferred router is back", every=0.5)
        client.go_on()
    _configure(lab)
    lab.in_step(120)


def _configure(lab: Pair, **options: bool) -> None:
    for router in lab.routers:
        assert isinstance(router, LabRouter)
        router.console.write("/etc/config/tandem", pair_config(router.position, **options))
        router.service("restart")
        router.run("sync")
