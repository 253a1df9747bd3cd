# SPDX-License-Identifier: GPL-2.0-or-later
"""One live flow of each kind goes on through the other router, without NAT and with all kinds of it.

Each is opened, has its talk, and has to go on after a power loss and after the failover back. Who
speaks first then is what matters: a flow that begins anew in the router hides that it was lost, so
two flows share a source port, and the second one's NAT is one that would not come about again.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from functools import partial

from tests.lab import FAR, LAN_GATEWAY, WAN_ADDRESS, Host, SeedLab

from .conntrack import ping
from .live import (
    CLIENT,
    CLIENT6,
    FAR6,
    WAN_ADDRESS6,
    connections,
    failover,
    no_resets,
    power_loss,
    started,
    synced,
    takes_over,
    told,
)

Open = Callable[[SeedLab], SeedLab]
Check = Callable[[], None]

SECOND_CLIENT = "192.168.1.11"
FORWARDED = f"""
table ip6 forwards {{
    chain dstnat {{
        type nat hook prerouting priority dstnat
        ip6 daddr {WAN_ADDRESS6} tcp dport 8080 dnat to [{CLIENT6}]:80
    }}
}}
table ip forwards {{
    chain dstnat {{
        type nat hook prerouting priority dstnat
        ip daddr {WAN_ADDRESS} tcp dport 8080 dnat to {CLIENT}:80
        ip daddr {WAN_ADDRESS} udp dport 5353 dnat to {CLIENT}:53
    }}
    chain srcnat {{
        type nat hook postrouting priority srcnat
        oifname "br-lan" ct status dnat ip saddr 192.168.1.0/24 snat to {LAN_GATEWAY}
    }}
}}
"""


def udp(host: Host, address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = host.enter(lambda: socket.socket(family, socket.SOCK_DGRAM))
    sock.bind((address, port))
    sock.settimeout(0.5)
    return sock


def exchange(speaker: socket.socket, to: tuple[str, int], other: socket.socket, came_from: object) -> None:
    """A datagram goes from the speaker to the other end and is seen there from the expected address."""
    for _ in range(10):  # datagrams may be lost; a flow that is unknown to the router is lost every time
        token = struct.pack("!d", time.monotonic())
        speaker.sendto(token, to)
        try:
            data, address = other.recvfrom(64)
        except TimeoutError:
            continue
        if data == token:
            assert address[:2] == came_from
            return
    raise AssertionError(f"no datagram arrives from {speaker.getsockname()} to {to}")


def source(client: socket.socket, server: socket.socket) -> tuple[str, int]:
    """Where the server sees the client's datagrams come from."""
    for _ in range(10):
        client.sendto(b"hello", server.getsockname())
        try:
            address: tuple[str, int] = server.recvfrom(64)[1]
        except TimeoutError:
            continue
        return address
    raise AssertionError(f"no datagram arrives at {server.getsockname()}")


def udp_flows(lab: SeedLab, client_first: bool) -> Check:
    """Two clients with the same source port: NAT gave another one to the second."""
    server = udp(lab.server, FAR, 6000 + client_first)
    clients = [udp(lab.client, address, 5000 + client_first) for address in (CLIENT, SECOND_CLIENT)]
    seen = []
    for client in clients:
        seen.append(source(client, server))
        exchange(server, seen[-1], client, server.getsockname())
    assert seen[0] == (WAN_ADDRESS, 5000 + client_first) and seen[1][1] != seen[0][1]

    def check() -> None:
        for client, address in [*zip(clients, seen, strict=True)][::-1]:
            if client_first:
                exchange(client, server.getsockname(), server, address)
            exchange(server, address, client, server.getsockname())
            exchange(client, server.getsockname(), server, address)

    return check


def udp_without_nat(lab: SeedLab) -> Check:
    server, client = udp(lab.server, FAR6, 6000), udp(lab.client, CLIENT6, 5000)
    exchange(client, (FAR6, 6000), server, (CLIENT6, 5000))

    def check() -> None:
        exchange(server, (CLIENT6, 5000), client, (FAR6, 6000))  # only a known flow may come in
        exchange(client, (FAR6, 6000), server, (CLIENT6, 5000))

    return check


def echo(lab: SeedLab) -> Check:
    """Two pings with the same id from two clients; the server sees two, and each gets its own back."""
    make = partial(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    clients = [lab.client.enter(make), lab.client.enter(make)]
    server = lab.server.enter(make)
    server.settimeout(0.5)
    for client, address in zip(clients, (CLIENT, SECOND_CLIENT), strict=True):
        client.bind((address, 0))
        client.settimeout(0.5)

    def identifier(sock: socket.socket, kind: int, source: str) -> int:
        while True:
            packet, address = sock.recvfrom(200)
            if packet[20] == kind and address[0] == source:
                return int(struct.unpack_from("!H", packet, 24)[0])

    def ids() -> list[int]:
        """The server's view of each ping, the second client's first."""
        seen = []
        for client in clients[::-1]:
            for _ in range(10):
                client.sendto(ping(0x1234), (FAR, 0))
                try:
                    at_server = identifier(server, 8, WAN_ADDRESS)
                    assert identifier(client, 0, FAR) == 0x1234
                except TimeoutError:
                    continue
                seen.append(at_server)
                break
            else:
                raise AssertionError("no answer to pings")
        return seen

    clients.reverse()
    assert ids()[0] == 0x1234
    clients.reverse()
    first = ids()
    assert first[0] != first[1]

    def check() -> None:
        assert ids() == first

    return check


def echo6(lab: SeedLab) -> Check:
    """The server's answers come in only where the ping is known: it sends one that nobody has asked for."""
    make = partial(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    client, server = lab.client.enter(make), lab.server.enter(make)
    client.bind((CLIENT6, 0))
    server.bind((FAR6, 0))
    client.settimeout(0.5)

    def answered() -> bool:
        while True:
            try:
                packet, address = client.recvfrom(200)
            except TimeoutError:
                return False
            if packet[0] == 129 and packet[4:6] == b"\x43\x21" and address[0] == FAR6:
                return True

    def check() -> None:
        answer = b"\x81" + ping(0x4321, v6=True)[1:]
        for _ in range(10):
            server.sendto(answer, (CLIENT6, 0))
            if answered():
                return
        raise AssertionError("no answer comes in")

    for _ in range(10):
        client.sendto(ping(0x4321, v6=True), (FAR6, 0))
        if answered():
            return check
    raise AssertionError("no answer to pings")


def both_families(open_lab: Open, rules: str = "") -> SeedLab:
    lab = SeedLab(partial(synced, ipv6=True, rules=rules))
    for router in lab.routers:
        router.routes.append(f"{FAR6} via fd00::1")
    open_lab(lab)
    started(lab)
    return lab


def everything(lab: SeedLab, checks: dict[str, Check]) -> None:
    """All checks pass now, after a power loss, and after a failover back."""
    for event in (None, power_loss, failover):
        active, backup = told(lab)
        if event is not None:
            event(lab, active)
            takes_over(lab, backup)
        failed = {}
        for name, check in checks.items():
            try:
                check()
            except (AssertionError, OSError) as error:
                failed[name] = repr(error)
        assert not failed, f"after {event}"
        if event is power_loss:
            active.power_on()


def test_datagrams_and_pings(open_lab: Open) -> None:
    lab = both_families(open_lab)
    lab.client.ip(f"address add {SECOND_CLIENT}/24 dev eth0")
    checks = {
        "UDP, the server speaks first": udp_flows(lab, client_first=False),
        "UDP, the client speaks first": udp_flows(lab, client_first=True),
        "UDP without NAT, IPv6": udp_without_nat(lab),
        "ICMP echo": echo(lab),
        "ICMPv6 echo": echo6(lab),
    }
    everything(lab, checks)


def test_tcp_with_every_kind_of_nat(open_lab: Open) -> None:
    lab = both_families(open_lab, FORWARDED)
    with connections() as flows, no_resets(lab):
        for server_speaks in (True, False):
            flows.add(lab.client, lab.server, FAR6, 5, server_speaks)
            forwarded = {"port": 80, "bind": CLIENT, "to_port": 8080}
            flows.add(lab.server, lab.client, WAN_ADDRESS, 5, server_speaks, **forwarded)
            flows.add(lab.client, lab.client, WAN_ADDRESS, 5, server_speaks, **forwarded)  # hairpin
            forwarded = {"port": 80, "bind": CLIENT6, "to_port": 8080}
            flows.add(lab.server, lab.client, WAN_ADDRESS6, 5, server_speaks, **forwarded)
        everything(lab, {"TCP": flows.all_go_on})


def test_idle_connections_speak_first_after_the_takeover(open_lab: Open) -> None:
    """Nothing was ever said on them; then one end speaks, on half of them the server."""
    lab = open_lab(SeedLab(synced))
    active, backup = started(lab)
    with lab.server.enter(lambda: socket.create_server((FAR, 0))) as listener:
        ends = []
        for _ in range(10):
            near = lab.client.enter(lambda: socket.create_connection(listener.getsockname(), 5))
            ends.append((near, listener.accept()[0]))
    told(lab)
    power_loss(lab, active)
    takes_over(lab, backup)
    for number, (near, far) in enumerate(ends):
        for one, other in ((far, near), (near, far))[:: 1 if number % 2 else -1]:
            one.settimeout(10)
            other.settimeout(10)
            one.sendall(b"at last")
            assert other.recv(20) == b"at last"
        near.close()
        far.close()
