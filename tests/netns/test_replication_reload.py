# SPDX-License-Identifier: GPL-2.0-or-later
"""A changed `conntrack_sync` takes effect at a reload, as a diff: what it does not concern goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab import FAR, Router, SeedLab, Tandem, netns, wait_until

from .live import (
    SyncedTandem,
    connections,
    equal,
    failover,
    held,
    peer,
    power_loss,
    settle,
    started,
    sync,
    synced,
    takes_over,
    told,
    transitions,
    udp_flows,
)

Open = Callable[[SeedLab], SeedLab]


def reload(router: Router, daemon: SyncedTandem) -> None:
    """Go over to another configuration."""
    router.configure(daemon)
    Tandem.request(router, "reload")


def sessions(router: Router) -> int:
    return int(peer(router)["sessions"])


def test_filters_and_limits_change_while_the_session_goes_on(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        udp_flows(lab.client, 200)
        told(lab)
        before = [transitions(router) for router in lab.routers], sessions(active)
        assert held(backup) >= 210
        for number, router in enumerate(lab.routers, 1):
            reload(router, synced(number, ignore_protocol="udp", limit_entries="5000"))
        wait_until(
            lambda: held(backup) < 100 and equal(lab), 15, "UDP is gone", explain=lambda: str(sync(backup))
        )
        udp_flows(lab.client, 100, source=6000)
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        told(lab)
        assert held(backup) < 100
        assert sync(backup)["limit_entries"] == 5000
        for number, router in enumerate(lab.routers, 1):
            reload(router, synced(number))
        wait_until(lambda: held(backup) >= 320, 15, "all are wanted again")
        assert ([transitions(router) for router in lab.routers], sessions(active)) == before
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()


def test_another_secret_by_new_sessions(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        told(lab)
        before = [transitions(router) for router in lab.routers]
        rotated = "another secret, of the next month"
        reload(lab.r1, synced(1, secret=rotated))
        wait_until(lambda: not peer(active).get("in_step"), 10, "the routers do not agree")
        reload(lab.r2, synced(2, secret=rotated))
        wait_until(lambda: equal(lab), 20, "in step with the new one")
        assert [transitions(router) for router in lab.routers] == before
        failover(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        settle(lab)


def test_a_key_is_changed_without_a_gap(open_lab: Open, tmp_path: Path) -> None:
    """As the example file says: known to both, then used by one after the other."""
    file = tmp_path / "secret2"
    file.write_text("another secret, of the next month\n")
    file.chmod(0o600)
    second = f"2:{file}"
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    for options in ({"key": second}, {"key": second, "key_id": "2"}):
        for number, router in enumerate(lab.routers, 1):
            before = sessions(router)
            reload(router, synced(number, **options))
            assert "key_id" in options or sessions(router) == before
            told(lab)
    udp_flows(lab.client, 50)
    told(lab)
    assert held(backup) >= 50 and lab.active is active


def test_replication_begins_and_ends_at_a_reload(open_lab: Open) -> None:
    def without(number: int) -> SyncedTandem:
        daemon = synced(number)
        assert daemon.text is not None
        daemon.text = daemon.text.replace(
            "config conntrack_sync\n\toption enabled '1'", "config conntrack_sync\n\toption enabled '0'"
        )
        return daemon

    lab = open_lab(SeedLab(without))
    lab.elect()
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        for number, router in enumerate(lab.routers, 1):
            reload(router, synced(number))
        active, backup = told(lab)
        assert held(backup) >= 20  # opened before anybody listened
        failover(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        settle(lab)
        for number, router in enumerate(lab.routers, 1):
            reload(router, without(number))
        wait_until(lambda: lab.active is backup, 10, "the role stays")
        loose = netns.run(
            ["ip", "netns", "exec", backup.namespace, "cat", "/proc/sys/net/netfilter/nf_conntrack_tcp_loose"]
        )
        assert loose.strip() == "1"  # as before
        power_loss(lab, backup)
        takes_over(lab, active)


def test_the_guarantee_is_switched_on_and_off(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, _ = started(lab)
    reload(lab.r1, synced(1, guarantee="connection"))
    reload(lab.r2, synced(2, guarantee="connection"))
    wait_until(lambda: (sync(active)["gate"] or {}).get("state") in ("on", "unable"), 15, "the gate")
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 5, server_speaks=True)
        flows.all_go_on()
    for number, router in enumerate(lab.routers, 1):
        reload(router, synced(number))
    assert sync(active)["gate"] is None


def test_an_address_that_the_router_gets_later_is_its_own(open_lab: Open) -> None:
    """The router's own packets from that address belong to no other host's connection."""
    lab = open_lab(SeedLab(synced))
    active, _ = started(lab)
    active.ip("address add 192.168.0.99/24 dev eth0.2")

    def own_flow_is_left_out() -> bool:
        before = sync(active)["channel"]["position"]
        active.exec("ping", "-c1", "-W1", "-I", "192.168.0.99", "192.168.0.1", check=False)
        return bool(sync(active)["channel"]["position"] == before)

    wait_until(own_flow_is_left_out, 10, "its own flow is not replicated")
