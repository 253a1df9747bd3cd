# SPDX-License-Identifier: GPL-2.0-or-later
"""Options of `conntrack_sync` end to end: filters, settings of the kernel, and the status."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from tandem.control.flows import decode
from tests.lab import FAR, Router, SeedLab, Tandem, wait_until

from .daemon import status
from .live import CLIENT, equal, started, sync, synced
from .test_clear import clear
from .test_replication_reload import reload

Open = Callable[[SeedLab], SeedLab]

SECOND_CLIENT, CLIENT6, FAR6 = "192.168.1.11", "fd00:1::10", "fd00:f::1"
RULES = """
table inet zones {
    chain prerouting {
        type filter hook prerouting priority raw
        iifname "br-lan" udp dport 1007 ct zone set 7
    }
}
"""
DEAF = "table ip deaf { chain in { type filter hook input priority 0; tcp dport 1001 drop; }; }"
# The key of a round of flows: protocol, client, port.
TCP, SYN = f"tcp {CLIENT} 1000", f"tcp {CLIENT} 1001"
UDP, UDP2, UDP7, UDP6 = (
    f"udp {CLIENT} 1002",
    f"udp {SECOND_CLIENT} 1002",
    f"udp {CLIENT} 1007",
    f"udp {CLIENT6} 1002",
)
PING, OWN = f"icmp {CLIENT} 0", "udp 192.168.0. 1003"
ALL = {TCP, SYN, UDP, UDP2, UDP7, UDP6, PING}

CASES: tuple[tuple[dict[str, str], set[str]], ...] = (
    ({}, ALL),
    ({"address": f"{SECOND_CLIENT}/32"}, {UDP2}),
    ({"ignore_address": "192.168.1.8/29"}, {UDP6}),
    ({"protocol": "tcp"}, {TCP, SYN}),
    ({"tcp_state": "ESTABLISHED"}, ALL - {SYN}),
    ({"zone": "7"}, {UDP7}),
    ({"zone": "0", "ignore_protocol": "udp"}, {TCP, SYN, PING}),
    ({"local": "1"}, ALL | {OWN}),
)


def flows(lab: SeedLab, router: Router, stack: ExitStack) -> None:
    """One flow of each kind, and one of the router's own."""

    def client(family: int, kind: int, address: str) -> socket.socket:
        made = stack.enter_context(lab.client.enter(lambda: socket.socket(family, kind)))
        made.bind((address, 0))
        return made

    for address, to, ports in (
        (CLIENT, FAR, (1002, 1007)),
        (SECOND_CLIENT, FAR, (1002,)),
        (CLIENT6, FAR6, (1002,)),
    ):
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        for port in ports:
            client(family, socket.SOCK_DGRAM, address).sendto(b"x", (to, port))
    with lab.server.enter(lambda: socket.create_server((FAR, 1000))) as listener:
        sock = client(socket.AF_INET, socket.SOCK_STREAM, CLIENT)
        sock.settimeout(5)
        sock.connect((FAR, 1000))
        stack.enter_context(listener.accept()[0])
    sock = client(socket.AF_INET, socket.SOCK_STREAM, CLIENT)
    sock.setblocking(False)
    with suppress(BlockingIOError):
        sock.connect((FAR, 1001))
    lab.client.exec("ping", "-c1", "-W1", "-I", CLIENT, FAR, check=False)
    own = stack.enter_context(router.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    own.sendto(b"x", ("192.168.0.1", 1003))


def listed(router: Router, peer: str | None) -> list[str]:
    """The flows in a table by their names; of the router's own flows, only those of `flows`."""
    names, cursor = [], "0"
    while cursor is not None:
        which = {"peer": peer} if peer else {}
        answer = Tandem.request(router, "conntrack_list", cursor=cursor, **which)
        for key, body in answer["entries"]:
            flow = decode(bytes.fromhex(key), bytes.fromhex(body))
            original = flow["original"]
            port = original.get("dport", 0)
            if original["src"].startswith("192.168.0."):
                assert port != 3780 and "local" in router.file("conf").read_text()
                names += [OWN] if port == 1003 else []
            elif not original["src"].startswith(("192.168.1.2", "192.168.1.3", "fd00:1::2", "fd00:1::3")):
                names.append(f"{flow['protocol']} {original['src']} {port}")
        cursor = answer["next"]
    return names


def test_filters(open_lab: Open) -> None:
    """Each of them, on what is there already (a dump) and on what comes (the filter of the kernel)."""
    lab = open_lab(SeedLab(partial(synced, ipv6=True, rules=RULES)))
    for router in lab.routers:
        router.ip(f"route add {FAR6} via fd00::1")
    lab.server.exec("nft", "-f", "-", stdin=DEAF)
    lab.client.ip(f"address add {SECOND_CLIENT}/24 dev eth0")
    active, backup = started(lab)
    name = f"192.168.1.{2 if active is lab.r1 else 3}"
    with ExitStack() as stack:
        for number, (options, wanted) in enumerate(CASES):
            for which, router in enumerate(lab.routers, 1):
                reload(router, synced(which, ipv6=True, rules=RULES, **options))
            rounds = number + 1

            def shows(times: int, options: dict[str, str] = options, wanted: set[str] = wanted) -> bool:
                found = listed(backup, name)
                assert set(found) == wanted, f"{options}: {sorted(found)}"
                assert found.count(max(wanted - {SYN})) >= times
                return True

            if number:
                wait_until(lambda shows=shows, number=number: shows(number), 15, f"{options}: what is there")
            flows(lab, active, stack)
            wait_until(lambda shows=shows, rounds=rounds: shows(rounds), 10, f"{options}: what comes")
            wait_until(lambda: equal(lab), 10, "both have the same")


def test_the_kernel_s_settings_while_it_runs(open_lab: Open) -> None:
    """Put back when it stops, and after a crash when the next one stops, or by `tandemd --clear`."""
    names = ("nf_conntrack_events", "nf_conntrack_tcp_loose", "nf_conntrack_tcp_be_liberal")

    def settings(router: Router) -> list[str]:
        return [router.sysctl(f"netfilter/{name}") for name in names]

    lab = open_lab(SeedLab(synced))  # one router of it: they note the settings in the same directory
    before = settings(lab.r1)
    assert before[1:] == ["1", "0"]
    for _ in range(2):
        lab.r1.start()
        lab.r1.wait_started()
        assert settings(lab.r1) == ["1", "0", "1"]
        assert lab.r1.stop() == 0
        assert settings(lab.r1) == before
    lab.r1.start()
    lab.r1.wait_started()
    lab.r1.signal(signal.SIGKILL)
    lab.r1.processes[-1].wait(5)
    assert settings(lab.r1) == ["1", "0", "1"]
    lab.r1.start()
    lab.r1.wait_started()
    assert settings(lab.r1) == ["1", "0", "1"]
    assert lab.r1.stop() == 0
    assert settings(lab.r1) == before
    lab.r1.start()
    lab.r1.wait_started()
    lab.r1.kill()
    assert clear(lab.r1) == 0
    assert settings(lab.r1) == before


def test_replication_stale_is_said_while_it_is(open_lab: Open) -> None:
    lab = open_lab(SeedLab(partial(synced, stale_lag="0.5")))
    active, backup = started(lab)

    def stale(router: Router) -> list[str]:
        found: list[str] = status(router)["health"].get("replication_stale", [])
        return found

    wait_until(lambda: not stale(active) and not stale(backup), 10, "both are in step")
    backup.freeze()
    wait_until(lambda: any("behind" in why or "not connected" in why for why in stale(active)), 10, "stale")
    assert sync(active)["stale"]
    assert "replication_stale" in active.log()
    backup.thaw()
    wait_until(lambda: not stale(active) and not stale(backup), 20, "both are in step again")
