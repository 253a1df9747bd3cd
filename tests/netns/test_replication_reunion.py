# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers that were both active, each on its side of a partition: no connection of either is lost.

A router that stood still together with its clock (a virtual machine that was paused) comes back the same way:
it believes itself active and does not know what was opened meanwhile. tests/qemu has that one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tandem.core.virtual_router import HICCUP
from tests.lab import FAR, Host, Port, Router, SeedLab, netns, stays, wait_until
from tests.lab.topology import LAN_GATEWAY, PROVIDER

from .daemon import status
from .live import (
    SPLIT,
    FastDownload,
    connections,
    failover,
    no_resets,
    peer,
    settle,
    started,
    sync,
    synced,
    told,
    udp_flows,
)

Open = Callable[[SeedLab], SeedLab]
ISLANDS = {"br-lan": "lan2", "eth0.2": "wan2"}
HOME = {"br-lan": "lan", "eth0.2": "wan"}
FLOWS = 500
SECOND_BURST_S = 6  # after its takeover a router has announced itself for the last time
NO_CHANNEL = """
table inet cut {
    chain in {
        type filter hook input priority -10
        tcp dport 3780 drop
        tcp sport 3780 drop
    }
}
"""
NO_ADVERTS = """
table inet deaf {
    chain in {
        type filter hook input priority -10
        meta l4proto 112 drop
    }
}
"""


@pytest.fixture
def heartbeat() -> str:
    """s; three of them without an answer end the session."""
    return "0.2"


@pytest.fixture
def lab(open_lab: Open, heartbeat: str) -> Iterator[SeedLab]:
    """r2 is active, the better one by its addresses; there are switches for it alone."""
    lab = SeedLab(partial(synced, advert_s=0.1, options_of_globals=SPLIT, heartbeat=heartbeat))
    for switch in ISLANDS.values():
        lab.switch(switch)
    lab.add(Host("other", [Port("eth0", "lan2", "192.168.1.11/24")], gateway=LAN_GATEWAY))
    lab = open_lab(lab)
    active, _ = started(lab)
    if active is lab.r1:
        failover(lab, active)
        wait_until(lambda: lab.active is lab.r2, 10, "handed over")
    assert told(lab)[0] is lab.r2
    yield lab


def move(lab: SeedLab, switches: dict[str, str]) -> None:
    """Put r2's cables into these switches."""
    for device, switch in switches.items():
        lab.partition(lab.r2, device, switch)


def known(router: Router, source: int) -> int:
    """How many flows with this source port the router's kernel has."""
    return len(router.exec("conntrack", "-L", "-p", "udp", "--orig-port-src", str(source)).splitlines())


def are_known(router: Router, source: int) -> None:
    wait_until(
        lambda: known(router, source) == FLOWS, 15, f"{router.name} knows {FLOWS} flows from {source}",
        explain=lambda: f"{known(router, source)}: {sync(router)}",
    )  # fmt: skip


def parted(lab: SeedLab) -> None:
    told(lab)
    move(lab, ISLANDS)
    wait_until(lambda: lab.r1.active, 10, "r1 is active as well", explain=lab.logs)
    stays(lambda: lab.r1.active, 2 * HICCUP / 1e9, "r2 is not only late")


def united(lab: SeedLab) -> None:
    move(lab, HOME)
    active, _ = settle(lab)
    assert active is lab.r2


@pytest.mark.parametrize("heartbeat", ["0.2", "5"], ids=["a new session", "the same session"])
def test_what_was_opened_through_the_other_router_goes_on(lab: SeedLab) -> None:
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
        flows.all_go_on()
        told(lab)
        parted(lab)
        flows.all_go_on()
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
        flows.all_go_on()
        united(lab)
        flows.all_go_on()


def test_what_the_other_router_carried_on_goes_on(lab: SeedLab) -> None:
    """A fast download: the better router saw nothing of it for more than a TCP window."""
    with no_resets(lab):
        download = FastDownload(lab)
        told(lab)
        parted(lab)
        download.goes_on()
        united(lab)
        download.goes_on()


@pytest.mark.parametrize("restarts", [None, "r1", "r2"])
def test_what_was_opened_on_both_sides_is_known_to_both(lab: SeedLab, restarts: str | None) -> None:
    """A router that has restarted has had no session with its peer. The better one may leave the role."""
    parted(lab)
    for router in lab.routers if restarts else ():
        if router.name == restarts:
            router.signal(signal.SIGTERM)
            router.processes[-1].wait(10)
            router.start()
            wait_until(lambda: router.active, 15, "it is active again", explain=lab.logs)  # noqa: B023
            stays(lambda: router.active, 2 * HICCUP / 1e9, "the other one is not only late")  # noqa: B023
    provider = lab.server.exec("cat", "/sys/class/net/eth0/address").strip()
    lab.r2.ip(f"neigh replace {PROVIDER} lladdr {provider} dev eth0.2 nud permanent")
    udp_flows(lab.client, FLOWS, 5001)
    udp_flows(lab["other"], FLOWS, 5002)
    are_known(lab.r1, 5001)
    are_known(lab.r2, 5002)
    move(lab, HOME)
    assert settle(lab)[0] is lab.r2 or restarts == "r2", lab.logs()
    for router in lab.routers:
        for source in (5001, 5002):
            are_known(router, source)


def test_without_a_channel_the_better_router_stays_active(lab: SeedLab) -> None:
    """The lesser one waits for it, and gives way in the end."""
    for router in lab.routers:
        router.exec("nft", "-f", "-", stdin=NO_CHANNEL)
    parted(lab)
    move(lab, HOME)
    wait_until(lambda: lab.active is lab.r2, 15, "r2 alone is active", explain=lab.logs)


def test_what_both_know_is_left_alone(lab: SeedLab) -> None:
    """The lesser router heard no adverts for a while; what it tells then is what the better one has."""
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        udp_flows(lab.client, FLOWS, 5001)
        told(lab)
        lab.r1.exec("nft", "-f", "-", stdin=NO_ADVERTS)
        wait_until(lambda: lab.r1.active and peer(lab.r1).get("in_step"), 10, "both tell each other")
        udp_flows(lab.client, FLOWS, 5002)
        lab.r1.exec("nft", "delete", "table", "inet", "deaf")
        assert settle(lab)[0] is lab.r2
        are_known(lab.r2, 5001)
        are_known(lab.r2, 5002)
        flows.all_go_on()
    assert [step["replaced"] for step in sync(lab.r2)["restore_steps"] if step["replaced"]] == []


def test_hosts_come_back_to_a_router_that_did_not_hear_the_other(lab: SeedLab) -> None:
    """The lesser router hears the better one first, and then says nothing more that could be heard."""
    mac = lab.r2.exec("cat", "/sys/class/net/br-lan/address").strip()
    # A host keeps a stale neighbour entry for longer than the test.
    netns.write_sysctls(lab.client.namespace, {"ipv4/neigh/eth0/delay_first_probe_time": 600})

    def believes(address: str) -> bool:
        return address in lab.client.exec("ip", "neigh", "show", LAN_GATEWAY)

    lab.client.exec("ping", "-c1", LAN_GATEWAY)
    assert believes(mac)
    wait_until(lambda: min(one["since_s"] for one in status(lab.r2)["instances"]) > SECOND_BURST_S, 20)
    for router in lab.routers:
        router.exec("nft", "-f", "-", stdin=NO_ADVERTS)
    wait_until(lambda: lab.r1.active and peer(lab.r1).get("in_step"), 10, "both tell each other")
    wait_until(lambda: not believes(mac), 10, "the client has heard of r1")
    lab.r1.exec("nft", "delete", "table", "inet", "deaf")
    wait_until(lambda: lab.active is lab.r2, 10, "r1 gives way", explain=lab.logs)
    wait_until(lambda: believes(mac), 10, "the client has heard of r2")
