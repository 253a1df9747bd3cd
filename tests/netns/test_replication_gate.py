# SPDX-License-Identifier: GPL-2.0-or-later
"""The replication gate (`option guarantee 'connection'`) with real daemons."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tandem.conntrack.encode import Builder
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import IPS_ASSURED, IPS_SEEN_REPLY, TCP_AT
from tandem.effects.nftables import packets_counted
from tandem.gate.rules import CHAIN, COUNTER, FIRST, TABLE, nft_rules
from tests.bench.flood import Flood
from tests.lab import FAR, Router, SeedLab, Service, Tandem, wait_until
from tests.lab.process import tree
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_GROUP, WAN_ADDRESS, seed_instances
from tests.netns.conntrack import Conntrack
from tests.netns.nat_pair import CLIENT, NatPair

pytest.importorskip("netfilterqueue")
SYN_SENT = 1
ANY_PORT = """
table ip any {
    chain pre {
        type nat hook prerouting priority dstnat
        udp dport != 7 dnat to FAR:7
    }
}
"""
OPENER = str(Path(__file__).parents[1] / "lab/opener.py")
FORWARDS = f"""
table ip forwards {{
    chain pre {{
        type nat hook prerouting priority dstnat
        ip daddr {WAN_ADDRESS} tcp dport 8080 dnat to 192.168.1.10:81
    }}
    chain post {{
        type nat hook postrouting priority srcnat - 1
        ip daddr 192.168.1.10 ip saddr 192.168.1.0/24 snat to 192.168.1.4
    }}
}}
"""


def _daemon(number: int) -> Tandem:
    instances = seed_instances(0.1)
    section = f"""
config conntrack_sync
\toption enabled '1'
\tlist peer '192.168.1.{4 - number}'
\toption secret 'a secret of more than sixteen bytes'
\toption guarantee 'connection'
"""
    return Tandem(instances, SYNC_GROUP, text=tandem_uci(instances, SYNC_GROUP) + section)


@pytest.fixture
def lab() -> Iterator[SeedLab]:
    """Two routers in step, the gate on, and an echo service at port 81 on both sides."""
    with SeedLab(_daemon, tag="gate").up() as made:
        for host in (made.client, made.server):
            served = host.popen(sys.executable, "-IS", OPENER, "serve", "81", stdout=subprocess.PIPE)
            assert served.stdout
            served.stdout.readline()
        active, _ = made.elect()
        _wait_on(active)
        yield made


def _active(lab: SeedLab) -> Router:
    active = lab.active
    assert active
    return active


def _gate(router: Router) -> dict[str, Any]:
    found: dict[str, Any] = Tandem.request(router, "conntrack")["gate"]
    return found


def _wait_on(router: Router) -> None:
    """Until the gate is on and its rules are there."""
    wait_until(lambda: _gate(router)["state"] == "on", 15, "the gate is on", explain=router.log)
    wait_until(lambda: _rules(router), 10, "the gate's rules")


def _rules(router: Router) -> bool:
    mangle = router.exec("iptables-legacy", "-t", "mangle", "-S", check=False)
    return f"PREROUTING -j {CHAIN}" in mangle or TABLE in router.exec("nft", "list", "tables")


def _gate_pid(router: Router) -> int:
    for pid in tree(router.pid):
        if b"gate.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("no gate process")


def _connect(lab: SeedLab, count: int = 1, address: str = FAR, port: int = 81) -> list[float]:
    """Open connections one after the other, a byte there and back on each; ms that connect() took."""

    def body() -> list[float]:
        took = []
        for _ in range(count):
            began = time.monotonic()
            with socket.create_connection((address, port), 10) as sock:
                took.append((time.monotonic() - began) * 1e3)
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        return took

    return lab.client.enter(body)


def _counted(router: Router, **wanted: int) -> None:
    wait_until(
        lambda: all(_gate(router)[name] >= value for name, value in wanted.items()),
        10,
        f"{wanted} counted",
        explain=lambda: str(_gate(router)),
    )


def test_every_connection_that_a_client_holds_survives(lab: SeedLab) -> None:
    active = _active(lab)
    opening = lab.client.popen(
        sys.executable, "-IS", OPENER, "open", FAR, "81", "500", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert opening.stdin and opening.stdout
    goal = random.randint(300, 600)
    while json.loads(opening.stdout.readline())["established"] < goal:
        pass
    active.power_off()
    wait_until(lambda: lab.other(active).active, 10, "the other one is active")
    opening.stdin.close()
    last = [json.loads(line) for line in opening.stdout][-1]
    assert last["survived"] >= goal
    assert last["lost"] == 0


def test_each_kind_of_translation_is_known(lab: SeedLab) -> None:
    active = _active(lab)
    active.exec("nft", "-f", "-", stdin=FORWARDS)
    _connect(lab)  # to the far address: source translated
    _connect(lab, 1, WAN_ADDRESS, 8080)  # a hairpin: both
    outside = lab.server.enter(lambda: socket.create_connection((WAN_ADDRESS, 8080), 10))
    outside.close()  # a port forward: destination
    active.ip(
        "address add fd00:1::4/64 dev br-lan nodad",
        "address add fd00::4/64 dev eth0.2 nodad",
        "route add fd00:f::/64 via fd00::1",
    )
    _connect(lab, 1, "fd00:f::1")  # IPv6: none
    _counted(active, held=4, acked=4)
    gate = _gate(active)
    assert (gate["unknown"], gate["timed_out"], gate["bypassed"]) == (0, 0, 0)


def _udp(lab: SeedLab, count: int, first: int) -> int:
    """How many of so many UDP flows get an answer."""

    def body() -> int:
        answered = 0
        for port in range(first, first + count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("", port))
                sock.settimeout(3)
                sock.sendto(b"question", (FAR, 7))
                with suppress(TimeoutError):
                    answered += sock.recv(20) == b"question"
        return answered

    return lab.client.enter(body)


def test_the_first_answers_of_udp_and_icmp_are_held(lab: SeedLab) -> None:
    """And none of the later ones: a stream is not slowed down."""
    active = _active(lab)
    Service(lab.server, "echo", FAR, "7")
    assert _udp(lab, 50, 20_000) == 50
    _counted(active, held=50, acked=50)
    active.ip("address add fd00:1::4/64 dev br-lan nodad", "address add fd00::4/64 dev eth0.2 nodad")
    active.ip("route add fd00:f::/64 via fd00::1")
    before = _gate(active)["held"]
    for target in (FAR, "fd00:f::1"):
        lab.client.exec("ping", "-c", "8", "-i", "0.05", "-W", "3", target)
    _counted(active, held=before + 2 * FIRST, acked=before + 2 * FIRST)
    found = _gate(active)
    assert found["held"] == before + 2 * FIRST  # of 16
    assert (found["unknown"], found["timed_out"], found["bypassed"]) == (0, 0, 0)


def test_no_client_has_an_answer_that_the_backup_does_not_know(lab: SeedLab) -> None:
    active = _active(lab)
    Service(lab.server, "echo", FAR, "7")
    asking = threading.Event()
    answered: list[int] = []

    def ask() -> None:
        for port in range(30_000, 34_000):
            if asking.is_set():
                return
            with lab.client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
                sock.bind(("", port))
                sock.settimeout(1)
                sock.sendto(b"question", (FAR, 7))
                with suppress(TimeoutError):
                    sock.recv(20)
                    answered.append(port)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: len(answered) > random.randint(100, 300), 20, "some answers", every=0.001)
    active.power_off()
    asking.set()
    thread.join()
    backup = lab.other(active)
    wait_until(lambda: backup.active, 10, "the other one is active")
    listed = backup.exec("conntrack", "-L", "-p", "udp", "--orig-port-dst", "7")
    assert {f"sport={port} " for port in answered} <= {f"{word} " for word in listed.split()}


def test_the_rules_for_nft_are_understood_and_match_the_same(lab: SeedLab) -> None:
    """This kernel may have no queue expression: a counter stands for it."""
    active = _active(lab)
    Service(lab.server, "echo", FAR, "7")
    rules = nft_rules(1, 3780, "counter").replace(TABLE, "counted")
    active.exec("nft", "-f", "-", stdin=rules)
    before = _gate(active)["held"]
    _connect(lab, 3)
    _udp(lab, 20, 21_000)
    lab.client.exec("ping", "-c", "6", "-i", "0.05", "-W", "3", FAR)
    text = active.exec("nft", "list", "table", "inet", "counted")
    [count] = [int(number) for number in re.findall(r"counter packets (\d+)", text)]
    assert count == 3 + 20 + FIRST
    _counted(active, held=before + count)


def test_a_client_with_very_many_connections_does_not_fill_the_queue(lab: SeedLab) -> None:
    """By the rules for nft, whose limit counts clients though their addresses are translated."""
    active = _active(lab)
    Service(lab.server, "echo", FAR, "7")
    rules = nft_rules(1, 3780, "counter").replace(f"table inet {TABLE}", "table inet counted")
    active.exec("nft", "-f", "-", stdin=rules.replace("1000/second burst 500", "5/second burst 10"))
    assert _udp(lab, 40, 22_000) == 40
    text = active.exec("nft", "list", "table", "inet", "counted")
    held = int(re.findall(r"counter packets (\d+)", text)[0])
    assert 10 <= held < 40
    assert active.enter(lambda: packets_counted("counted", COUNTER)) == 40 - held


def test_all_that_a_flood_brings_leaves_and_is_counted_once(lab: SeedLab) -> None:
    active = _active(lab)
    lab.server.exec("nft", "-f", "-", stdin=ANY_PORT.replace("FAR", FAR))
    Service(lab.server, "echo", FAR, "7")
    Flood(lab.client, active).send(40_000, 20_000)
    _counted(active, held=1)
    wait_until(lambda: _gate(active)["waiting"] == 0, 10, "all have left")
    gate = _gate(active)
    ways = ("acked", "timed_out", "bypassed", "unknown", "overload")
    assert gate["held"] == sum(gate[way] for way in ways), gate
    assert gate["unkept"] == gate["timed_out"] + gate["overload"] + gate["lost"] + gate["limited"]


def test_connections_pass_when_the_gate_is_killed(lab: SeedLab) -> None:
    active = _active(lab)
    _connect(lab)
    gate = _gate_pid(active)
    lab.other(active).freeze()  # otherwise it takes over
    os.kill(active.pid, signal.SIGSTOP)  # otherwise there is another gate in time for what the server repeats
    try:
        os.kill(gate, signal.SIGKILL)
        _connect(lab, 5)
    finally:
        os.kill(active.pid, signal.SIGCONT)
        lab.other(active).thaw()
    wait_until(lambda: _gate(active)["starts"] == 2, 10, "another gate")
    wait_until(lambda: _gate(_active(lab))["state"] == "on", 20, "whoever is active now holds again")
    active = _active(lab)
    _wait_on(active)
    held = _gate(active)["held"]
    _connect(lab)
    _counted(active, held=held + 1)


def test_rules_that_somebody_has_removed_are_put_back(lab: SeedLab) -> None:
    active = _active(lab)
    _wait_on(active)
    active.exec("iptables-legacy", "-t", "mangle", "-F", "PREROUTING")
    active.exec("nft", "add", "table", "inet", "something")  # as a reload of the firewall does
    wait_until(lambda: _rules(active), 10, "the rules are back", explain=active.log)
    wait_until(lambda: "another program had removed the rules" in active.log(), 10, "it is said")
    held = _gate(active)["held"]
    _connect(lab)
    _counted(active, held=held + 1)


def test_a_gate_that_hangs_is_ended(lab: SeedLab) -> None:
    active = _active(lab)
    os.kill(_gate_pid(active), signal.SIGSTOP)
    assert max(_connect(lab, 3)) < 9_000  # the server repeats its answer when the gate is gone
    assert "hangs" in active.log()
    wait_until(lambda: _gate(active)["starts"] == 2, 10, "another gate")


def test_a_daemon_that_hangs_costs_the_timeout(lab: SeedLab) -> None:
    active = _active(lab)
    lab.other(active).freeze()  # otherwise it takes over, on a loaded machine before the echo is back
    os.kill(active.pid, signal.SIGSTOP)
    try:
        [took] = _connect(lab)
    finally:
        os.kill(active.pid, signal.SIGCONT)
        lab.other(active).thaw()
    assert 90 < took < 900  # less than until the server repeats its answer


def test_a_peer_that_does_not_answer_delays_few(lab: SeedLab) -> None:
    active = _active(lab)
    lab.other(active).freeze()
    try:
        took = _connect(lab, 20)
    finally:
        lab.other(active).thaw()
    assert max(took) < 900
    _counted(active, timed_out=1, overload=18)


def test_nothing_is_held_without_a_peer(lab: SeedLab) -> None:
    active = _active(lab)
    lab.other(active).stop()
    wait_until(lambda: _gate(active)["state"] == "off", 15, "the gate is off")
    wait_until(lambda: not _rules(active), 10, "its rules are gone")
    held = _gate(active)["held"]
    _connect(lab, 5)
    assert _gate(active)["held"] == held


def test_the_rules_go_with_the_daemon_and_leftovers_at_the_next_start(lab: SeedLab) -> None:
    active = _active(lab)
    active.stop()
    wait_until(lambda: not _rules(active), 10, "no rules")
    other = lab.other(active)
    wait_until(lambda: other.active, 10, "the other one is active")
    active.start()
    active.wait_started()
    _wait_on(other)
    other.kill()  # the gate is killed as well, and its rules stay
    assert _rules(other)
    other.start()
    other.wait_started()
    wait_until(lambda: not _rules(other), 10, "the leftovers are gone")


@pytest.mark.parametrize("server_speaks", [False, True])
def test_a_connection_is_completed_where_only_its_syn_was_known(server_speaks: bool) -> None:
    """SYN_SENT at the backup, while the connection got further: its packets must pass there."""
    pair = NatPair(2)
    first, second = pair.routers
    try:
        client, server = pair.connection()
        server.settimeout(5)
        [message] = [found for found in Conntrack(first).dump() if socket.inet_aton(CLIENT[4]) in found]
        record = Parser().parse(message)
        assert record
        _, key, body = record
        asked = bytearray(body)
        asked[2] &= ~(IPS_SEEN_REPLY | IPS_ASSURED)
        for at, value in ((0, SYN_SENT), (2, 0), (4, 0)):  # nothing known of the server's scale and flags
            asked[TCP_AT + at] = value
        pair.fail(0)
        assert Conntrack(second).send(c.data for c in Builder().chunks([(key, bytes(asked))])) == {}
        pair.activate(1)
        with client, server:
            for one, other in ((server, client), (client, server))[:: 1 if server_speaks else -1]:
                one.sendall(b"x")
                assert other.recv(1) == b"x"
    finally:
        pair.close()
