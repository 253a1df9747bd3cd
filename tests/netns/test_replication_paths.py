# SPDX-License-Identifier: GPL-2.0-or-later
"""A cable between the routers for replication, the LAN where that fails: `config peer` with two addresses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.lab import FAR, Port, SeedLab, Tandem, wait_until

from .live import (
    SyncedTandem,
    connections,
    equal,
    no_resets,
    peer,
    power_loss,
    settle,
    sync,
    synced,
    takes_over,
    told,
    transitions,
    udp_flows,
)

Open = Callable[[SeedLab], SeedLab]


def cabled(number: int, **options: str) -> SyncedTandem:
    """The daemon of router `number`, with the cable as the better way to its peer."""
    daemon = synced(number, **options)
    ours, theirs = number + 1, 4 - number
    section = f"""
config peer 'other'
\tlist address '10.0.0.{theirs} dev eth3 src 10.0.0.{ours}'
\tlist address '192.168.1.{theirs}'
"""
    assert daemon.text is not None
    daemon.text = daemon.text.replace(f"list peer '192.168.1.{theirs}'", "list peer 'other'") + section
    return daemon


def with_cable(**options: str) -> SeedLab:
    lab = SeedLab(partial(cabled, **options))
    cable = lab.switch("sync")
    for number, router in enumerate(lab.routers, 1):
        router.ports += (Port("eth3", cable, f"10.0.0.{number + 1}/24"),)
    return lab


def test_the_lan_takes_over_from_a_dead_cable(open_lab: Open) -> None:
    """One bulk more, no role changes, and nothing is lost when the router dies after that."""
    lab = open_lab(with_cable())
    for router in lab.routers:
        router.start()
        router.wait_started()
    active, backup = settle(lab)
    wait_until(lambda: peer(active).get("preferred"), 40, "in step by the cable")  # the LAN may answer first
    assert "10.0.0." in peer(active)["path"]
    wait_until(lambda: equal(lab), 20, "in step")
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        udp_flows(lab.client, 2000)
        told(lab)
        before = [transitions(router) for router in lab.routers]
        bulks, resyncs = peer(active)["totals"]["bulks"], peer(active)["resyncs"]
        lab.cut(backup, "eth3")
        udp_flows(lab.client, 500, source=6000)  # while there is no channel
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        wait_until(
            lambda: not peer(active).get("preferred", True) and equal(lab), 20, "in step by the LAN",
            explain=lambda: str(peer(active)),
        )  # fmt: skip
        assert "192.168.1." in peer(active)["path"]
        assert peer(active)["totals"]["bulks"] <= bulks + 1
        assert peer(active)["resyncs"] <= resyncs + 1
        flows.all_go_on()
        assert [transitions(router) for router in lab.routers] == before and lab.active is active
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        lab.plug(backup, "eth3")
        active.power_on()
        wait_until(lambda: peer(backup).get("preferred") and equal(lab), 40, "in step by the cable again")
        assert lab.active is backup
        Tandem.request(backup, "failover")
        takes_over(lab, active)
        flows.all_go_on()
        assert not sync(active)["last_restore"].get("failed")
