# SPDX-License-Identifier: GPL-2.0-or-later
"""`sync_after`: a query is not told to the peer; a call, a tunnel, a stream and a port forward survive."""

from __future__ import annotations

import socket
from functools import partial

import pytest

from tandem.conntrack.filter import Filter
from tandem.conntrack.kernel_table import UNSETTLED_AGAIN, KernelTable
from tandem.conntrack.record import DESTROY, NEW, Record
from tandem.effects.nftables import has_flow_tables
from tandem.log import Logger, StderrSink
from tandem.loop import Loop
from tandem.replication.cache import Cache
from tandem.replication.tables import Own
from tests.lab import FAR, Host, Router, SeedLab, netns, wait_until
from tests.netns import live
from tests.netns.test_replication_mirror import put

FORWARD = """
table ip forwards {
    chain pre {
        type nat hook prerouting priority dstnat
        udp dport 5353 dnat to 192.168.1.10
    }
}
"""
VIRTUAL = "192.168.0.4"


def datagrams(host: Host, address: str, port: int = 0) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, port))
        sock.setblocking(False)
        return sock

    return host.enter(make)


def received(sock: socket.socket, what: bytes) -> tuple[str, int] | None:
    """Whether this datagram has come, and from where."""
    try:
        while True:
            data, source = sock.recvfrom(100)
            if data == what:
                return source[0], source[1]
    except BlockingIOError:
        return None


class Call:
    """Datagrams both ways, between a client behind the routers and the server."""

    def __init__(self, lab: SeedLab, port: int) -> None:
        self.near, self.far = datagrams(lab.client, "0.0.0.0"), datagrams(lab.server, FAR, port)
        self.to: tuple[str, int] | None = None
        self.number = 0

    def speak(self) -> bool:
        """One word of the client's, and the answer."""
        self.number += 1
        word = b"%d" % self.number
        self.near.sendto(word, self.far.getsockname())
        self.to = wait_until(lambda: received(self.far, word), 5, "the server hears the client")
        return self.answer()

    def answer(self) -> bool:
        """The server speaks: only a router that knows the flow lets it through."""
        assert self.to is not None
        self.number += 1
        word = b"%d" % self.number
        self.far.sendto(word, self.to)
        try:
            wait_until(lambda: received(self.near, word), 0.5, "the client hears the server")
        except AssertionError:
            return False
        return True


def own(router: Router) -> int:
    return int(live.sync(router)["own"])


def test_what_survives(open_lab) -> None:  # type: ignore[no-untyped-def]
    lab: SeedLab = open_lab(SeedLab(partial(live.synced, sync_after="2", rules=FORWARD)))
    active, backup = live.started(lab)
    with live.connections() as flows:
        query, call, tunnel = (Call(lab, port) for port in (53, 4000, 51820))
        inside = datagrams(lab.client, "0.0.0.0", 5353)
        flows.add(lab.client, lab.server, FAR, 1, server_speaks=True)
        before = wait_until(lambda: own(active), 5, "the stream is told")
        assert query.speak()
        call.far.sendto(b"ring", (VIRTUAL, 5353))
        wait_until(lambda: received(inside, b"ring"), 5, "the port forward")
        assert call.speak() and tunnel.speak()
        assert own(active) <= before + 1  # the port forward alone
        wait_until(
            lambda: call.speak() and tunnel.speak() and own(active) >= before + 3,
            10,
            "both are told",
            every=0.3,
        )
        live.told(lab)
        assert own(active) == before + 3 and live.held(backup) == before + 3
        active.power_off()
        live.takes_over(lab, backup)
        assert call.answer() and tunnel.answer()  # nobody inside has spoken before
        assert not query.answer()
        inside.sendto(b"answer", (FAR, 4000))
        wait_until(lambda: received(call.far, b"answer") == (VIRTUAL, 5353), 5, "of the port forward")
        flows.all_go_on()


def udp(count: int, first: int = 0) -> list[tuple[bytes, bytes]]:
    """Flows that have seen one answer."""
    key = b"\0\0\4\x11" + socket.inet_aton("10.0.1.1") + socket.inet_aton("10.0.1.2")
    body = b"\0\0\x0a" + (60).to_bytes(4, "big")
    return [
        (key + number.to_bytes(2, "big") + b"\0\x35", body) for number in range(first + 1, first + count + 1)
    ]


def test_a_firewall_without_flow_tables_says_so(where: str) -> None:
    netns.run(["ip", "netns", "exec", where, "nft", "-f", "-"], stdin=FORWARD)
    assert not netns.enter(where, has_flow_tables)


@pytest.mark.parametrize("settled", [True, False])
def test_the_end_of_what_was_told_early_is_asked_for(where: str, settled: bool) -> None:
    """The end of a helper's flow does not say that it had a helper."""
    told: list[Record] = []
    table = Own(lambda: Cache(1000, 1 << 20))
    loop, rules = Loop(), Filter(settled=settled)
    log = Logger("error", StderrSink())
    kernel = netns.enter(where, lambda: KernelTable(loop, log, table, rules, (), 1 << 20, told.extend))
    put(where, udp(4))
    netns.enter(where, kernel.listen)
    while kernel._dump is not None:
        netns.enter(where, kernel._read_dump)
    assert len(told) == (0 if settled else 4)  # a dump asks the same filter
    told.clear()
    records = [(NEW, *flow) for flow in udp(4)]
    kernel._take_in(records)
    for flow in (1, 2):
        netns.run(
            ["ip", "netns", "exec", where, "conntrack", "-D", "-p", "udp", "--orig-port-src", str(flow)]
        )
    kernel.read()
    for second in range(3):
        now = loop.now() + UNSETTLED_AGAIN + second
        netns.enter(where, lambda now=now: kernel.work(now))  # type: ignore[misc]
        while kernel._dump is not None:
            netns.enter(where, kernel._read_dump)
    assert sorted(told) == [(DESTROY, key, b"") for key, _ in udp(2)]
    assert len(table.cache) == 2
    kernel.close()
