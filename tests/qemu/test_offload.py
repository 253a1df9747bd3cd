# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow offloading, as OpenWrt's `flow_offloading 1`: what bypasses the firewall survives a takeover too.

The kernel tells nothing of the state or timeout of a flow while a flowtable looks after it. In machines,
because it takes a kernel with flowtables (kmod-nft-offload).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qemu.router import WAN_DEVICE, Pair, RouterMachine
from tests.lab import wait_until
from tests.netns.openwrt_firewall import EQUIVALENT, offloading

from .traffic import DOWNLOADS, traffic


def load_firewall(router: RouterMachine) -> None:
    """OpenWrt's chains in the place of the lab guest's own, with masquerading and offloading."""
    ruleset = offloading(EQUIVALENT % {"table": "", "input": "meta l4proto 112 accept", "lan": "accept"})
    router.console.write("/tmp/fw4", ruleset.replace('"wan"', f'"{WAN_DEVICE}"'))
    router.run("nft delete table inet lab; nft -f /tmp/fw4")


def offloaded(router: RouterMachine) -> int:
    """How many downloads the flowtable looks after; all of them are translated to the shared address."""
    table = router.run("conntrack -L -p tcp 2>/dev/null", check=False)
    lines = [line for line in table.splitlines() if "dport=80 " in line and "OFFLOAD" in line]
    assert all("dst=192.168.0.4 " in line for line in lines), table
    return len(lines)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_offloaded_downloads_survive_a_power_loss(pair: Callable[..., Pair], architecture: str) -> None:
    lab = pair(architecture, architecture)
    for router in lab.routers:
        load_firewall(router)
        router.install()
    active = lab.in_step()
    other = lab.other(active)
    with traffic(lab) as client:

        def all_offloaded(router: RouterMachine) -> None:
            wait_until(lambda: offloaded(router) >= DOWNLOADS, 60, "all downloads are offloaded", every=0.5)

        all_offloaded(active)
        assert lab.in_step() is active
        active.power_off()
        wait_until(lambda: lab.active is other, 60, "the other takes over", every=0.2)
        client.go_on()
        all_offloaded(other)
        active.power_on()
        active.wait_booted()
        load_firewall(active)
        assert lab.in_step() is other
        other.run("tandem failover")  # while its own flowtable still has them
        wait_until(lambda: lab.active is active, 60, "back again", every=0.2)
        client.go_on()
        all_offloaded(active)
