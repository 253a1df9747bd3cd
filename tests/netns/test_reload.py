# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload is a diff: what did not change keeps its role and its addresses, without a gap."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import LabError, LanLab, Router, stays, wait_until

from .daemon import V1, VIP, configure, instance, pair, peer, state, status, tandem

OTHER = replace(V1, name="V2", virtual_router_id=52, addresses=("192.168.1.5/24",))
Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open) -> LanLab:
    return pair(open_lab, V1)


def transitions(router: Router) -> int:
    count: int = instance(router)["transitions"]
    return count


def test_a_changed_priority_keeps_role_and_address(lab: LanLab) -> None:
    r1, r2 = lab.routers
    before = transitions(r1)
    configure(r1, tandem(replace(V1, priority=160)))
    assert instance(r1)["priority"]["effective"] == 160
    stays(lambda: r1.has(VIP), 0.5, "the address stays")
    assert transitions(r1) == before and state(r2) == "BACKUP"
    wait_until(lambda: peer(r2).get("priority") == 160, 10, "the peer hears it")


def test_added_and_removed_addresses(lab: LanLab) -> None:
    r1 = lab.routers[0]
    before = transitions(r1)
    configure(r1, tandem(replace(V1, options={"virtual_ipaddress_excluded": ("192.168.1.6/24",)})))
    wait_until(lambda: r1.has("192.168.1.6") and r1.has(VIP), 10, "added")
    configure(r1, tandem(V1))
    wait_until(lambda: not r1.has("192.168.1.6"), 10, "removed")
    assert r1.has(VIP) and transitions(r1) == before


def test_what_was_accepted_before_is_looked_at_anew(lab: LanLab) -> None:
    """The active router's adverts stay the same to the byte, but r2 now expects one address more."""
    r2 = lab.routers[1]
    wait_until(lambda: instance(r2)["counters"].get("adverts_received", 0) > 1, 10, "r2 knows them")
    configure(r2, tandem(replace(V1, priority=100, addresses=(*V1.addresses, "192.168.1.6/24"))))
    wait_until(lambda: instance(r2)["counters"].get("address_mismatch"), 10, "dropped")


def test_an_added_instance_leaves_the_other_alone(lab: LanLab) -> None:
    r1 = lab.routers[0]
    before = transitions(r1)
    configure(r1, tandem(V1, OTHER))
    wait_until(lambda: r1.has("192.168.1.5"), 10, "elected")
    assert r1.has(VIP) and transitions(r1) == before
    configure(r1, tandem(V1))
    wait_until(lambda: not r1.has("192.168.1.5"), 10, "given up")
    assert r1.has(VIP) and transitions(r1) == before


def test_another_virtual_router_id_is_another_router(lab: LanLab) -> None:
    r1, r2 = lab.routers
    configure(r1, tandem(replace(V1, virtual_router_id=99, addresses=("192.168.1.7/24",))))
    wait_until(
        lambda: r2.has(VIP) and r1.has("192.168.1.7") and not r1.has(VIP), 10, "the peer has the old one"
    )


def test_a_bad_configuration_leaves_everything_as_it_is(lab: LanLab) -> None:
    r1 = lab.routers[0]
    before = transitions(r1)
    with pytest.raises(LabError, match="priority"):
        configure(r1, tandem(replace(V1, priority=300)))
    stays(lambda: r1.has(VIP), 0.3, "goes on")
    assert transitions(r1) == before
    assert "option 'priority'" in r1.log()


def test_sighup_reloads(lab: LanLab) -> None:
    r1 = lab.routers[0]
    r1.configure(tandem(replace(V1, priority=170)))
    r1.signal(signal.SIGHUP)
    wait_until(lambda: instance(r1)["priority"]["base"] == 170, 10, "reloaded")


def test_a_new_sync_group_ties_what_ran_alone(lab: LanLab) -> None:
    r1 = lab.routers[0]
    configure(r1, tandem(V1, OTHER))
    wait_until(lambda: r1.has("192.168.1.5"), 10, "elected")
    before = transitions(r1)
    configure(r1, tandem(V1, OTHER, groups={"G": ("V1", "V2")}))
    assert [group["name"] for group in status(r1)["groups"]] == ["G"]
    assert r1.has("192.168.1.5") and r1.has(VIP) and transitions(r1) == before
    third = replace(OTHER, name="V3", virtual_router_id=53, addresses=("192.168.1.8/24",))
    configure(r1, tandem(V1, OTHER, third, groups={"G": ("V3", "V1", "V2")}))
    assert r1.has("192.168.1.8") and r1.has(VIP), "a member that is added joins in the role"
    configure(r1, tandem(V1, replace(OTHER, virtual_router_id=54), third, groups={"G": ("V3", "V1", "V2")}))
    assert r1.has("192.168.1.5") and r1.has("192.168.1.8")
    configure(r1, tandem(V1, third, groups={"G": ("V1",)}))
    assert not r1.has("192.168.1.5") and r1.has("192.168.1.8"), "one that leaves the group goes on"
    assert transitions(r1) == before


def test_what_is_not_the_identity_keeps_the_role(lab: LanLab) -> None:
    """Peers and source address, a password, the device that carries the addresses."""
    r1 = lab.routers[0]
    before = transitions(r1)
    unicast = replace(V1, unicast_src="192.168.1.2", unicast_peers=("192.168.1.3",))
    for changed in (
        unicast,
        replace(unicast, unicast_peers=("192.168.1.3", "192.168.1.77")),
        replace(V1, vmac="vrrp.51", routes=("192.168.9.0/24 via 192.168.1.99 dev vrrp.51",)),
        replace(V1, vmac="other.51"),
        V1,
    ):
        configure(r1, tandem(changed))
        assert r1.has(VIP) and transitions(r1) == before, changed
    devices = r1.exec("ls", "/sys/class/net").split()
    assert "vrrp.51" not in devices and "other.51" not in devices
    assert instance(r1)["faults"] == []


def test_a_better_router_whose_effects_fail_leaves_the_role_until_that_has_changed(open_lab: Open) -> None:
    refused = replace(V1, routes=("192.168.9.0/24 via 10.9.9.9 dev eth0",))
    lab: LanLab = open_lab(LanLab([tandem(refused), tandem(replace(V1, priority=100))]))
    r1, r2 = lab.routers
    r2.start()
    wait_until(lambda: r2.active, 15, "the lesser one is active", explain=r2.log)
    r1.start()
    wait_until(lambda: state(r1) == "FAULT", 15, "it has failed", explain=r1.log)
    wait_until(lambda: state(r1) == "BACKUP", 20, "it is back", explain=r1.log)
    stays(lambda: r2.active and state(r1) == "BACKUP", 1, "it holds back")
    assert "10.9.9.9" in status(r1)["groups"][0]["probation"]
    configure(r1, tandem(V1))
    wait_until(lambda: r1.active and r2.passive, 10, "it takes over when the route has gone", explain=r1.log)
    assert status(r1)["groups"][0]["probation"] == ""
