# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual addresses, routes and rules are what the kernel holds, whatever happens to them or to us."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tandem.core.packet import Advertisement
from tests.lab import Capture, LanLab, Router, wait_until
from tests.lab.frames import advertise

from .daemon import V1, VIP, instance, ip_json, pair, peer, state, tandem

ROUTE = "src 192.168.1.4 to 203.0.113.0/24 via 192.168.1.10 dev eth0 metric 5"
FULL = replace(
    V1, routes=(ROUTE,), options={"virtual_rules": ("from 192.168.9.0/24 table 100 priority 1000",)}
)
V6 = replace(V1, name="V6", virtual_router_id=52, addresses=("fd00:1::4/64",))

Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open) -> LanLab:
    return pair(open_lab, FULL)


def has_route(router: Router) -> bool:
    return any(item["dst"] == "203.0.113.0/24" for item in ip_json(router, "route"))


def has_rule(router: Router) -> bool:
    return any(item["priority"] == 1000 for item in ip_json(router, "rule"))


def test_installed_while_active_and_only_then(lab: LanLab) -> None:
    r1, r2 = lab.routers
    assert has_route(r1) and has_rule(r1)
    assert not has_route(r2) and not has_rule(r2) and not r2.has(VIP)
    [address] = [
        a for a in ip_json(r1, "address", "show", "dev", "eth0")[0]["addr_info"] if a.get("local") == VIP
    ]
    assert 0 < address["valid_life_time"] <= 3 and address["prefixlen"] == 24


def test_a_deleted_address_comes_back_with_its_routes(lab: LanLab) -> None:
    r1, r2 = lab.routers
    r1.ip(f"address delete {VIP}/24 dev eth0")
    wait_until(lambda: r1.has(VIP) and has_route(r1), 10, "restored")
    assert instance(r1)["counters"]["restored"] >= 1
    assert state(r2) == "BACKUP"


def test_a_deleted_route_and_rule_come_back(lab: LanLab) -> None:
    r1 = lab.routers[0]
    r1.ip("route delete 203.0.113.0/24", "rule delete priority 1000")
    wait_until(lambda: has_route(r1) and has_rule(r1), 10, "restored")


def test_a_role_that_comes_back_at_once_is_no_loss(open_lab: Open) -> None:
    """The daemon's own deletions are read late: by then it may have the addresses again."""
    many = tuple(f"192.168.1.{number}/24" for number in range(100, 240))
    lab = open_lab(LanLab([tandem(replace(V1, priority=250, addresses=many)), tandem(V1)]))
    r1, other = lab.routers
    r1.start()
    wait_until(lambda: r1.active, 10, "r1 is active")
    packed = tuple(socket.inet_aton(address.partition("/")[0]) for address in many)
    better, farewell = (Advertisement(3, V1.virtual_router_id, priority, 10, packed) for priority in (254, 0))
    for times in range(1, 16):
        advertise(other, "192.168.1.3", better, farewell)
        wait_until(
            lambda times=times: instance(r1)["transitions"] > 2 * times and r1.active, 10, "it is back"
        )
    sent = instance(r1)["counters"]["adverts_sent"]
    wait_until(lambda: instance(r1)["counters"]["adverts_sent"] > sent + 3, 10, "some time has passed")
    assert not instance(r1)["counters"].get("restored")


def test_the_kernel_takes_the_addresses_from_a_stopped_daemon(lab: LanLab) -> None:
    r1, r2 = lab.routers
    r1.freeze()
    wait_until(lambda: r2.has(VIP), 10, "the peer takes over")
    wait_until(lambda: not r1.has(VIP), 10, "the dead man's switch fires")
    assert not has_route(r1)
    r1.thaw()
    wait_until(lambda: lab.active is r1, 10, "the better router takes it back when it wakes up")


def test_who_wakes_up_does_not_fight(open_lab: Open) -> None:
    """r2 has the better address at equal priorities: with nopreempt its sleep must not end in a failback."""
    lab = open_lab(LanLab([tandem(replace(V1, priority=100, preempt=False)) for _ in range(2)]))
    r1, r2 = lab.routers
    r2.start()
    wait_until(lambda: r2.has(VIP), 10, "r2 is active")
    r1.start()
    wait_until(lambda: state(r1) == "BACKUP" and peer(r1), 10, "r1 hears it")
    r2.freeze()
    wait_until(lambda: r1.has(VIP), 10, "r1 takes over")
    wait_until(lambda: not r2.has(VIP), 10, "the dead man's switch fires")
    with Capture(lab, "lan", filter="ip proto 112") as seen:
        r2.thaw()
        wait_until(lambda: state(r2) == "BACKUP", 10, "r2 has noticed")
        wait_until(lambda: peer(r2).get("address") == "192.168.1.2", 10, "and follows r1")
    assert seen.count("ip.src == 192.168.1.2") and not seen.count("ip.src == 192.168.1.3")
    assert r1.has(VIP) and not r2.has(VIP)
    assert "BACKUP" not in r1.log().partition("MASTER")[2]


def test_a_start_after_kill_9_clears_what_was_left(open_lab: Open) -> None:
    blackhole = "blackhole 198.51.100.0/24"  # without a source address: it outlives the address
    lab = pair(open_lab, replace(V1, routes=(blackhole,), options={"snat": "1"}), address_lifetime="0")
    r1, r2 = lab.routers
    r1.kill()
    wait_until(lambda: r2.has(VIP), 10, "the peer takes over")
    assert r1.has(VIP) and "tandem" in r1.exec("nft", "list", "tables")  # nobody has cleared them
    r1.start()
    wait_until(lambda: "tandemd" in r1.log() and state(r1) == "BACKUP", 10, "started")
    assert not r1.has(VIP) and not ip_json(r1, "route", "show", "198.51.100.0/24")
    wait_until(lambda: lab.active is r1, 10, "preempts")


def test_ipv6_address_is_usable_at_once(open_lab: Open) -> None:
    lab = pair(open_lab, V6)
    r1 = lab.routers[0]
    [address] = [
        a for a in ip_json(r1, "address", "show", "dev", "eth0")[0]["addr_info"] if a["local"] == "fd00:1::4"
    ]
    assert "tentative" not in address and address["nodad"]
    wait_until(
        lambda: "1 received" in lab.client.exec("ping", "-c1", "-W1", "fd00:1::4", check=False), 10, "answers"
    )


def test_the_users_own_route_to_the_same_place_survives(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, routes=("to 203.0.113.0/24 via 192.168.1.10 dev eth0",)))
    r1, r2 = lab.routers
    for router in lab.routers:
        router.ip("route append 203.0.113.0/24 via 192.168.1.11 dev eth0")
    r1.stop()
    wait_until(lambda: r2.has(VIP) and len(ip_json(r2, "route", "show", "203.0.113.0/24")) == 2, 10, "both")
    assert [item["gateway"] for item in ip_json(r1, "route", "show", "203.0.113.0/24")] == ["192.168.1.11"]
    assert ip_json(r2, "route", "get", "203.0.113.1")[0]["gateway"] == "192.168.1.10"


def test_what_the_kernel_refuses_gives_up_the_role(open_lab: Open) -> None:
    lab = pair(open_lab, V1)
    r1, r2 = lab.routers
    r2.stop()
    r1.stop()
    r1.configure(type(r1.daemon)([replace(V1, routes=("to 203.0.113.0/24 via 10.9.9.9 dev eth0",))]))
    r1.start()
    r2.start()
    wait_until(lambda: r2.has(VIP), 10, "the peer serves")
    wait_until(lambda: state(r1) == "FAULT", 10, "r1 knows that it can't")
    assert "route 203.0.113.0/24 via 10.9.9.9" in instance(r1)["faults"][0]
    assert not r1.has(VIP)


def test_sigterm_while_backup_touches_nothing(lab: LanLab) -> None:
    r1, r2 = lab.routers
    r2.signal(signal.SIGTERM)
    wait_until(lambda: not r2.running, 10, "ended")
    assert lab.active is r1
