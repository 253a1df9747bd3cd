# SPDX-License-Identifier: GPL-2.0-or-later
"""802.1Q and a bridge: eth0.1 in br-lan, eth0.2 as WAN, on one cable. Debian's kernel is 6.1."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from qemu.router import Pair
from qemu.traffic import traffic
from tests.lab import wait_until

from .guests import LAB


@pytest.mark.parametrize("name", [*LAB, "root-x86_64"])
def test_the_only_cable_is_pulled(pair: Callable[..., Pair], name: str) -> None:
    lab = pair(name, trunk=True)
    lab.set_up()
    active = lab.in_step()
    other = lab.other(active)
    with traffic(lab) as client:
        start = time.monotonic()
        active.pull("eth0")
        wait_until(lambda: lab.active is other, 60, "the other takes over", every=0.2)
        client.outage_since(start)
        client.go_on()
        wait_until(lambda: set(active.states().values()) == {"FAULT"}, 60, "both are in FAULT", every=0.5)
        active.put("eth0")
        assert lab.in_step() is other
        client.go_on()


@pytest.mark.parametrize("name", [*LAB, "root-x86_64"])
def test_the_doctor_hears_on_vlans(pair: Callable[..., Pair], name: str) -> None:
    lab = pair(name, trunk=True)
    lab.set_up()
    lab.in_step()
    for router in lab.routers:
        found = json.loads(router.run("tandem doctor --json || true", 240))
        assert [item for item in found["findings"] if item["check"] in ("hearing", "firewall")] == []
