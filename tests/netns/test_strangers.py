# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair with an authenticated channel: strangers move no role, and conntrack sees no packet of the pair."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tandem.core.packet import Advertisement
from tests.lab import Router, SeedLab, Tandem, stays, wait_until
from tests.lab.frames import advertise

from .live import CLIENT, started, synced

Open = Callable[[SeedLab], SeedLab]


def forged(lab: SeedLab, priority: int) -> None:
    """An advert of the LAN's virtual router from the client, right in everything."""
    item = lan(lab.r1)
    addresses = tuple(socket.inet_aton(text.partition("/")[0]) for text in item["addresses"][:1])
    interval = item["advert_int_ms"] // 10
    advert = Advertisement(item["version"], item["virtual_router_id"], priority, interval, addresses)
    advertise(lab.client, CLIENT, advert)


def lan(router: Router) -> dict[str, Any]:
    """The status of the instance on the LAN."""
    found: dict[str, Any] = Tandem.request(router, "status")["instances"][0]
    return found


def ignored(router: Router) -> int:
    """How many adverts of strangers the router has ignored."""
    return int(lan(router)["counters"].get("strangers_ignored", 0))


def tracked(router: Router) -> list[str]:
    """The entries of adverts and of the channel in connection tracking."""
    lines = router.exec("conntrack", "-L").splitlines()
    return [line for line in lines if "port=3780" in line or line.split()[:2] == ["unknown", "112"]]


def test_strangers_and_a_full_table(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    before = [lan(router)["transitions"] for router in lab.routers]

    def ignore(priority: int) -> bool:
        goal = [ignored(router) + 1 for router in lab.routers]
        forged(lab, priority)
        return all(ignored(router) >= least for router, least in zip(lab.routers, goal, strict=True))

    # The session brings the peer's address.
    for priority in (255, 0, 1):
        wait_until(lambda priority=priority: ignore(priority), 10, f"priority {priority} is ignored by both")
    assert [lan(router)["transitions"] for router in lab.routers] == before
    stays(lambda: lan(active)["state"] == "MASTER" and lan(backup)["state"] == "BACKUP", 1, "roles")
    assert lan(backup)["stranger"]["address"] == CLIENT
    assert f"{CLIENT} is no Tandem peer, its adverts are ignored (priority 255, interval" in backup.log()

    for router in lab.routers:
        assert tracked(router) == [], router.name
    active.exec("nft", "delete", "table", "inet", "tandem_notrack")
    wait_until(lambda: "tandem_notrack" in active.exec("nft", "list", "tables"), 5, "the table is put back")
    assert "notrack" in active.exec("nft", "list", "table", "inet", "tandem_notrack")
    active.stop()
    assert "tandem_notrack" not in active.exec("nft", "list", "tables")
