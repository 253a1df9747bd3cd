# SPDX-License-Identifier: GPL-2.0-or-later
"""Replication when something is wrong: a router that only seemed dead, a peer that lies or is silent."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from tests.lab import FAR, Capture, Router, SeedLab, Tandem, netns, stays, wait_until

from .daemon import status
from .live import (
    TIMERS_ALONE,
    connections,
    entries,
    equal,
    failover,
    held,
    in_step,
    lan_loss,
    no_resets,
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
from .rogue import connect

Open = Callable[[SeedLab], SeedLab]

BLOCK = """
table inet block {
    chain input {
        type filter hook input priority -10
        tcp dport 3780 reject with tcp reset
        tcp sport 3780 reject with tcp reset
    }
}
"""


def silence(router: Router) -> float:
    """For how long the router has heard nothing of its peer; seconds."""
    return min(float(item["peer"]["last_advert_s"]) for item in status(router)["instances"])


# Speculation


def speculated(router: Router) -> bool:
    """Whether its last restore was for a router that was only late."""
    return bool(sync(router)["last_restore"].get("speculative"))


def test_a_restore_for_a_router_that_was_not_dead_does_no_harm(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, advert_s=0.9, options_of_globals=TIMERS_ALONE)))
    active, backup = started(lab)
    with connections() as flows, no_resets(lab):
        udp_flows(lab.client, 2000)
        for _ in range(2):
            flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
            flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
            flows.all_go_on()
            told(lab)
            before = [transitions(router) for router in lab.routers]
            active.freeze()
            wait_until(lambda: silence(backup) > 1.8, 10, "two intervals of silence")
            active.thaw()
            wait_until(lambda: silence(backup) < 0.9, 10, "the active is back")
            flows.all_go_on()
            assert [transitions(router) for router in lab.routers] == before
            assert speculated(backup) and entries(backup) >= 2000
            wait_until(lambda: equal(lab), 10, "both have the same table")
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        told(lab)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()


# Preemption


@contextmanager
def no_channel(router: Router) -> Iterator[None]:
    """Connections to the router's port are refused while the block runs."""
    router.exec("nft", "-f", "-", stdin=BLOCK)
    try:
        yield
    finally:
        router.exec("nft", "delete", "table", "inet", "block")


def preferred(lab: SeedLab) -> tuple[Router, Router]:
    """Started, with r1 active: r2 may have been for a moment."""
    started(lab)
    takes_over(lab, lab.r1)
    return settle(lab)


def test_preemption_waits_until_in_step_and_loses_nothing(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, preempt=True, preempt_sync_timeout="60")))
    active, backup = preferred(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 100, server_speaks=False)
        told(lab)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
        with no_channel(backup):
            active.power_on()
            active.wait_started()
            stays(lambda: lab.active is backup, 1.5, "the lesser router stays active")
        takes_over(lab, active, 30)
        assert "preempts" in active.log()
        flows.all_go_on()


def test_who_preempts_has_everything_in_its_kernel_before(open_lab: Open) -> None:
    """Connections that came later would be missed: the other router gives the addresses up at once."""
    lab = open_lab(SeedLab(partial(synced, advert_s=0.05, preempt=True, preempt_sync_timeout="60")))
    active, backup = preferred(lab)
    udp_flows(lab.client, 20_000)
    told(lab)
    power_loss(lab, active)
    takes_over(lab, backup)
    active.power_on()
    takes_over(lab, active, 30)
    wait_until(lambda: sync(active)["last_restore"], 10, "it tells of its restore")
    steps = sync(active)["restore_steps"]
    assert sum(step["entries"] for step in steps) < 2000, steps
    assert entries(active) >= 20_000


def test_a_router_that_was_cut_off_waits_as_well(open_lab: Open) -> None:
    """The router was in step earlier, and is not in step now."""
    lab = open_lab(SeedLab(partial(synced, preempt=True, preempt_sync_timeout="60")))
    active, backup = preferred(lab)
    failover(lab, active)
    takes_over(lab, backup)
    told(lab)
    Tandem.request(active, "resume")
    takes_over(lab, active)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        told(lab)
        lan_loss(lab, active)
        takes_over(lab, backup)
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=False)
        flows.all_go_on()
        with no_channel(backup):
            wait_until(lambda: peer(active)["state"] == "down", 10, "no session that could go on")
            lab.plug(active, "br-lan")
            wait_until(lambda: active.all_in("BACKUP"), 10, "it is well again")
            stays(lambda: lab.active is backup, 1.5, "the lesser router stays active")
        takes_over(lab, active, 30)
        flows.all_go_on()


def test_preemption_does_not_wait_for_ever(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, preempt=True, preempt_sync_timeout="2")))
    active, backup = preferred(lab)
    power_loss(lab, active)
    takes_over(lab, backup)
    with no_channel(backup):
        active.power_on()
        takes_over(lab, active)
        assert not in_step(lab)


# Peers


def test_a_wrong_secret_is_counted_and_takes_no_addresses_away(open_lab: Open) -> None:
    secrets = {1: "a secret of one router", 2: "a secret of the other"}
    lab = open_lab(SeedLab(lambda number: synced(number, secret=secrets[number])))
    active, backup = lab.elect()
    udp_flows(lab.client, 10)
    for router in lab.routers:
        wait_until(
            lambda router=router: {"authentication", "refused"} & turned_away(router).keys(),
            10, "the failure is counted", explain=lambda: str([sync(one) for one in lab.routers]),
        )  # fmt: skip
    assert any("authentication" in turned_away(router) for router in lab.routers)
    assert not sync(backup)["in_step"] and held(backup) == 0
    wait_until(lambda: sum(turned_away(active).values()) >= 5, 20, "it is tried again and again")
    for router in lab.routers:  # each kind of trouble once, and no secret
        lines = [line for line in router.log().splitlines() if line.startswith("warning conntrack_sync")]
        assert len(lines) <= len(turned_away(router)) + 1 and len(set(lines)) == len(lines), lines
        assert "a secret of" not in router.log()
    power_loss(lab, active)
    takes_over(lab, backup)
    active.power_on()
    active.wait_started()
    failover(lab, backup)
    takes_over(lab, active)


class Impostor:
    """A program at the peer's address that talks to every connection as `talk` does, and connects itself."""

    def __init__(self, router: Router, address: str, talk: Callable[[socket.socket], None]) -> None:
        self._router, self._address, self._talk = router, address, talk
        self._stop = threading.Event()
        self.talks = 0
        self._listener = router.enter(lambda: socket.create_server(("", 3780)))
        self._listener.settimeout(0.1)
        self._threads = [threading.Thread(target=body) for body in (self._accept, self._connect)]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Impostor:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for sock in (*self._open, self._listener):
            sock.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                self._speak(self._listener.accept()[0])

    def _connect(self) -> None:
        while not self._stop.wait(0.01):
            with suppress(OSError):
                self._speak(self._router.enter(lambda: connect(self._address, 1)))

    def _speak(self, sock: socket.socket) -> None:
        self._open.append(sock)
        self.talks += 1
        with suppress(OSError):
            self._talk(sock)
        if len(self._open) > 50:
            self._open.pop(0).close()


def garbage(sock: socket.socket) -> None:
    sock.settimeout(1)
    sock.sendall(os.urandom(2000))


def silent(sock: socket.socket) -> None:
    """A peer that never reads nor writes."""


def turned_away(router: Router) -> dict[str, int]:
    """Connections to its channel that were refused, by reason."""
    found: dict[str, int] = sync(router)["channel"]["counters"]
    return found


@pytest.mark.parametrize("talk", [garbage, silent])
def test_an_impostor_at_the_peers_address(open_lab: Open, talk: Callable[[socket.socket], None]) -> None:
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    assert backup.stop() == 0
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        before = transitions(active)
        address = "192.168.1.2" if active is lab.r1 else "192.168.1.3"
        with Impostor(backup, address, talk) as impostor:
            wait_until(lambda: impostor.talks > 200, 20, "200 connections")
            flows.all_go_on()
            wait_until(lambda: sum(turned_away(active).values()) > 100, 10, "turned away")
            assert transitions(active) == before and active.all_in("MASTER")
            assert active.cost().rss_kib < 40_000
        backup.start()
        told(lab)
        failover(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()


def recorded(capture: Capture, source: str) -> list[bytes]:
    """The router's bytes on each connection of a capture, the longest first."""
    found: dict[str, bytearray] = {}
    fields = capture.fields(f"ip.src == {source} && tcp.len > 0", "tcp.stream", "tcp.payload")
    for stream, payload in fields:
        found.setdefault(stream, bytearray()).extend(bytes.fromhex(payload.replace(":", "")))
    return sorted(map(bytes, found.values()), key=len, reverse=True)


def test_a_recorded_session_is_no_use(open_lab: Open) -> None:
    """All bytes that the backup sent are sent once more, to whoever connects: they open no session."""
    lab = open_lab(SeedLab(synced))
    with Capture(lab, "lan", filter="tcp port 3780") as capture:
        active, backup = started(lab)
        udp_flows(lab.client, 200)
        told(lab)
    addresses = {lab.r1: "192.168.1.2", lab.r2: "192.168.1.3"}
    said = recorded(capture, addresses[backup])
    assert said and said[0].startswith(b"TNDM") and len(said[0]) > 200
    assert backup.stop() == 0
    wait_until(lambda: peer(active)["state"] == "down", 10, "the backup has gone")
    sessions, before = peer(active)["sessions"], turned_away(active)

    def again(sock: socket.socket) -> None:
        sock.settimeout(1)
        sock.sendall(said[0])
        sock.recv(100)

    with Impostor(backup, addresses[active], again) as impostor:
        wait_until(lambda: impostor.talks > 20, 20, "20 connections")
        wait_until(
            lambda: turned_away(active).get("authentication", 0) >= before.get("authentication", 0) + 10,
            20, "they are turned away", explain=lambda: str(turned_away(active)),
        )  # fmt: skip
        assert peer(active)["sessions"] == sessions
    backup.start()
    settle(lab)


def test_a_peer_that_stops_reading_costs_nothing_and_comes_back(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, queue_limit="64K", stall_timeout="4", heartbeat="2")))
    active, backup = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        told(lab)
        before = active.cost().rss_kib
        backup.freeze()
        # More than two sockets' buffers and the queue hold.
        for part in range(3):
            udp_flows(lab.client, 10_000, source=5000 + part)
        wait_until(lambda: not peer(active).get("in_step"), 15, "the active notices")
        wait_until(lambda: peer(active)["totals"].get("dropped", 0) > 1000, 10, "what is too much is dropped")
        flows.all_go_on()
        assert active.all_in("MASTER")
        assert active.cost().rss_kib < before + 8000
        backup.thaw()
        wait_until(lambda: equal(lab), 30, "in step again")
        active, backup = told(lab)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()


def test_a_killed_backup_gets_everything_anew(open_lab: Open) -> None:
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        udp_flows(lab.client, 2000)
        for _ in range(2):
            told(lab)
            backup.kill()
            wait_until(lambda: not peer(active).get("in_step"), 15, "the active notices")
            udp_flows(lab.client, 500, source=6000)
            backup.start()
            wait_until(lambda: equal(lab), 20, "in step again")
        assert held(backup) >= 2550
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()


# Bounds


def test_events_that_the_kernel_lost_are_found_by_a_dump(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, advert_s=0.9, receive_buffer="64K")))
    active, backup = started(lab)
    for source in (5000, 6000):
        active.freeze()  # for less than a missed advertisement: nobody reads the events
        udp_flows(lab.client, 1000, source)
        active.thaw()
    wait_until(lambda: sync(active)["events"]["overruns"] > 0, 10, "events were lost")
    wait_until(
        lambda: equal(lab) and held(backup) >= 2000, 30, "both have everything",
        explain=lambda: str([sync(router) for router in lab.routers]),
    )  # fmt: skip
    assert lab.active is active
    Tandem.request(active, "failover")
    takes_over(lab, backup)
    assert entries(backup) >= 2000


def test_a_full_table_is_bounded_and_counted(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, limit_entries="1000")))
    active, backup = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        told(lab)
        udp_flows(lab.client, 5000)
        wait_until(lambda: held(backup) == 1000, 10, "the table is full")
        settle(lab)
        bulks = peer(active)["totals"]["bulks"]
        stays(lambda: held(backup) <= 1000, 3, "it stays within its bound")
        assert peer(active)["totals"]["bulks"] <= bulks + 2, sync(active)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()  # the older ones were there first


def test_what_there_was_no_room_for_is_fetched_when_there_is(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, limit_entries="500", stale_loss="0")))
    active, backup = started(lab)
    for router in lab.routers:  # nothing goes by itself
        netns.write_sysctls(router.namespace, {"netfilter/nf_conntrack_udp_timeout": 300})
    udp_flows(lab.client, 480, 5000)
    wait_until(lambda: held(backup) >= 480, 10, "nearly full")
    udp_flows(lab.client, 300, 5001)
    wait_until(
        lambda: all(" connections, which" in str(sync(r)["stale"]) for r in lab.routers), 10, "both say it",
        explain=lambda: str([sync(router) for router in lab.routers]),
    )  # fmt: skip
    active.exec("conntrack", "-D", "-p", "udp", "--orig-port-src", "5000")
    wait_until(
        lambda: equal(lab) and 300 <= held(backup) < 400, 30, "both have the rest",
        explain=lambda: str([sync(router) for router in lab.routers]),
    )  # fmt: skip
    wait_until(lambda: not any(sync(router)["stale"] for router in lab.routers), 10, "and are healthy")
    power_loss(lab, active)
    takes_over(lab, backup)
    assert len(backup.exec("conntrack", "-L", "-p", "udp", "--orig-port-src", "5001").splitlines()) == 300


def test_sigkill_is_not_forgotten(open_lab: Open) -> None:
    """The daemon of the active dies alone: its kernel keeps the connections, the peer has them too."""
    lab = open_lab(SeedLab(synced))
    active, _ = started(lab)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 50, server_speaks=True)
        told(lab)
        active.signal(signal.SIGKILL)
        active.processes[-1].wait(5)
        active.start()
        settle(lab)
        flows.all_go_on()
