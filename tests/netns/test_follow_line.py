# SPDX-License-Identifier: GPL-2.0-or-later
"""The backup of a shared line says nothing with its MAC address, by tshark: from its boot on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.lab import FAR, Capture, Tandem, stays
from tests.netns.shared_line import LINE, MAC, SharedLine

SOURCE = f"eth.src == {MAC}"


def test_the_backup_says_nothing(open_lab: Callable[[Any], Any]) -> None:
    lab: SharedLine = open_lab(SharedLine())
    first, second = (Capture(lab, router.cable(LINE), filter="inbound") for router in lab.routers)
    with first, second:
        lab.start()
        active = lab.settle()
        lab.client.exec("ping", "-c3", "-W3", FAR)
        stays(lambda: lab.active is active, 2)
    heard = dict(zip(lab.routers, (first, second), strict=True))
    backup = lab.other(active)
    assert heard[active].count(SOURCE) >= 3
    assert heard[backup].count(SOURCE) == 0

    cable = Capture(lab, active.cable(LINE), filter="inbound")
    Tandem.request(active, "failover")
    assert lab.settle() is backup
    with cable:  # nothing of what the device had still to say comes later
        lab.client.exec("ping", "-c3", "-W3", FAR)
        stays(lambda: lab.active is backup, 2)
    assert cable.count(SOURCE) == 0
