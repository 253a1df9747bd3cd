# SPDX-License-Identifier: GPL-2.0-or-later
"""A router that gives the role up tells the last of it first; what has ended is gone from every kernel."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.lab import FAR, LabError, Router, SeedLab, Tandem, netns, wait_until

from .daemon import status
from .live import (
    BACK,
    TIMERS_ALONE,
    Event,
    connections,
    failover,
    held,
    peer,
    settle,
    started,
    sync,
    synced,
    takes_over,
    term,
    told,
    udp_flows,
    wan_loss,
)
from .test_replication_faults import no_channel, speculated

Open = Callable[[SeedLab], SeedLab]
FLOWS = 3000
MANY = 20_000  # of which the other router holds a part only when it is heard first
MASQUERADE = """
table ip own {
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "eth0.2" masquerade
    }
}
"""


def known(router: Router, source: int) -> int:
    """How many flows with this source port the router's kernel has."""
    return len(router.exec("conntrack", "-L", "-p", "udp", "--orig-port-src", str(source)).splitlines())


def end(router: Router, source: int) -> None:
    """End the flows with this source port, as a timeout does."""
    router.exec("conntrack", "-D", "-p", "udp", "--orig-port-src", str(source))


def are_known(router: Router, source: int, count: int) -> None:
    wait_until(
        lambda: known(router, source) == count, 45, f"{router.name} knows {count} flows",
        explain=lambda: f"{known(router, source)}: {sync(router)}",
    )  # fmt: skip


def ask_failover(router: Router) -> None:
    """Leave the command at the daemon's door; nobody waits for the answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(router.file("sock")))
        sock.sendall(b'{"command": "failover"}\n')


@pytest.mark.parametrize("event", [failover, term, wan_loss], ids=lambda event: event.__name__)
def test_flows_of_the_last_moment_arrive(open_lab: Open, event: Event) -> None:
    """The flows and the end of the role come before the daemon has read any of the events.

    The freeze must be over before the peer takes the router for dead, also on a slow machine.
    """
    lab = open_lab(SeedLab(partial(synced, advert_s=0.9, options_of_globals=TIMERS_ALONE, heartbeat="1")))
    active, backup = started(lab)
    for number in range(10 if event is failover else 3):
        source = 5000 + number
        active.freeze()
        udp_flows(lab.client, FLOWS, source)
        if event is failover:
            ask_failover(active)
        elif event is term:
            active.signal(signal.SIGTERM)
        else:
            event(lab, active)
        active.thaw()
        takes_over(lab, backup)
        if event is term:
            active.processes[-1].wait(5)
        assert known(backup, source) == FLOWS, (number, sync(backup))
        BACK[event](lab, active)
        active, backup = settle(lab)
    assert not sync(active)["channel"]["peers"][0]["totals"].get("drifts"), sync(active)


def test_a_preferred_router_waits_for_the_last_words(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, advert_s=0.5, preempt=True, heartbeat="0.5")))
    started(lab)
    takes_over(lab, lab.r1)
    for source in (5000, 5001, 5002):
        told(lab)
        Tandem.request(lab.r1, "standby")
        takes_over(lab, lab.r2)
        told(lab)
        lab.r2.freeze()  # it yields only when it hears again, with much to tell
        udp_flows(lab.client, FLOWS, source)
        lab.r2.thaw()
        Tandem.request(lab.r1, "resume")
        takes_over(lab, lab.r1)
        assert known(lab.r1, source) == FLOWS, sync(lab.r1)


def test_nobody_is_handed_over_to_unless_asked_for_by_force(open_lab: Open) -> None:
    """The gateway stays where it is while the other router is out of service, or gone."""
    lab = open_lab(SeedLab(partial(synced, advert_s=0.2)))
    active, backup = started(lab)
    Tandem.request(backup, "standby")
    wait_until(lambda: backup.all_in("FAULT"), 10, "standby")
    for command in ("failover", "standby"):
        with pytest.raises(LabError, match="nobody would take over"):
            Tandem.request(active, command)
    Tandem.request(backup, "resume")
    wait_until(lambda: backup.all_in("BACKUP"), 10, "ready again")
    failover(lab, active)
    takes_over(lab, backup)
    active.kill()
    wait_until(lambda: sync(backup)["channel"]["peers"][0]["state"] != "up", 20, "the session has ended")
    with pytest.raises(LabError, match="no peer is connected"):
        Tandem.request(backup, "failover")
    assert backup.all_in("MASTER")
    Tandem.request(backup, "failover", force="yes")
    assert backup.all_in("BACKUP")


def test_ended_flows_do_not_come_back(open_lab: Open) -> None:
    """Neither on the router that was active before, nor where they were put in advance.

    No router may be taken for dead by the way: what has just lost the role does not say what has ended.
    """
    lab = open_lab(SeedLab(partial(synced, advert_s=0.5, options_of_globals=TIMERS_ALONE, heartbeat="0.5")))
    active, backup = started(lab)
    for source in (5000, 5001, 5002):
        udp_flows(lab.client, 500, source)
    told(lab)
    are_known(backup, 5000, 500)  # in advance: nothing has happened to the active
    end(active, 5000)
    are_known(backup, 5000, 0)
    failover(lab, active)
    takes_over(lab, backup)
    settle(lab)
    end(backup, 5001)
    are_known(active, 5001, 0)
    are_known(active, 5002, 500)
    failover(lab, backup)
    takes_over(lab, active)
    settle(lab)
    assert [known(active, source) for source in (5000, 5001, 5002)] == [0, 0, 500]
    wait_until(lambda: held(backup) == sync(active)["own"], 10, "both have the same table")


def test_what_a_backup_forwards_itself_outlives_the_copies_of_its_peer(open_lab: Open) -> None:
    """The host's gateway is the backup's own address, and the backup was active in between."""
    lab = open_lab(SeedLab(partial(synced, rules=MASQUERADE)))
    active, backup = started(lab)
    own = "192.168.1.2" if backup is lab.r1 else "192.168.1.3"
    backup.ip("route add default via 192.168.0.1 metric 10")
    lab.client.ip(f"route add {FAR}/32 via {own}")
    with connections() as made:
        for server_speaks in (True, False):
            made.add(lab.client, lab.server, FAR, 3, server_speaks)
        for one, other in ((active, backup), (backup, active)):
            failover(lab, one)
            takes_over(lab, other)
            told(lab)
        copies = ("conntrack", "-L", "-p", "tcp", "--orig-dst", FAR)
        assert len(active.exec(*copies).splitlines()) >= 6
        active.exec("conntrack", "-D", *copies[2:])  # as their timeouts do in the end
        wait_until(
            lambda: sync(backup)["kernel"]["kept"] >= 6, 20, "asked", explain=lambda: str(sync(backup))
        )
        made.all_go_on()


def test_no_table_crosses_the_network_when_the_roles_turn_round(open_lab: Open) -> None:
    """The new active goes on from what both hold; the digests say that this is so."""
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    udp_flows(lab.client, FLOWS)
    told(lab)
    before = [peer(router)["totals"].get("bulks", 0) for router in lab.routers]
    for number in range(4):
        failover(lab, active)
        takes_over(lab, backup)
        active, backup = settle(lab)
        udp_flows(lab.client, 100, 6000 + number)
        told(lab)
        assert held(backup) == sync(active)["own"] >= FLOWS
    assert [peer(router)["totals"].get("bulks", 0) for router in lab.routers] == before
    assert not any(peer(router)["totals"].get("drifts") for router in lab.routers)


def test_flows_that_ended_during_a_speculation_go(open_lab: Open) -> None:
    # The session outlives the freeze: what a bulk does not bring leaves the kernel within half a minute only.
    lab = open_lab(SeedLab(partial(synced, advert_s=0.9, options_of_globals=TIMERS_ALONE, heartbeat="1")))
    active, backup = started(lab)
    udp_flows(lab.client, 500, 5000)
    told(lab)
    active.freeze()
    wait_until(lambda: speculated(backup), 10, "two intervals of silence")
    active.thaw()
    end(active, 5000)
    are_known(backup, 5000, 0)


def test_what_a_bulk_does_not_bring_leaves_the_kernel(open_lab: Open) -> None:
    """Also where the router that comes back has them from its own time as the active."""
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    for source in (5000, 5001):
        udp_flows(lab.client, 500, source)
    told(lab)
    with no_channel(backup):
        wait_until(lambda: not sync(active)["channel"]["peers"][0].get("in_step"), 10, "no session")
        failover(lab, active)
        takes_over(lab, backup)
        end(backup, 5000)
    settle(lab)
    are_known(active, 5000, 0)
    are_known(active, 5001, 500)


def test_timeouts_do_not_run_down_while_a_flow_lives_elsewhere(open_lab: Open) -> None:
    """A flow's data is seen by the active alone: in the backup's kernel nothing refreshes it."""
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    netns.write_sysctls(active.namespace, {"netfilter/nf_conntrack_udp_timeout": 20})
    udp_flows(lab.client, 100, 5000)
    told(lab)
    are_known(backup, 5000, 100)
    left = [
        int(line.split()[2])
        for line in backup.exec("conntrack", "-L", "-p", "udp", "--orig-port-src", "5000").splitlines()
    ]
    assert min(left) > 200


def carry(speaker: socket.socket, listener: socket.socket, size: int) -> None:
    """Send so many bytes from one end to the other; OSError when they do not come through."""
    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(speaker.sendall, bytes(size))
        while size:
            part = len(listener.recv(1 << 16))
            if not part:
                raise ConnectionError("closed")
            size -= part
        sent.result()


@pytest.mark.parametrize("server_speaks", [True, False])
def test_a_connection_comes_back_after_more_than_a_window(open_lab: Open, server_speaks: bool) -> None:
    """The entry of a router that was active before has seen nothing of what went through the other one."""
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    listener = lab.server.enter(lambda: socket.create_server(("", 81)))
    client = lab.client.enter(lambda: socket.create_connection((FAR, 81), 5))
    server, _ = listener.accept()
    server.settimeout(5)
    with listener, client, server:
        ends = (server, client) if server_speaks else (client, server)
        for one, other in ((active, backup), (backup, active)):
            carry(*ends, 1000)
            told(lab)
            failover(lab, one)
            takes_over(lab, other)
            settle(lab)
            carry(*ends, 2 << 20)


def test_a_router_in_fault_stays_until_the_better_one_holds_its_connections(open_lab: Open) -> None:
    """The other router was off meanwhile, and comes back without the fault, and without the connections."""
    lab = open_lab(SeedLab(partial(synced, advert_s=0.2)))
    active, backup = started(lab)
    udp_flows(lab.client, MANY)
    are_known(active, 5000, MANY)
    backup.power_off()
    wait_until(lambda: "is dead" in active.log(), 15, "nobody is better", explain=lab.logs)
    lab.cut(active, "eth0.2")
    wait_until(lambda: "degraded" in status(active)["health"], 15, "it stays", explain=lab.logs)
    assert active.all_in("MASTER")
    backup.power_on()
    wait_until(lambda: backup.active and active.all_in("FAULT"), 20, "the role moves", explain=lab.logs)
    [became] = [one for one in status(backup)["history"] if one["state"] == "MASTER" and one["name"] == "I1"]
    assert became["connections"] >= MANY, lab.logs()
    _, _, after = active.log().rpartition("it takes part")
    assert "holds all our connections" in after.partition("FAULT")[0], lab.logs()
