# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults on the wire are in the log and in `health` of a running pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import LanLab, Router, wait_until

from .daemon import V1, VIP, pair, state, status

V6 = replace(V1, name="V6", virtual_router_id=52, addresses=("fd00:1::4/64",))
DEAF = "add rule inet deaf input ip protocol 112 ip saddr 192.168.1.2 drop"


def wrong(router: Router, reason: str, text: str) -> bool:
    return any(text in line for line in status(router)["health"].get(reason, ()))


def test_what_is_wrong_between_routers_is_said(open_lab: Callable[[Any], Any]) -> None:
    lab: LanLab = pair(open_lab, V1, V6)
    r1, r2 = lab.routers
    # A host has the addresses, and the backup has one of them by hand.
    lab.client.ip(f"address add {VIP}/24 dev eth0", "address add fd00:1::4/64 dev eth0 nodad")
    mac = lab.client.exec("cat", "/sys/class/net/eth0/address").strip()
    for address in (VIP, "fd00:1::4"):
        wait_until(
            lambda: wrong(r1, "addresses", f"{address} is also at {mac}"), 60, "r1 sees it",  # noqa: B023
            explain=lambda: str(status(r1)["health"]) + r1.log(),
        )  # fmt: skip
    r2.ip(f"address add {VIP}/24 dev eth0")
    wait_until(lambda: wrong(r2, "addresses", f"{VIP} is on eth0"), 20, "r2 sees its own", explain=r2.log)
    assert f"{VIP} is also at {mac}" in r1.log() and f"{VIP} is on eth0" in r2.log()
    r2.ip(f"address delete {VIP}/24 dev eth0")
    lab.client.ip(f"address delete {VIP}/24 dev eth0", "address delete fd00:1::4/64 dev eth0")
    wait_until(lambda: not status(r2)["health"], 20, "nothing is wrong on r2", explain=r2.log)
    # r2 does not hear r1.
    for line in (
        "add table inet deaf",
        "add chain inet deaf input { type filter hook input priority -1; }",
        DEAF,
    ):
        r2.exec("nft", "-f", "-", stdin=line)
    wait_until(lambda: state(r2) == "MASTER", 10, "r2 hears nobody")
    wait_until(
        lambda: wrong(r1, "adverts", "192.168.1.3 is active as well"), 20, "r1 says it", explain=r1.log
    )
    assert "V1: 192.168.1.3 is active as well" in r1.log()
