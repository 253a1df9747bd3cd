# SPDX-License-Identifier: GPL-2.0-or-later
"""Never do both routers of a shared line speak with its MAC address, and never neither for long.

The same on genuine netifd, with IPv6: tests/openwrt/test_follow_ipv6.py.
"""

from __future__ import annotations

from tests.chaos.line import walk
from tests.netns.shared_line import SharedLine


def test_ten_failovers_and_reboots() -> None:
    with SharedLine().up() as lab:
        lab.start()
        walk(lab)
