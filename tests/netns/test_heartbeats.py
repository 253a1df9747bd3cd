# SPDX-License-Identifier: GPL-2.0-or-later
"""Heartbeats: a router takes over as soon as its peer is dead, and only then."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from socket import AF_NETLINK, NETLINK_ROUTE, SOCK_RAW, inet_aton, socket
from typing import Any

import pytest

from tests.lab import LAN_GATEWAY, Router, SeedLab, Tandem, netns, seed_instances, stays, wait_until
from tests.lab.scenario import tandem_uci

from . import live
from .daemon import status

Open = Callable[[SeedLab], SeedLab]
SECRET = "between these two routers"
RTMGRP_IPV4_IFADDR, RTM_NEWADDR, RTM_DELADDR = 0x10, 20, 21  # linux/rtnetlink.h
SLOW = 3.0  # s between adverts: VRRP's timers would take three times as long


def daemon(number: int, *more: str, advert_s: float = SLOW) -> Tandem:
    instances = tuple(seed_instances(advert_s, priority=151 - 50 * (number - 1), preempt=True))
    groups = {"G1": tuple(item.name for item in instances)}
    peer = [
        "",
        "config peer 'other'",
        f"\tlist address '192.168.1.{4 - number}'",
        f"\toption secret '{SECRET}'",
    ]
    text = tandem_uci(instances, groups, {}) + "\n".join([*peer, *more, ""])
    return Tandem(instances, groups, text=text)


def beats(router: Router) -> dict[str, Any]:
    """What the router's status says of its peer's heartbeats."""
    peers = status(router)["peers"]
    return (peers[0]["heartbeats"] if peers else None) or {}


def hear_each_other(lab: SeedLab) -> None:
    wait_until(
        lambda: all(beats(router).get("state") == "alive" for router in lab.routers), 20, "heartbeats",
        explain=lambda: str([beats(router) for router in lab.routers]),
    )  # fmt: skip


@pytest.fixture
def lab(open_lab: Open) -> SeedLab:
    """r1 is active, and the routers hear each other's heartbeats by LAN and WAN."""
    lab = open_lab(SeedLab(daemon, "beats"))
    lab.r1.start()
    wait_until(lambda: lab.r1.active, 60, "r1 is active")
    lab.r2.start()
    lab.r2.wait_started()
    hear_each_other(lab)
    return lab


DEAF = """
table inet deaf {
    chain input {
        type filter hook prerouting priority -400; policy accept;
        meta l4proto 112 counter drop
    }
}
"""


def dropped(router: Router) -> int:
    """How many adverts the table DEAF has dropped."""
    found = json.loads(router.exec("nft", "-j", "list", "table", "inet", "deaf"))["nftables"]
    rule = next(item["rule"] for item in found if "rule" in item)
    return int(next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part))


def test_a_dead_router_is_replaced_before_vrrp_could(lab: SeedLab) -> None:
    lab.r1.power_off()
    wait_until(lambda: lab.r2.active, SLOW, "r2 is active", explain=lab.logs)
    assert "its heartbeats have stopped" in str(status(lab.r2)["history"])


def test_adverts_that_are_lost_one_way_make_no_second_active_router(open_lab: Open) -> None:
    """VRRP's timers have ended, but the active router's heartbeats come. Without adverts it stays so."""
    lab = open_lab(SeedLab(lambda number: daemon(number, advert_s=0.1), "deaf"))
    lab.elect()
    r1, r2 = lab.routers
    hear_each_other(lab)
    wait_until(lambda: lab.active is r1, 15, "r1 is active", explain=lab.logs)
    r2.exec("nft", "-f", "-", stdin=DEAF)
    wait_until(lambda: dropped(r2) > 40, 20, "VRRP's timers have ended on r2")
    stays(lambda: r1.active and r2.all_in("BACKUP"), 0.5)
    r1.power_off()
    wait_until(lambda: r2.active, 15, "r2 is active", explain=lab.logs)
    assert "its heartbeats have stopped" in str(status(r2)["history"])
    # r1 returns and is better, but r2 cannot hear it: heartbeats compare the two, and one yields.
    r1.power_on()
    r1.wait_started()
    wait_until(lambda: r1.active and r2.all_in("BACKUP"), 20, "r1 alone is active", explain=lab.logs)
    stays(lambda: r1.active and r2.all_in("BACKUP"), 0.5)


def test_a_router_that_stops_heartbeats_is_not_dead(open_lab: Open) -> None:
    lab = open_lab(SeedLab(lambda number: daemon(number, advert_s=0.2), "off"))
    lab.elect()
    r1, r2 = lab.routers
    hear_each_other(lab)
    wait_until(lambda: lab.active is r1 and r2.all_in("BACKUP"), 15, "r1 is active", explain=lab.logs)
    before = r2.log().count("MASTER (")  # r2 may have been elected first
    text = r1.file("conf").read_text()
    r1.file("conf").write_text(text + "\nconfig globals 'globals'\n\toption heartbeat_interval '0'\n")
    Tandem.request(r1, "reload")
    wait_until(lambda: not beats(r2), 15, "no heartbeats", explain=lambda: str(beats(r2)))
    stays(lambda: r1.active and r2.all_in("BACKUP"), 0.5)
    r1.file("conf").write_text(text)
    Tandem.request(r1, "reload")
    hear_each_other(lab)
    assert r2.log().count("MASTER (") == before


class AddressNews:
    """The kernel's notifications about one address in a router."""

    def __init__(self, router: Router, address: str) -> None:
        self._address = inet_aton(address)
        self._socket = netns.enter(router.namespace, _subscribe)

    def __enter__(self) -> AddressNews:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, kind: int, timeout_s: float) -> bool:
        """Whether a message of this kind comes, or has come and was not read yet."""
        end = time.monotonic() + timeout_s
        while True:
            self._socket.settimeout(max(1e-6, end - time.monotonic()))
            try:
                message = self._socket.recv(1 << 16)
            except (TimeoutError, BlockingIOError):
                return False
            if int.from_bytes(message[4:6], sys.byteorder) == kind and self._address in message:
                return True


def _subscribe() -> socket:
    opened = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
    opened.bind((0, RTMGRP_IPV4_IFADDR))
    return opened


def test_a_router_that_leaves_keeps_its_addresses_until_the_other_one_serves(open_lab: Open) -> None:
    """The kernels say so: at the removal here, the installation there has been told already."""
    lab = open_lab(SeedLab(partial(live.synced, preempt=True), "offer"))
    live.started(lab)
    r1, r2 = lab.routers
    wait_until(lambda: lab.active is r1, 20, "r1 is active", explain=lab.logs)

    for way in ("failover", "resume", "standby", "resume", "SIGTERM"):  # after `resume` r1 preempts
        leaver, taker = (r2, r1) if way == "resume" else (r1, r2)
        wait_until(lambda: live.in_step(lab), 20, f"{way}: in step", explain=lab.logs)
        with AddressNews(leaver, LAN_GATEWAY) as here, AddressNews(taker, LAN_GATEWAY) as there:
            r1.signal(signal.SIGTERM) if way == "SIGTERM" else Tandem.request(r1, way)
            assert here.wait(RTM_DELADDR, 20), f"{way}: {leaver.name} has left\n{lab.logs()}"
            assert there.wait(RTM_NEWADDR, 0), f"{way}: {taker.name} was not there before\n{lab.logs()}"
        wait_until(lambda: lab.active is taker, 20, f"{way}: one has the role", explain=lab.logs)  # noqa: B023
    assert "hands its role over" in r2.log()


def test_a_router_that_stood_still_knows_its_links_before_it_speaks(lab: SeedLab) -> None:
    """The provider dies meanwhile. What it was, and what the other one said then, moves no role."""
    r1, r2 = lab.routers
    Tandem.request(r1, "failover")
    wait_until(lambda: lab.active is r2, 20, "r2 has the role", explain=lab.logs)
    for _ in range(3):
        r2.freeze()
        wait_until(
            lambda: r1.all_in("MASTER") and r1.has(LAN_GATEWAY), 15, "r1 replaces it", explain=lab.logs
        )
        for router in (r1, r2):
            lab.cut(router, "eth0.2")
        wait_until(lambda: "degraded" in status(r1)["health"], 15, "r1 stays", explain=lab.logs)
        before = [(one["state"], one["why"]) for one in status(r1)["history"]]
        r2.thaw()
        wait_until(lambda: "no other router is better" in r2.log(), 15, "r2 knows", explain=lab.logs)
        stays(lambda: r1.all_in("MASTER") and r1.has(LAN_GATEWAY), 0.5)
        assert [(one["state"], one["why"]) for one in status(r1)["history"]] == before, lab.logs()
        for router in (r1, r2):
            lab.plug(router, "eth0.2")
        wait_until(
            lambda: "degraded" not in status(r1)["health"], 15, "the provider is back", explain=lab.logs
        )
        Tandem.request(r1, "failover")
        wait_until(lambda: lab.active is r2, 20, "r2 has the role again", explain=lab.logs)


def test_a_provider_that_both_have_lost_moves_no_role(lab: SeedLab) -> None:
    """The LAN keeps its gateway. The role moves to the router that has the provider back first."""
    r1, r2 = lab.routers
    lab.cut(r2, "eth0.2")
    wait_until(lambda: r2.all_in("FAULT"), 15, "r2 is in fault: r1 is better", explain=lab.logs)
    lab.cut(r1, "eth0.2")
    wait_until(lambda: "degraded" in status(r1)["health"], 15, "r1 stays", explain=lab.logs)
    wait_until(lambda: r2.all_in("BACKUP"), 15, "r2 would replace it", explain=lab.logs)
    stays(lambda: r1.all_in("MASTER") and r1.has(LAN_GATEWAY) and not r2.has(LAN_GATEWAY), 0.5)
    lab.client.exec("ping", "-c1", "-W5", LAN_GATEWAY)
    lab.plug(r2, "eth0.2")
    wait_until(lambda: r2.active and r1.all_in("FAULT"), 15, "r2 is better", explain=lab.logs)
    assert "left its role" in str(status(r2)["history"])
    lab.plug(r1, "eth0.2")
    wait_until(lambda: lab.active is r1, 30, "r1 is preferred", explain=lab.logs)
    assert "no other router is better" in r1.log()
