# SPDX-License-Identifier: GPL-2.0-or-later
"""`config peer` by itself: the doctor and the roles use the channel, and connections join it at a reload.

test_dhcp.py holds that leases need no conntrack_sync either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.lab import SeedLab, Tandem, seed_instances, wait_until
from tests.lab.scenario import tandem_uci

from .doctor import checks, doctor, visit

SECRET = "between these two routers"
SYNC = "\nconfig conntrack_sync\n"


def daemon(number: int) -> Tandem:
    instances = tuple(seed_instances(0.5))
    groups = {"G1": tuple(item.name for item in instances)}
    peer = f"""
config peer 'other'
\tlist address '192.168.1.{4 - number}'
\toption secret '{SECRET}'
\toption heartbeat '0.2'
"""
    return Tandem(instances, groups, text=tandem_uci(instances, groups, {}) + peer)


def test_a_peer_without_conntrack_sync(open_lab: Callable[[Any], Any]) -> None:
    lab: SeedLab = open_lab(SeedLab(daemon, "peer"))
    lab.start()
    active = wait_until(lambda: lab.active, 15, "one is active")
    backup = lab.other(active)
    wait_until(lambda: "connected with other" in backup.log(), 15, "a session")
    active.ip("link set dev br-lan mtu 1400")
    assert ("mtu", "") in checks(doctor(active))  # compared with what the other one has told
    active.ip("link set dev br-lan mtu 1500")
    # Connections are replicated once both say so.
    for router in lab.routers:
        router.file("conf").write_text(router.file("conf").read_text() + SYNC)
        Tandem.request(router, "reload")

    def in_step() -> bool:
        peer = Tandem.request(active, "conntrack")["channel"]["peers"][0]
        return bool(peer.get("in_step"))

    wait_until(in_step, 20, "in step")
    for router in lab.routers:
        router.file("conf").write_text(router.file("conf").read_text().replace(SYNC, ""))
        Tandem.request(router, "reload")
    wait_until(lambda: visit(active) == ([], []), 20, "a session without connections")
