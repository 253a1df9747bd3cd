# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow offloading, as OpenWrt's `flow_offloading 1`: what bypasses the firewall survives a takeover too.

The kernel tells nothing of the state or timeout of a flow while a flowtable looks after it. In machines,
because it takes a kernel with flowtables (kmod-nft-offload).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from qemu.router import WAN_DEVICE, Pair, RouterMachine
from qemu.traffic import DOWNLOADS, traffic
from tests.lab import wait_until
from tests.netns.openwrt_firewall import EQUIVALENT, offloading, printed
from tests.openwrt_pieces import ROOT

from .guests import LAB

INCLUDED = {"table": "table-pre/tandem.nft", "input": "chain-pre/input/tandem.nft"}


@pytest.fixture(scope="module")
def ruleset() -> str:
    """Return the rules of the genuine fw4, or without it rules like those: masquerading and offloading."""
    if all(path.exists() for path in (ROOT / "sbin/fw4", ROOT / "sbin/netifd")):
        text = printed()
        assert "flow offload @ft" in text and "masquerade" in text and "table-pre/tandem.nft" in text
        # Helpers of this machine's kernel, which the guest's has not.
        text = re.sub(r"\tct helper \S+ \{[^}]*\}\n", "", text)
        text = "".join(line for line in text.splitlines(True) if "ct helper set" not in line)
    else:
        includes = {name: f'include "/usr/share/nftables.d/{path}"' for name, path in INCLUDED.items()}
        text = offloading(EQUIVALENT % (includes | {"lan": "accept"}))
    return text.replace('"wan"', f'"{WAN_DEVICE}"')


def load_firewall(router: RouterMachine, ruleset: str) -> None:
    """OpenWrt's rules in the place of the lab guest's own; those of the package are installed."""
    router.console.write("/tmp/fw4", ruleset)
    router.run("nft delete table inet lab; nft -f /tmp/fw4", 120)


def offloaded(router: RouterMachine) -> int:
    """How many downloads the flowtable looks after; all of them are translated to the shared address."""
    table = router.run("conntrack -L -p tcp 2>/dev/null", check=False)
    lines = [line for line in table.splitlines() if "dport=80 " in line and "OFFLOAD" in line]
    assert all("dst=192.168.0.4 " in line for line in lines), table
    return len(lines)


@pytest.mark.parametrize("name", LAB)
def test_offloaded_downloads_survive_a_power_loss(pair: Callable[..., Pair], name: str, ruleset: str) -> None:
    lab = pair(name)
    lab.install()
    for router in lab.routers:
        load_firewall(router, ruleset)
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
        load_firewall(active, ruleset)
        assert lab.in_step() is other
        other.run("tandem failover")  # while its own flowtable still has them
        wait_until(lambda: lab.active is active, 60, "back again", every=0.2)
        client.go_on()
        all_offloaded(active)
