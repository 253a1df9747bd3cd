# SPDX-License-Identifier: GPL-2.0-or-later
"""Interfaces that come, go, change their name or are made anew while the daemon runs; virtual MACs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import LanLab, Router, netns, wait_until

from .daemon import V1, VIP, instance, ip_json, pair, state, tandem

Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open) -> LanLab:
    return pair(open_lab, V1)


def make_anew(lab: LanLab, router: Router) -> None:
    """Delete the router's interface and connect another one of the same name."""
    cable = router.cable("eth0")
    router.ip("link delete eth0")
    netns.ip_batch(
        [
            f"link add {cable} type veth peer name eth0 netns {router.namespace}",
            f"link set {cable} master {lab.switches[0]} up",
        ],
        lab.switch_namespace,
    )
    router.ip("address add 192.168.1.2/24 dev eth0", "link set eth0 up")


def test_an_interface_made_anew_is_taken_up(lab: LanLab) -> None:
    r1, r2 = lab.routers
    old = ip_json(r1, "link", "show", "eth0")[0]["ifindex"]
    make_anew(lab, r1)
    assert ip_json(r1, "link", "show", "eth0")[0]["ifindex"] != old
    wait_until(lambda: lab.active is r1, 10, "r1 is elected on the new interface")
    assert state(r2) == "BACKUP"


def test_a_renamed_interface_is_another_one(lab: LanLab) -> None:
    r1, r2 = lab.routers
    r1.ip("link set eth0 name other0")
    wait_until(lambda: r2.has(VIP) and state(r1) == "FAULT", 10, "its name is gone")
    wait_until(lambda: not r1.has(VIP), 10, "and the address with it")
    r1.ip("link set other0 name eth0")
    wait_until(lambda: lab.active is r1, 10, "back")


def test_an_interface_that_appears_later(open_lab: Open) -> None:
    later = replace(V1, device="late0")
    lab = open_lab(LanLab([tandem(later)]))
    [r1] = lab.routers
    r1.start()
    wait_until(lambda: state(r1) == "INIT", 10, "waits for it")
    assert "interface late0 down" in instance(r1)["faults"]
    r1.ip("link set eth0 name late0")
    wait_until(lambda: r1.has(VIP), 10, "elected")
    assert "FAULT" not in r1.log()  # a router that boots sees its interfaces come one after the other


def test_losing_the_own_address_is_a_fault(lab: LanLab) -> None:
    r1, r2 = lab.routers
    r1.ip("address delete 192.168.1.2/24 dev eth0")
    wait_until(lambda: r2.has(VIP) and state(r1) == "FAULT", 10, "no address to send from")
    assert "no address on eth0" in instance(r1)["faults"]
    r1.ip("address add 192.168.1.2/24 dev eth0")
    wait_until(lambda: lab.active is r1, 10, "back")


@pytest.mark.parametrize("address", [f"{VIP}/24", "fd00:1::4/64"])
def test_virtual_mac(open_lab: Open, address: str) -> None:
    family = "2" if ":" in address else "1"
    vip = address.split("/")[0]
    lab = pair(open_lab, replace(V1, addresses=(address,), vmac="vrrp.51"))
    r1, r2 = lab.routers
    macs = [ip_json(router, "link", "show", "vrrp.51")[0]["address"] for router in lab.routers]
    assert macs == [f"00:00:5e:00:0{family}:33"] * 2
    wait_until(lambda: "1 received" in lab.client.exec("ping", "-c1", "-W1", vip, check=False), 10, "answers")
    assert f"00:00:5e:00:0{family}:33" in lab.client.exec("ip", "neigh", "show", vip)
    r1.power_off()
    wait_until(lambda: r2.has(vip), 10, "taken over with the same MAC")
    wait_until(lambda: "1 received" in lab.client.exec("ping", "-c1", "-W1", vip, check=False), 10, "answers")
    assert f"00:00:5e:00:0{family}:33" in lab.client.exec("ip", "neigh", "show", vip)
    before = r2.sysctl("ipv4/conf/eth0/arp_ignore")
    r2.stop()
    assert not any(link["ifname"] == "vrrp.51" for link in ip_json(r2, "link"))
    assert (before, r2.sysctl("ipv4/conf/eth0/arp_ignore")) == ("1", "0")


def test_virtual_mac_on_a_bridge(open_lab: Open) -> None:
    """OpenWrt's br-lan: the peer's adverts and its virtual MAC, which is ours too, come through a bridge."""
    bridged = replace(V1, device="br-lan", vmac="vrrp.51")
    lab = open_lab(LanLab([tandem(bridged), tandem(replace(bridged, priority=100))]))
    r1, r2 = lab.routers
    for number, router in enumerate(lab.routers, 2):
        address = f"192.168.1.{number}/24"
        router.ip("link add br-lan type bridge", "link set br-lan up", f"address delete {address} dev eth0")
        router.ip("link set eth0 master br-lan", f"address add {address} dev br-lan")
    lab.start()
    wait_until(lambda: lab.active is r1 and state(r2) == "BACKUP", 15, "r1 is active")
    for active in (r1, r2):
        wait_until(lambda: lab.active is active, 10, "is active")  # noqa: B023
        wait_until(
            lambda: "1 received" in lab.client.exec("ping", "-c1", "-W1", VIP, check=False), 10, "answers"
        )
        assert "00:00:5e:00:01:33" in lab.client.exec("ip", "neigh", "show", VIP)
        active.power_off()


def test_virtual_mac_survives_its_base(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, vmac="vrrp.51"))
    r1 = lab.routers[0]
    make_anew(lab, r1)
    wait_until(lambda: lab.active is r1, 10, "the macvlan is made anew as well")
