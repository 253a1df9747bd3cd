# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual servers with real servers behind the routers: shares, a server that dies, a router that dies."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.lab import LanLab, Router, Tandem, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import LAN_GATEWAY, SYNC_GROUP, SYNC_SECRET, WAN_ADDRESS, SeedLab, seed_instances

from .daemon import V1, VIP, status

Open = Callable[[Any], Any]
SERVER = """
import socket, sys, threading
address, port = sys.argv[1], int(sys.argv[2])
def serve(connection, peer):
    try:
        connection.send(f"{address} {peer[0]}\\n".encode())
        while data := connection.recv(100):
            connection.send(data)
    except ConnectionError:
        pass
def datagrams():
    udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    while True:
        _, peer = udp.recvfrom(100)
        udp.sendto(f"{address} {peer[0]}\\n".encode(), peer)
threading.Thread(target=datagrams, daemon=True).start()
server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
while True:
    threading.Thread(target=serve, args=server.accept(), daemon=True).start()
"""
ALIVE = """
config check 'alive'
	option kind 'tcp'
	option interval '0.2'
	option timeout '0.5'
	option fall '2'
"""


def real(*addresses: str) -> str:
    sections = (
        f"\nconfig real_server 's{number}'\n\toption ipaddr '{address}'\n"
        "\toption port '8080'\n\tlist check 'alive'\n"
        for number, address in enumerate(addresses, 1)
    )
    return ALIVE + "".join(sections)


def virtual(name: str, address: str, *options: str, servers: str = "s1 s2") -> str:
    lines = "".join(f"\toption {option}\n" for option in options)
    return (
        f"\nconfig virtual_server '{name}'\n\toption ipaddr '{address}'\n\toption port '80'\n"
        f"\tlist real_server '{servers}'\n{lines}"
    )


def balanced(number: int, text: str) -> Tandem:
    """A router of the seed's pair, which replicates connections and has virtual servers."""
    instances = seed_instances(0.1)
    sync = f"\nconfig conntrack_sync\n\toption enabled '1'\n\tlist peer '192.168.1.{4 - number}'\n"
    secret = f"\toption secret '{SYNC_SECRET}'\n"
    return Tandem(instances, SYNC_GROUP, text=tandem_uci(instances, SYNC_GROUP) + sync + secret + text)


class Ends:
    """The hosts: servers behind the provider's side, and clients with many addresses."""

    def __init__(self, lab: SeedLab, clients: int, *servers: str) -> None:
        self.lab = lab
        lab.server.ip(*(f"addr add {one} dev eth0" for one in servers))
        lab.server.ip("route add 192.168.1.0/24 via 192.168.0.4")
        lab.client.ip(*(f"addr add 192.168.1.{100 + number}/24 dev eth0" for number in range(clients)))
        self.sources = [f"192.168.1.{100 + number}" for number in range(clients)]
        self.running = {one: self.start(one.partition("/")[0]) for one in servers}

    def start(self, address: str) -> Any:
        return self.lab.server.popen("python3", "-c", SERVER, address, "8080")

    def ask(self, source: str, kind: int = socket.SOCK_STREAM, to: str = LAN_GATEWAY) -> str:
        """What a server says to a client: its address, and that of the client as it sees it."""
        with self.lab.client.enter(lambda: socket.socket(socket.AF_INET, kind)) as sock:
            sock.settimeout(2)
            sock.bind((source, 0))
            sock.connect((to, 80))
            if kind == socket.SOCK_DGRAM:
                sock.send(b"?")
            return sock.recv(100).decode()

    def shares(self, **how: Any) -> Counter[str]:
        return Counter(self.ask(source, **how).split()[0] for source in self.sources)


def servers(router: Router) -> dict[str, dict[str, Any]]:
    [one] = status(router)["virtual_servers"]
    return {server["name"]: server for server in one["servers"]}


def test_a_server_that_dies_gets_no_connection_and_those_of_others_go_on(open_lab: Open) -> None:
    text = real("192.168.0.21", "192.168.0.22") + virtual("web", LAN_GATEWAY)
    lab: SeedLab = open_lab(SeedLab(lambda number: balanced(number, text)))
    ends = Ends(lab, 40, "192.168.0.21/24", "192.168.0.22/24")
    lab.elect()
    r1 = lab.active
    assert r1 is not None
    wait_until(lambda: all(one["up"] for one in servers(r1).values()), 10, "both are up", explain=lab.logs)
    before = {source: ends.ask(source) for source in ends.sources}
    assert {said.split()[1] for said in before.values()} == {WAN_ADDRESS}, "the pair's own NAT"
    counted = Counter(said.split()[0] for said in before.values())
    assert len(counted) == 2 and min(counted.values()) > 8, counted
    assert before == {source: ends.ask(source) for source in ends.sources}, "each client stays with one"
    dead, alive = "192.168.0.21", "192.168.0.22"
    ends.running[f"{dead}/24"].kill()
    wait_until(lambda: not servers(r1)["s1"]["up"], 10, "the check sees it", explain=lab.logs)
    assert servers(r1)["s2"]["share"] == 1.0
    assert ends.shares() == {alive: 40}
    ends.start(dead)
    wait_until(lambda: servers(r1)["s1"]["up"], 10, "and that it is back")
    assert before == {source: ends.ask(source) for source in ends.sources}, "the same clients come back"


def test_connections_survive_the_router(open_lab: Open) -> None:
    text = real("192.168.0.21", "192.168.0.22") + virtual("web", LAN_GATEWAY)
    lab: SeedLab = open_lab(SeedLab(lambda number: balanced(number, text)))
    ends = Ends(lab, 12, "192.168.0.21/24", "192.168.0.22/24")
    r1, r2 = lab.elect()
    wait_until(lambda: all(one["up"] for one in servers(r1).values()), 10, "both are up", explain=lab.logs)
    before = {}
    held = {}
    for source in ends.sources:
        sock = held[source] = lab.client.enter(lambda: socket.socket())
        sock.settimeout(10)
        sock.bind((source, 0))
        sock.connect((LAN_GATEWAY, 80))
        before[source] = sock.recv(100).decode()
    assert len({said.split()[0] for said in before.values()}) == 2
    known = ("conntrack", "-L", "-p", "tcp", "--dport", "80", "--state", "ESTABLISHED")
    wait_until(lambda: len(r2.exec(*known).splitlines()) == len(held), 10, "r2 knows them", explain=lab.logs)
    r1.power_off()
    wait_until(lambda: r2.has(LAN_GATEWAY), 10, "r2 takes over", explain=lab.logs)
    for sock in held.values():
        sock.send(b"still there?")
        assert sock.recv(100) == b"still there?"
        sock.close()
    assert before == {source: ends.ask(source) for source in ends.sources}, "r2 has the same servers for them"


def test_nobody_is_left(open_lab: Open) -> None:
    """Then clients are refused at once. The table comes back when somebody has flushed it."""
    text = real("192.168.0.21", "192.168.0.22") + virtual("web", LAN_GATEWAY)
    lab: SeedLab = open_lab(SeedLab(lambda number: balanced(number, text)))
    ends = Ends(lab, 4, "192.168.0.21/24")
    r1, _ = lab.elect()
    wait_until(lambda: [one["up"] for one in servers(r1).values()] == [True, False], 10, explain=lab.logs)
    assert ends.shares() == {"192.168.0.21": 4}
    r1.exec("nft", "flush", "ruleset")

    def serves() -> bool:
        try:
            return ends.shares() == {"192.168.0.21": 4}
        except OSError:
            return False

    wait_until(serves, 10, "the table is put back", explain=lab.logs)
    ends.running["192.168.0.21/24"].kill()
    wait_until(lambda: not servers(r1)["s1"]["up"], 10, "none is", explain=lab.logs)
    assert status(r1)["health"]["virtual_servers"] == ["web: no real server is up"]
    try:
        ends.ask(ends.sources[0])
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("somebody answers")


def test_the_sorry_server_and_weights(open_lab: Open) -> None:
    text = real("192.168.0.21", "192.168.0.22").replace(
        "'192.168.0.21'", "'192.168.0.21'\n\toption weight '3'"
    )
    text += virtual("web", LAN_GATEWAY, "sorry_server_ip '192.168.0.23'", "sorry_server_port '8080'")
    lab: SeedLab = open_lab(SeedLab(lambda number: balanced(number, text)))
    ends = Ends(lab, 60, "192.168.0.21/24", "192.168.0.22/24", "192.168.0.23/24")
    r1, _ = lab.elect()
    wait_until(lambda: all(one["up"] for one in servers(r1).values()), 10, "both are up", explain=lab.logs)
    counted = ends.shares()
    assert set(counted) == {"192.168.0.21", "192.168.0.22"}, "nobody gets to the sorry server"
    assert servers(r1)["s1"]["share"] == 0.75 and 33 < counted["192.168.0.21"] < 58, counted  # 45 on average
    for one in ("192.168.0.21", "192.168.0.22"):
        ends.running[f"{one}/24"].kill()
    wait_until(lambda: not any(one["up"] for one in servers(r1).values()), 10, "none is", explain=lab.logs)
    assert ends.shares() == {"192.168.0.23": 60}, "it has them all"
    ends.start("192.168.0.22")
    wait_until(lambda: servers(r1)["s2"]["up"], 10, "one is back", explain=lab.logs)
    assert ends.shares() == {"192.168.0.22": 60}


def test_masquerade_udp_turns_and_ipv6(open_lab: Open) -> None:
    """Clients and servers on one LAN."""
    text = real("192.168.1.21", "192.168.1.22")
    text += virtual("web", VIP, "masquerade '1'", "lb_algo 'rr'")
    text += virtual("names", VIP, "masquerade '1'", "lb_algo 'rr'", "protocol 'udp'", servers="s2")
    text += "\nconfig real_server 's6'\n\toption ipaddr 'fd00:1::10'\n\toption port '8080'\n"
    text += virtual("six", "fd00:1::2", "masquerade '1'", servers="s6")
    lab: LanLab = open_lab(LanLab([Tandem([V1], text=tandem_uci([V1]) + text)]))
    [r1] = lab.routers
    r1.start()
    lab.client.ip(*(f"addr add 192.168.1.{last}/24 dev eth0" for last in (21, 22)))
    for address in ("192.168.1.21", "192.168.1.22", "fd00:1::10"):
        lab.client.popen("python3", "-c", SERVER, address, "8080")

    def ask(kind: int = socket.SOCK_STREAM) -> str:
        with lab.client.enter(lambda: socket.socket(socket.AF_INET, kind)) as sock:
            sock.settimeout(2)
            sock.bind(("192.168.1.10", 0))
            sock.connect((VIP, 80))
            sock.send(b"?")
            return sock.recv(100).decode()

    def up() -> bool:
        return all(server["up"] for one in status(r1)["virtual_servers"] for server in one["servers"])

    wait_until(lambda: r1.has(VIP) and up(), 15, "it serves", explain=lab.logs)
    assert {ask().split("\n")[0] for _ in range(4)} == {f"192.168.1.21 {VIP}", f"192.168.1.22 {VIP}"}
    assert ask(socket.SOCK_DGRAM) == f"192.168.1.22 {VIP}\n"
    with lab.client.enter(lambda: socket.socket(socket.AF_INET6)) as sock:
        sock.settimeout(2)
        sock.connect(("fd00:1::2", 80))
        assert sock.recv(100).decode() == "fd00:1::10 fd00:1::2\n"
    assert r1.stop() == 0
    assert "tandem_balance" not in r1.exec("nft", "list", "tables")
