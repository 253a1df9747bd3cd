# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers share the load: each is active for a group of its own and holds the other one's connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tandem.core.virtual_router import HICCUP
from tests.lab import (
    FAR,
    Host,
    Instance,
    LabError,
    Port,
    Router,
    SeedLab,
    Tandem,
    netns,
    seed_instances,
    stays,
    wait_until,
)
from tests.lab.scenario import tandem_uci

from .live import Connections, SyncedTandem, at_rest, connections, no_resets, peer, sync, udp_flows
from .test_replication_faults import no_channel
from .test_replication_handover import are_known, known

Open = Callable[[SeedLab], SeedLab]
ADVERT = 0.1
GUEST_GATEWAY, GUEST_WAN, GUEST_PROVIDER = "192.168.3.4", "192.168.4.4", "192.168.4.1"
GROUPS = {"G1": ("I1", "E1"), "G2": ("I2", "E2")}
ISLANDS = {"br-lan": "lan2", "eth0.2": "wan2", "br-guest": "guest2", "eth0.3": "guestwan2"}
HOME = {"br-lan": "lan", "eth0.2": "wan", "br-guest": "guest", "eth0.3": "guestwan"}


def daemon(number: int) -> SyncedTandem:
    """r1 is preferred in G1, r2 in G2."""
    mine, others = (200, 100) if number == 1 else (100, 200)
    first = seed_instances(ADVERT, priority=mine, preempt=True)
    common = {"priority": others, "advert_s": ADVERT, "version": 3}
    routes = (f"src {GUEST_WAN} to 0.0.0.0/0 via {GUEST_PROVIDER} dev eth0.3 table 100",)
    rules = {"virtual_rules": ("from 192.168.3.0/24 table 100 priority 100",), "snat": "1"}
    second = [
        Instance("I2", "br-guest", 52, (f"{GUEST_GATEWAY}/24",), **common),  # type: ignore[arg-type]
        Instance(
            "E2",
            "eth0.3",
            52,
            (f"{GUEST_WAN}/24",),
            routes=routes,
            options=rules,
            **common,  # type: ignore[arg-type]
        ),
    ]
    made = SyncedTandem(first, number, "")
    text = made.text
    assert text is not None
    sync_section = text[text.index("config conntrack_sync") :]
    made.instances = (*first, *second)
    made.groups = dict(GROUPS)
    made.text = tandem_uci(made.instances, GROUPS) + "\n" + sync_section
    return made


class SharedLab(SeedLab):
    """The seed's lab with a second LAN and a second WAN for guests."""

    def __init__(self) -> None:
        super().__init__(daemon, tag="share")
        for switch in ("guest", "guestwan", *ISLANDS.values()):
            self.switch(switch)
        self.server.ports += (Port("eth1", "guestwan", f"{GUEST_PROVIDER}/24"),)
        for last, router in enumerate(self.routers, 2):
            router.ports += (
                Port("br-guest", "guest", f"192.168.3.{last}/24"),
                Port("eth0.3", "guestwan", f"192.168.4.{last}/24"),
            )
        guest = Port("eth0", "guest", "192.168.3.10/24")
        self.guest = self.add(Host("guest", [guest], gateway=GUEST_GATEWAY))


def holds(router: Router) -> set[str]:
    """The groups of which the router is active and has all addresses."""
    states, addresses = router.states(), router.addresses()
    found = set()
    for group, names in GROUPS.items():
        virtual = [vr.addresses[0].split("/")[0] for vr in router.daemon.instances if vr.name in names]
        if all(states.get(name) == "MASTER" for name in names) and addresses.keys() >= set(virtual):
            found.add(group)
    return found


def share(lab: SeedLab) -> bool:
    """Whether each router has its own group, and both say that the other one holds everything."""
    try:
        if holds(lab.r1) != {"G1"} or holds(lab.r2) != {"G2"}:
            return False
        for one, other in ((lab.r1, lab.r2), (lab.r2, lab.r1)):
            if not peer(one).get("in_step") or not peer(one).get("held_in_step"):
                return False
            if sync(other)["held"][name_of(other)] != sync(one)["own"]:
                return False
    except (OSError, LabError):
        return False
    return True


def name_of(router: Router) -> str:
    """The router's name for its peer."""
    return str(peer(router)["name"])


def explain(lab: SeedLab) -> str:
    return "\n".join(f"{router.name}: {sync(router)}" for router in lab.routers if router.running)


def shared(lab: SeedLab) -> None:
    wait_until(lambda: share(lab), 30, "each router has its group, and knows the other's connections",
               explain=lambda: explain(lab))  # fmt: skip


def has_both(lab: SeedLab, router: Router) -> None:
    wait_until(lambda: holds(router) == {"G1", "G2"}, 15, f"{router.name} has both groups")


def timeouts(router: Router, source: int) -> list[int]:
    """s, of the flows with this source port in the router's kernel."""
    found = router.exec("conntrack", "-L", "-p", "udp", "--orig-port-src", str(source))
    return [int(line.split()[2]) for line in found.splitlines()]


def open_all(lab: SeedLab, flows: Connections, count: int) -> None:
    for host in (lab.client, lab["guest"]):
        for server_speaks in (True, False):
            flows.add(host, lab.server, FAR, count, server_speaks=server_speaks)


@pytest.fixture
def lab(open_lab: Open) -> Iterator[SeedLab]:
    lab = open_lab(SharedLab())
    lab.start()
    shared(lab)
    yield lab


def test_each_takes_over_from_the_other_and_gives_back(lab: SeedLab) -> None:
    r1, r2 = lab.routers
    with connections() as flows, no_resets(lab):
        open_all(lab, flows, 25)
        udp_flows(lab.client, 300, 5001)
        udp_flows(lab["guest"], 300, 5002)
        flows.all_go_on()
        shared(lab)
        for dead, other in ((r1, r2), (r2, r1)):
            dead.power_off()
            has_both(lab, other)
            flows.all_go_on(why=f"power loss of {dead.name}")
            for source in (5001, 5002):
                are_known(other, source, 300)
            dead.power_on()
            shared(lab)
            flows.all_go_on(why=f"{dead.name} is back")
            for source in (5001, 5002):
                are_known(dead, source, 300)


def test_timeouts_that_ran_down_beside_the_other_router_are_set_anew(lab: SeedLab) -> None:
    """The kernel's copies of the other router's connections are not written once more."""
    r1, r2 = lab.routers
    r2.power_off()
    has_both(lab, r1)
    netns.write_sysctls(r1.namespace, {"netfilter/nf_conntrack_udp_timeout": 60})
    udp_flows(lab["guest"], 100, 5002)
    r2.power_on()
    shared(lab)
    assert max(timeouts(r1, 5002)) <= 60
    r2.power_off()
    has_both(lab, r1)
    wait_until(lambda: min(timeouts(r1, 5002)) > 200, 10, "set anew", explain=lambda: str(timeouts(r1, 5002)))


def test_who_gives_up_its_only_group_keeps_what_it_knew(lab: SeedLab) -> None:
    """Until the other one, which has a table of its own, has told all of that; here it dies before."""
    r1, r2 = lab.routers
    udp_flows(lab.client, 300, 5001)
    shared(lab)
    with no_channel(r1):
        Tandem.request(r1, "failover", group="G1")
        has_both(lab, r2)
        r2.power_off()
        has_both(lab, r1)
        assert known(r1, 5001) == 300


def test_a_partition_heals(lab: SeedLab) -> None:
    """Both were active for both groups; each gives one up, and knows what the other one has opened."""
    r1, r2 = lab.routers
    with connections() as flows, no_resets(lab):
        open_all(lab, flows, 10)
        flows.all_go_on()
        shared(lab)
        for device, switch in ISLANDS.items():
            lab.partition(r2, device, switch)
        for router in lab.routers:
            has_both(lab, router)
        stays(lambda: all(holds(router) == {"G1", "G2"} for router in lab.routers), 2 * HICCUP / 1e9)
        flows.all_go_on(why="the partition")
        open_all(lab, flows, 10)
        flows.all_go_on()
        for device, switch in HOME.items():
            lab.partition(r2, device, switch)
        shared(lab)
        flows.all_go_on(why="it has healed")
        at_rest(r1, r2)
        r2.power_off()
        has_both(lab, r1)
        flows.all_go_on(why="power loss of r2")
