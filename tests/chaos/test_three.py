# SPDX-License-Identifier: GPL-2.0-or-later
"""A short walk of three routers; `python -m tests.chaos.three` walks further."""

from __future__ import annotations

import pytest

from tests.chaos.three import running
from tests.lab import LAN_GATEWAY, WAN_ADDRESS


def test_one_of_three_is_active_and_no_connection_ends() -> None:
    with running(1) as walk:
        walk.go(24)


def test_a_second_active_router_is_found() -> None:
    with running(1) as walk:
        other = next(router for router in walk.lab.routers if not router.active)
        other.ip(f"address add {LAN_GATEWAY}/24 dev br-lan", f"address add {WAN_ADDRESS}/24 dev eth0.2")
        with pytest.raises(AssertionError, match=f"{other.name}.*active"):
            walk.audit()
