# SPDX-License-Identifier: GPL-2.0-or-later
"""Roles and announcements while links and addresses come, go and change under a router."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Instance, LanLab, Router, netns, stays, wait_until

from .daemon import V1, VIP, instance, pair, state, tandem

Open = Callable[[Any], Any]

VIP6 = "fd00:1::4"
V6 = Instance("V6", "eth0", 61, ("fe80::51/64", f"{VIP6}/64"), priority=150, advert_s=0.1, version=3)
VMAC = replace(V1, name="VM", virtual_router_id=52, addresses=("192.168.1.5/24",), vmac="vrrp.52")
R1, R2 = "192.168.1.2", "192.168.1.3"


def known_mac(lab: LanLab, address: str) -> str | None:
    """The MAC address under which the client knows an address."""
    found = json.loads(lab.client.exec("ip", "-j", "neigh", "show", address) or "[]")
    return found[0].get("lladdr") if found else None


def mac(router: Router, device: str = "eth0") -> str:
    return json.loads(router.exec("ip", "-j", "link", "show", device))[0]["address"]


def test_hosts_reach_the_gateway_after_every_heal(open_lab: Open, tmp_path: Path) -> None:
    """Both were active beyond a split; whoever hears whom first, the one that stays says where it is."""
    heard, script = tmp_path / "heard", tmp_path / "notify.sh"
    script.write_text(f'#!/bin/sh\necho "$2 $3" >>{heard}\n')
    script.chmod(0o755)
    instances = [replace(one, options={"notify": str(script)}) for one in (V1, V6, VMAC)]
    lab = LanLab([tandem(*instances), tandem(*(replace(one, priority=100, options={}) for one in instances))])
    lab.switch("aside")
    open_lab(lab)
    lab.elect()
    r1, r2 = lab.routers
    vips = (VIP, VIP6, "192.168.1.5")
    for heal in range(1, 4):
        for host in (r2, lab.client):
            lab.partition(host, "eth0", "aside")
        wait_until(lambda: r2.all_in("MASTER"), 10, "r2 is active beyond the split")
        for address in vips:
            lab.client.exec("ping", "-c1", "-W2", address)
        assert known_mac(lab, VIP) == mac(r2)
        for host in (r2, lab.client):
            lab.partition(host, "eth0", "lan")
        wait_until(lambda: lab.active is r1, 10, "r1 stays")
        for address in (VIP, VIP6):
            wait_until(
                lambda address=address: known_mac(lab, address) == mac(r1), 5, f"heal {heal}: {address}"
            )
        assert known_mac(lab, "192.168.1.5") == "00:00:5e:00:01:34"
        for one in instances:
            line = f"{one.name} MASTER_RX_LOWER_PRI"
            wait_until(lambda line=line, heal=heal: heard.read_text().count(line) >= heal, 5, line)
    assert r1.log().count("MASTER (") == len(instances)


def test_a_link_that_returns_does_not_preempt(open_lab: Open) -> None:
    """The peer has forgotten our MAC address meanwhile, and can't send us its unicast adverts at once."""
    one = replace(V1, options={"preempt_delay": "600"})
    routers = [
        replace(one, priority=150, unicast_src=R1, unicast_peers=(R2,)),
        replace(one, priority=100, unicast_src=R2, unicast_peers=(R1,)),
    ]
    lab = open_lab(LanLab([tandem(one) for one in routers]))
    r1, r2 = lab.routers
    forgetful = {"base_reachable_time_ms": 500, "delay_first_probe_time": 1}
    netns.write_sysctls(r2.namespace, {f"ipv4/neigh/eth0/{key}": value for key, value in forgetful.items()})
    r1.start()
    wait_until(lambda: r1.active, 10, "r1 is active")
    r2.start()
    wait_until(lambda: state(r2) == "BACKUP", 10, "r2 is its backup")
    lab.cut(r1)
    wait_until(lambda: r2.active and state(r1) == "FAULT", 10, "r2 takes over")
    for entry in ("FAILED", "INCOMPLETE"):  # it has just asked in vain, and asks again in a second
        wait_until(lambda entry=entry: entry in r2.exec("ip", "neigh", "show", R1), 20, "r2 has forgotten r1")
    lab.plug(r1)
    wait_until(lambda: state(r1) == "BACKUP", 10, "r1 is back")
    stays(lambda: state(r1) == "BACKUP" and r2.active, 2, "r2 stays")


def test_a_router_whose_port_was_deaf_leaves_the_role_to_the_other_one(open_lab: Open) -> None:
    """As after a boot behind a switch port that forwards late (STP): it was active, and nobody heard it."""
    one = replace(V1, options={"nopreempt": "1"})
    lab = LanLab([tandem(one), tandem(replace(one, priority=100))])
    lab.switch("nowhere")
    open_lab(lab)
    r1, r2 = lab.routers
    r2.start()
    wait_until(lambda: r2.active, 10, "r2 is active")
    lab.partition(r1, "eth0", "nowhere")
    r1.start()
    wait_until(lambda: r1.active, 10, "r1 hears nobody")
    lab.partition(r1, "eth0", "lan")
    wait_until(lambda: lab.active is r2, 5, "r2 stays")
    stays(lambda: lab.active is r2, 1, "and nobody else")
    assert "another router was active before" in r1.log()


@pytest.mark.parametrize(
    ("settings", "options", "address"),
    [
        (V1, {"unicast_src_ip": "192.168.1.33", "unicast_peer": (R2,)}, "192.168.1.33/24"),
        (V6, {"mcast_src_ip": "fe80::33"}, "fe80::33/64"),
    ],
    ids=["unicast", "multicast over IPv6"],
)
def test_without_its_source_address_a_router_is_in_fault(
    open_lab: Open, settings: Instance, options: dict[str, Any], address: str
) -> None:
    one = replace(settings, options=options)
    lab = open_lab(LanLab([tandem(one), tandem(replace(settings, priority=100))]))
    r1 = lab.routers[0]
    r1.ip(f"address add {address} dev eth0 nodad")
    r1.start()
    wait_until(lambda: state(r1, one.name) == "MASTER", 10, "elected")
    r1.ip(f"address delete {address} dev eth0")
    wait_until(lambda: state(r1, one.name) == "FAULT", 10, "no address to send from")
    assert instance(r1, one.name)["faults"] == [f"{address.partition('/')[0]} is not on eth0"]
    assert not any(r1.has(found.partition("/")[0]) for found in one.addresses)
    r1.ip(f"address add {address} dev eth0 nodad")
    wait_until(lambda: state(r1, one.name) == "MASTER", 10, "back")


def test_a_changed_mac_address_is_announced(open_lab: Open) -> None:
    lab = pair(open_lab, *(replace(one, options={"garp_master_delay": "0"}) for one in (V1, V6)))
    r1 = lab.routers[0]

    def announced() -> list[int]:
        return [instance(r1, name)["counters"]["announcements_sent"] for name in ("V1", "V6")]

    before = announced()
    r1.ip("link set eth0 address 02:00:00:00:00:aa")
    wait_until(lambda: all(now > was for now, was in zip(announced(), before, strict=True)), 5, "announced")
    for address in (VIP, VIP6):
        lab.client.exec("ping", "-c1", "-W2", address)
        assert known_mac(lab, address) == "02:00:00:00:00:aa"
    assert state(r1) == "MASTER"


def test_a_virtual_mac_on_a_macvlan(open_lab: Open) -> None:
    """Two that are active hear each other, though the kernel knows the peer's MAC address as our own."""
    lab = LanLab([tandem(replace(VMAC, device="mv0")), tandem(replace(VMAC, device="mv0", priority=100))])
    lab.switch("aside")
    open_lab(lab)
    for number, router in enumerate(lab.routers, 2):
        router.ip(
            "link add mv0 link eth0 type macvlan mode bridge",
            f"address add 192.168.1.2{number}/24 dev mv0",
            "link set mv0 up",
        )
    lab.elect()
    r1, r2 = lab.routers
    lab.partition(r2, "eth0", "aside")
    wait_until(lambda: r2.active, 10, "active beyond the split")
    lab.partition(r2, "eth0", "lan")
    wait_until(lambda: lab.active is r1, 10, "r2 has heard r1")


@pytest.mark.parametrize(
    ("settings", "address"),
    [(V1, f"{R1}/24"), (VMAC, f"{R1}/24"), (V6, "fe80::51/64")],
    ids=["IPv4", "virtual MAC", "IPv6"],
)
def test_the_owner_of_the_address_returns(open_lab: Open, settings: Instance, address: str) -> None:
    """A router advertises from the address of its stand-in, whose kernel would discard that as forged."""
    owner = replace(settings, addresses=(address,), priority=255)
    lab = open_lab(LanLab([tandem(owner), tandem(replace(owner, priority=100))]))
    r1, r2 = lab.routers
    if settings is V6:
        r1.ip(f"address add {address} dev eth0 nodad")
    lab.start()
    wait_until(lambda: r1.all_in("MASTER") and r2.all_in("BACKUP"), 10, "the owner is active")
    r1.kill()
    wait_until(lambda: r2.all_in("MASTER"), 10, "r2 stands in")
    r1.start()
    wait_until(lambda: r1.all_in("MASTER") and r2.all_in("BACKUP"), 15, "the owner is back", explain=lab.logs)
    stays(lambda: r2.all_in("BACKUP") and not r2.has(address.partition("/")[0]), 1, "r2 hears it")
