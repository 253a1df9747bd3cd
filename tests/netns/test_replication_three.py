# SPDX-License-Identifier: GPL-2.0-or-later
"""Three routers: each backup holds what the active has, whoever that is, and nothing of an earlier one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tandem.core.virtual_router import HICCUP
from tests.lab import FAR, Router, SeedLab, seed_instances, stays, wait_until

from .live import SyncedTandem, at_rest, connections, no_resets, read_all, sync, takes_over, udp_flows
from .test_replication_handover import are_known, end, known
from .test_replication_reunion import HOME, ISLANDS

Open = Callable[[SeedLab], SeedLab]
MARKS = """
table ip marks {
    chain forward {
        type filter hook forward priority mangle
        udp sport 5000 ct mark set 7
    }
}
"""
ADDRESSES = {1: "192.168.1.2", 2: "192.168.1.3", 3: "192.168.1.5"}


def daemon(number: int) -> SyncedTandem:
    """r1 is preferred to r2, and r2 to r3; nobody preempts."""
    made = SyncedTandem(seed_instances(0.1, priority=200 - 50 * number), 1, "")
    assert made.text is not None
    peers = [f"\tlist peer '{address}'" for other, address in ADDRESSES.items() if other != number]
    made.text = made.text.replace(f"\tlist peer '{ADDRESSES[2]}'", "\n".join(peers))
    return made


def follow(active: Router, *backups: Router) -> bool:
    """Whether the backups hold as much as the active has, and say that they are in step."""
    own, address = sync(active)["own"], active.ports[0].addresses[0].partition("/")[0]
    found = [sync(backup) for backup in backups]
    return all(address in one["in_step"] and one["held"][address] == own for one in found)


def followed(active: Router, *backups: Router) -> None:
    read_all(active)
    wait_until(
        lambda: follow(active, *backups), 30, f"the backups follow {active.name}",
        explain=lambda: str([sync(router) for router in (active, *backups)]),
    )  # fmt: skip


def started(lab: SeedLab) -> tuple[Router, Router, Router]:
    """r1 is active, r2 and r3 follow it."""
    r1, r2, r3 = lab.routers
    r1.start()
    takes_over(lab, r1)
    for router in (r2, r3):
        router.start()
        router.wait_started()
    followed(r1, r2, r3)
    return r1, r2, r3


def are_marked(router: Router) -> None:
    """Wait until the kernel knows the 100 flows with the mark."""
    what = ("-p", "udp", "--orig-port-src", "5000", "--mark", "7")
    wait_until(
        lambda: len(router.exec("conntrack", "-L", *what).splitlines()) == 100, 10, f"{router.name} knows",
        explain=lambda: router.exec("conntrack", "-L")[:300],
    )  # fmt: skip


@pytest.mark.parametrize("third", ["there", "dead"])
def test_two_were_active_and_the_third_followed_the_lesser_one(open_lab: Open, third: str) -> None:
    """The lesser one waits until the better one knows its connections: that the third does is not enough."""
    lab = SeedLab(daemon, count=3)
    for switch in ISLANDS.values():
        lab.switch(switch)
    r1, r2, r3 = started(open_lab(lab))
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
        followed(r1, r2, r3)
        for device, switch in ISLANDS.items():
            lab.partition(r1, device, switch)
        wait_until(lambda: r2.active, 15, "r2 is active as well", explain=lab.logs)
        stays(lambda: r2.active, 2 * HICCUP / 1e9, "r1 is not only late")
        followed(r2, r3)
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=False)
        flows.all_go_on(why="the partition")
        followed(r2, r3)
        backups = [r2, r3]
        if third == "dead":
            backups.remove(r3)
            r3.power_off()
        for device, switch in HOME.items():
            lab.partition(r1, device, switch)
        takes_over(lab, r1)
        followed(r1, *backups)
        flows.all_go_on(why="it has healed")
        at_rest(r1, *backups)


def test_what_was_told_last_counts(open_lab: Open) -> None:
    """The third router holds the table of a dead router beside that of its successor."""
    lab = open_lab(SeedLab(daemon, count=3))
    r1, r2, r3 = started(lab)
    udp_flows(lab.client, 100, 5000)
    followed(r1, r2, r3)
    are_known(r3, 5000, 100)
    r1.power_off()
    takes_over(lab, r2)
    r2.exec("nft", "-f", "-", stdin=MARKS)
    udp_flows(lab.client, 100, 5000)
    are_marked(r2)
    followed(r2, r3)
    are_marked(r3)
    r2.power_off()
    takes_over(lab, r3)
    are_marked(r3)


def test_the_role_goes_round_and_nothing_breaks(open_lab: Open) -> None:
    lab = open_lab(SeedLab(daemon, count=3))
    r1, r2, r3 = lab.routers
    r1.start()
    takes_over(lab, r1)
    for router in (r2, r3):
        router.start()
        router.wait_started()
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=False)
        for source in (5000, 5001, 5002):
            udp_flows(lab.client, 300, source)

        def settled(*routers: Router) -> None:
            wait_until(
                lambda: follow(*routers), 30, "the backups follow",
                explain=lambda: str([sync(router) for router in routers]),
            )  # fmt: skip
            flows.all_go_on()

        settled(r1, r2, r3)
        are_known(r3, 5000, 300)
        r1.power_off()
        takes_over(lab, r2)
        settled(r2, r3)
        end(r2, 5000)
        r1.power_on()
        r1.wait_started()
        settled(r2, r1, r3)
        end(r2, 5001)
        are_known(r1, 5001, 0)
        are_known(r3, 5000, 0)  # since r1 has said that it is not active
        r2.power_off()
        takes_over(lab, r1)
        settled(r1, r3)
        r1.power_off()
        takes_over(lab, r3)
        flows.all_go_on()
        for router in (r1, r2):
            router.power_on()
            router.wait_started()
        settled(r3, r1, r2)
        r3.power_off()
        takes_over(lab, r1)
        settled(r1, r2)
        assert [known(r1, source) for source in (5000, 5001, 5002)] == [0, 0, 300]
