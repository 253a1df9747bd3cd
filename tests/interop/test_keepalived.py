# SPDX-License-Identifier: GPL-2.0-or-later
"""tandemd and keepalived 2.2.7 as each other's peer: election, failover and failback, in both roles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.lab import Daemon, LanLab, Tandem, wait_until

from .lan import LINK_LOCAL6, Keepalived, Variant, both_families, needs, pair, settled, story, undisturbed

pytestmark = needs("keepalived")

Open = Callable[[LanLab], LanLab]
ROLES = pytest.mark.parametrize(
    ("one", "other"), [(Tandem, Keepalived), (Keepalived, Tandem)], ids=["tandem_active", "keepalived_active"]
)
# Whole seconds make version 2 slow: its variants share one LAN, and so one socket of each daemon.
VERSION_2 = [
    Variant("multicast", version=2),
    Variant("password", version=2, auth_pass="s3cret", virtual_router_id=52, addresses=("192.168.1.253/24",)),
    Variant("unicast", version=2, unicast=True, virtual_router_id=53, addresses=("192.168.1.252/24",)),
    Variant("vmac", version=2, vmac=True, virtual_router_id=54, addresses=("192.168.1.251/24",)),
]
BOTH_FAMILIES = both_families()


# With two virtual MACs keepalived's IPv6 one answers ARP requests for the IPv4 address of the other.
VERSION_3 = {
    "multicast": BOTH_FAMILIES,
    "unicast": both_families({"options": {"unicast_min_ttl": "1"}}, unicast=True),  # keepalived sends 64
    "vmac": [Variant("vmac", vmac=True)],
    "ipv6_vmac": [Variant("ipv6_vmac", ipv6=True, vmac=True)],
}


@ROLES
@pytest.mark.parametrize("way", VERSION_3)
def test_version_3(open_lab: Open, way: str, one: type[Daemon], other: type[Daemon]) -> None:
    story(open_lab(pair(one, other, *VERSION_3[way])), again=way == "multicast")


@pytest.mark.slow
@ROLES
def test_version_2(open_lab: Open, one: type[Daemon], other: type[Daemon]) -> None:
    story(open_lab(pair(one, other, *VERSION_2)), again=False)


def test_killed_tandem_leaves_no_address(open_lab: Open) -> None:
    """SIGKILL on a router whose cables stay in: the kernel itself takes the addresses away."""
    lab = open_lab(pair(Tandem, Keepalived, *BOTH_FAMILIES))
    one, other = lab.routers
    lab.start()
    settled(lab, one, [other])
    one.kill()
    settled(lab, other, [])
    one.start()
    settled(lab, one, [other])
    undisturbed(one, other)


def test_frozen_tandem_comes_back(open_lab: Open) -> None:
    """SIGSTOP, long enough for the kernel to take the addresses away, then SIGCONT."""
    lab = open_lab(pair(Tandem, Keepalived, *BOTH_FAMILIES))
    one, other = lab.routers
    lab.start()
    settled(lab, one, [other])
    one.freeze()
    wait_until(lambda: other.active and one.passive, 12, "keepalived alone has the addresses")
    one.thaw()
    settled(lab, one, [other])


def test_frozen_keepalived_comes_back(open_lab: Open) -> None:
    """keepalived keeps its addresses while it hangs; when it wakes up, one router yields."""
    lab = open_lab(pair(Keepalived, Tandem, *BOTH_FAMILIES))
    one, other = lab.routers
    lab.start()
    settled(lab, one, [other])
    one.freeze()
    wait_until(lambda: other.active and other.all_in("MASTER"), 12, "tandem takes over")
    one.thaw()
    settled(lab, one, [other])


@ROLES
def test_nopreempt(open_lab: Open, one: type[Daemon], other: type[Daemon]) -> None:
    """With nopreempt on both, the better router that comes back leaves the other one in place."""
    lab = open_lab(pair(one, other, *BOTH_FAMILIES, preempt=False))
    better, lesser = lab.routers
    better.start()
    settled(lab, better, [])
    lesser.start()
    settled(lab, better, [lesser])
    better.power_off()
    settled(lab, lesser, [])
    better.power_on()
    settled(lab, lesser, [better])
    undisturbed(better, lesser)


@ROLES
def test_healed_partition(open_lab: Open, one: type[Daemon], other: type[Daemon]) -> None:
    """Equal priorities on both sides of a partition: when it heals, the higher address stays active."""
    daemons = [daemon([v.instance(n, 100) for v in BOTH_FAMILIES]) for n, daemon in ((1, one), (2, other))]
    lab = LanLab(daemons)
    island = lab.switch("island")
    open_lab(lab)
    first, second = lab.routers  # .2 and .3, and link-local addresses in the same order
    first.start()
    settled(lab, first, [])
    second.start()
    settled(lab, first, [second])
    lab.partition(second, "eth0", island)
    wait_until(lambda: first.active and second.active, 12, "two active routers")
    lab.partition(second, "eth0", lab.switches[0])
    settled(lab, second, [first])
    undisturbed(first, second)


def test_learned_interval(open_lab: Open) -> None:
    """A version 3 backup with slow adverts of its own misses a fast active router as fast as others do."""
    fast, slow = Variant("VI").instance(1, 110), replace(Variant("VI").instance(2, 90), advert_s=10)
    lab = open_lab(LanLab([Keepalived([fast]), Tandem([slow])]))
    one, other = lab.routers
    lab.start()
    wait_until(lambda: one.active and other.all_in("BACKUP"), 12, "keepalived is active")
    peer = wait_until(lambda: Tandem.request(other, "status")["instances"][0]["peer"], 12, "it is heard")
    assert (peer["address"], peer["priority"], peer["interval_ms"]) == ("192.168.1.2", 110, 100)
    one.power_off()
    wait_until(lambda: other.active, 12, "tandem takes over long before its own interval has passed")


def test_many_addresses(open_lab: Open) -> None:
    """keepalived compares the list of addresses: it must be the same on the wire, however long.

    keepalived sends no advert while it announces so many: at 0.1 s a busy machine lets both take turns.
    """
    addresses = tuple(f"192.168.1.{number}/24" for number in range(100, 130))
    six = (f"{LINK_LOCAL6}/64", *(f"fd00:1::{number:x}/64" for number in range(0x100, 0x11E)))
    variants = [
        Variant("ipv4", addresses=addresses, advert_s=0.5),
        Variant("ipv6", ipv6=True, addresses=six, advert_s=0.5),
    ]
    lab = open_lab(pair(Keepalived, Tandem, *variants))
    one, other = lab.routers
    lab.start()
    wait_until(lambda: lab.active is one and other.all_in("BACKUP"), 12, "keepalived is active")
    one.stop()
    wait_until(lambda: lab.active is other and other.all_in("MASTER"), 12, "tandem is active")
    one.start()
    wait_until(lambda: lab.active is one and other.all_in("BACKUP"), 12, "keepalived is active again")
    undisturbed(one, other)
