# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of an instance as a running pair shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import Instance, LanLab, Router, Tandem, stays, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, ip_json, pair, peer, state, tandem

Open = Callable[[Any], Any]


def answers(lab: LanLab, address: str) -> bool:
    return "1 received" in lab.client.exec("ping", "-c1", "-W1", address, check=False)


def lifetime(router: Router, address: str) -> int:
    found = ip_json(router, "address", "show", "dev", "eth0")[0]["addr_info"]
    return next(int(item["valid_life_time"]) for item in found if item.get("local") == address)


def test_the_owner_keeps_its_own_address(open_lab: Open) -> None:
    """Priority 255: active at once, and the address that the network configuration gave stays as it is."""
    owned = replace(V1, priority=255, addresses=("192.168.1.2/24",))
    lab = open_lab(LanLab([tandem(owned), tandem(replace(owned, priority=100))]))
    r1, r2 = lab.routers
    r1.start()
    wait_until(lambda: state(r1) == "MASTER", 10, "the owner is active")
    assert "owner of the addresses" in r1.log() and "is not Tandem's" in r1.log()
    r2.start()
    wait_until(lambda: state(r2) == "BACKUP", 10, "the other one is backup")
    assert lifetime(r1, "192.168.1.2") == 0xFFFFFFFF
    assert r1.stop() == 0
    wait_until(lambda: r2.has("192.168.1.2"), 10, "taken over")
    assert lifetime(r1, "192.168.1.2") == 0xFFFFFFFF


def test_dont_track_primary_stays_active_without_a_link(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, options={"dont_track_primary": "1"}))
    r1 = lab.routers[0]
    lab.cut(r1, "eth0")
    stays(lambda: state(r1) == "MASTER", 0.5, "goes on")
    assert r1.has(VIP)


def test_no_accept_drops_what_is_sent_to_the_virtual_address(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, options={"accept": "0"}))
    assert answers(lab, "192.168.1.2") and not answers(lab, VIP)


def test_sends_from_mcast_src_ip(open_lab: Open) -> None:
    elsewhere = replace(V1, options={"mcast_src_ip": "192.168.1.77", "track_src_ip": "0"})
    lab = open_lab(LanLab([tandem(elsewhere), tandem(replace(V1, priority=100))]))
    lab.elect()
    wait_until(lambda: peer(lab.routers[1]).get("address") == "192.168.1.77", 10, "the backup hears it")


def test_promote_secondaries_is_set_and_put_back(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, options={"promote_secondaries": "1"}))
    r1 = lab.routers[0]
    assert r1.sysctl("ipv4/conf/eth0/promote_secondaries") == "1"
    r1.stop()
    assert r1.sysctl("ipv4/conf/eth0/promote_secondaries") == "0"


def test_sysctls_of_a_killed_daemon_are_put_back_by_the_next(open_lab: Open) -> None:
    lab = pair(open_lab, replace(V1, options={"promote_secondaries": "1"}))
    r1 = lab.routers[0]
    r1.kill()
    r1.configure(tandem(V1))
    r1.start()
    wait_until(lambda: state(r1) == "BACKUP", 10, "started again")
    assert r1.sysctl("ipv4/conf/eth0/promote_secondaries") == "0"


def test_preempt_delay(open_lab: Open) -> None:
    patient = replace(V1, options={"preempt_delay": "1.5"})
    lab = open_lab(LanLab([tandem(patient), tandem(replace(V1, priority=100))]))
    r1, r2 = lab.routers
    r2.start()
    wait_until(lambda: lab.active is r2, 10, "the lesser one was first")
    r1.start()
    wait_until(lambda: lab.active is r1, 10, "preempts")
    backup, master = Tandem.request(r1, "history")["transitions"][-2:]
    assert (backup["state"], master["state"]) == ("BACKUP", "MASTER")
    assert master["time"] - backup["time"] > 1.49


STATIC = """
config ipaddress
	option name 'own'
	option address '192.168.77.1/24'
	option device 'eth0'

config static_ipaddress
	list address 'own'

config static_routes
	list route '198.51.100.0/24 via 192.168.1.10 dev eth0'
"""


def test_static_addresses_and_routes_whatever_the_role(open_lab: Open) -> None:
    def with_static(vr: Instance) -> Tandem:
        return Tandem([vr], text=tandem_uci([vr]) + STATIC)

    lab = open_lab(LanLab([with_static(V1), with_static(replace(V1, priority=100))]))
    lab.elect()
    for router in lab.routers:
        assert router.has("192.168.77.1") and ip_json(router, "route", "show", "198.51.100.0/24")
    r2 = lab.routers[1]
    r2.stop()
    assert not r2.has("192.168.77.1") and not ip_json(r2, "route", "show", "198.51.100.0/24")
