# SPDX-License-Identifier: GPL-2.0-or-later
"""Three routers: each backup holds what the active has, whoever that is, and nothing of an earlier one."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab import FAR, Router, SeedLab, seed_instances, wait_until

from .live import SyncedTandem, connections, no_resets, sync, takes_over, udp_flows
from .test_replication_handover import are_known, end, known

Open = Callable[[SeedLab], SeedLab]
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


def test_the_role_goes_round_and_nothing_breaks(open_lab: Open) -> None:
    lab = open_lab(SeedLab(daemon, count=3))
    r1, r2, r3 = lab.routers
    r1.start()
    takes_over(lab, r1)
    for router in (r2, r3):
        router.start()
        router.wait_started()
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 30, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 30, server_speaks=False)
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
        assert [known(r3, source) for source in (5000, 5001, 5002)] == [0, 0, 300]
