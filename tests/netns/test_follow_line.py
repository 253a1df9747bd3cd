# SPDX-License-Identifier: GPL-2.0-or-later
"""The backup of a shared line says nothing with its MAC address, by tshark: from its boot on.

TANDEM_SILENT_S: listen for so many seconds instead of two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tests.lab import FAR, Capture, Tandem, stays
from tests.netns.shared_line import LINE, MAC, SharedLine

SOURCE = f"eth.src == {MAC}"
SILENT_S = float(os.environ.get("TANDEM_SILENT_S", "2"))


def test_the_backup_says_nothing(open_lab: Callable[[Any], Any]) -> None:
    lab: SharedLine = open_lab(SharedLine())
    first, second = (Capture(lab, router.cable(LINE), filter="inbound") for router in lab.routers)
    with first, second:
        lab.start()
        active = lab.settle()
        lab.client.exec("ping", "-c3", "-W3", FAR)
        stays(lambda: lab.active is active, SILENT_S)
    heard = dict(zip(lab.routers, (first, second), strict=True))
    backup = lab.other(active)
    assert heard[active].count(SOURCE) >= 3
    assert heard[backup].count(SOURCE) == 0

    cable = Capture(lab, active.cable(LINE), filter="inbound")
    Tandem.request(active, "failover")
    assert lab.settle() is backup
    with cable:  # nothing of what the device had still to say comes later
        lab.client.exec("ping", "-c3", "-W3", FAR)
        stays(lambda: lab.active is backup, SILENT_S)
    assert cable.count(SOURCE) == 0
