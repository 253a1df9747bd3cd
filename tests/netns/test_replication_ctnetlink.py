# SPDX-License-Identifier: GPL-2.0-or-later
"""Conntrack's events, dumps and restores in real namespaces."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem.conntrack.ctnetlink import SETTINGS, Dump, Events, table_size
from tandem.conntrack.encode import Builder, Chunk
from tandem.conntrack.filter import CLOSING, Filter
from tandem.conntrack.message import parse
from tandem.conntrack.record import DESTROY, T_HELPER, T_MASTER, TAIL, TCP_AT, Entry, pack_tail, tail
from tandem.conntrack.writer import Figures, Restorer, deletion
from tandem.effects.sysctl import Sysctls
from tandem.loop import MILLISECOND, Loop
from tests.lab import netns
from tests.lab.wait import wait_until
from tests.netns.conntrack import crc32c
from tests.netns.nat_pair import CLIENT, OWN, SERVER, VIP, NatPair

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

TIMEOUT = slice(3, 7)  # in a body


@pytest.fixture
def net(request: pytest.FixtureRequest) -> Iterator[NatPair]:
    made = NatPair(getattr(request, "param", 1))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., object]]:
    """Open something in a namespace, and close it after the test."""
    things: list[object] = []

    def open_(where: str, make: Callable[[], object]) -> object:
        things.append(netns.enter(where, make))
        return things[-1]

    yield open_
    for thing in things:
        thing.close()


def dumped(where: str, rules: Filter | None = None, **options: object) -> list[bytes]:
    """All messages of a dump in a namespace."""

    def body() -> list[bytes]:
        dump, found = Dump(rules, **options), []
        while not dump.done:
            select.select([dump], [], [], 5)
            found += dump.read()
        dump.close()
        return found

    return netns.enter(where, body)


def entries(messages: list[bytes]) -> dict[bytes, bytes]:
    """Bodies by key."""
    return {record[1]: record[2] for record in map(parse, messages) if record is not None}


def untimed(body: bytes) -> bytes:
    """The fixed part of a body with SNAT, without the timeout."""
    return bytes([body[0] & 0x7F]) + body[1:3] + body[7:18]


def finish(restorer: Restorer) -> Figures:
    while not restorer.step():
        pass
    return restorer.figures


def flows(
    count: int, *, first: int = 0, snat: str = VIP[4], state: int = 3, timeout: int = 600
) -> list[Entry]:
    """TCP connections of many clients to one server."""
    found = []
    for number in range(first, first + count):
        key = b"\0\0\4\6" + struct.pack("!I", 0x0A000002 + (number >> 14)) + socket.inet_aton(SERVER[4])
        key += struct.pack("!HH", 1024 + (number & 16383), 443)
        to = struct.pack("!I", int.from_bytes(socket.inet_aton(snat), "big") + (number >> 14))
        body = struct.pack("!BHI5B", 5, 0x0E, timeout, state, 7, 7, 3, 3) + to + key[12:14]
        found.append((key, body))
    return found


# --- events --------------------------------------------------------------------------------


def sctp_init() -> bytes:
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 1)
    head = struct.pack("!HHI", 40000, 5000, 0)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def icmp_echo(kind: int) -> bytes:
    packet = struct.pack("!BBHHH", kind, 0, 0, 77, 1)
    total = sum(struct.unpack("!4H", packet))
    return packet[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + packet[4:]


PACKETS = {
    1: icmp_echo(8),
    47: struct.pack("!HH", 0, 0x0800) + bytes(20),
    58: icmp_echo(128),
    132: sctp_init(),
    253: bytes(20),
}


def provoke(net: NatPair, family: int, protocol: int) -> None:
    """Make the client begin a flow of a protocol to the server."""
    if protocol == socket.IPPROTO_TCP:
        for end in net.connection(family):
            end.close()
    elif protocol == socket.IPPROTO_UDP:
        with net.socket(net.client, socket.SOCK_DGRAM, family) as sender:
            sender.sendto(b"x", (SERVER[family], 5000))
    else:
        with net.socket(net.client, socket.SOCK_RAW, family, protocol) as sender:
            sender.sendto(PACKETS[protocol], (SERVER[family], 0))


@pytest.mark.parametrize(
    ("family", "protocol"),
    [(4, 1), (4, 6), (4, 17), (4, 47), (4, 132), (4, 253), (6, 6), (6, 17), (6, 58), (6, 132), (6, 253)],
)
def test_events_of_real_flows(net: NatPair, opened, family: int, protocol: int) -> None:
    events = opened(net.routers[0], lambda: Events(Filter()))
    provoke(net, family, protocol)
    found: list[bytes] = []

    def seen() -> bool:
        found.extend(events.read())
        return any(key[2] == family and key[3] == protocol for key in entries(found))

    wait_until(seen, 10, "an event of the flow")
    source = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, CLIENT[family])
    assert any(key[4 : 4 + len(source)] == source and key[3] == protocol for key in entries(found))
    assert events.drained and events.received == len(found)


def test_a_connection_is_two_events_and_its_end_another(net: NatPair, opened) -> None:
    """With `settled`; while it closes, which may take hours, a dump has it."""
    router, rules = net.routers[0], Filter(settled=True)
    events = opened(router, lambda: Events(rules))
    with pytest.raises(ConnectionRefusedError), net.socket(net.client, socket.SOCK_STREAM) as refused:
        refused.connect((SERVER[4], 1))
    states: list[int] = []

    def told(*expected: int) -> bool:
        records = [record for record in map(parse, events.read()) if record is not None]
        states.extend(body[TCP_AT] for op, _, body in records if op != DESTROY)
        return states == list(expected)

    client, server = net.connection(4)
    wait_until(lambda: told(2, 3), 5, "it is established", explain=lambda: str(states))
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    closing = entries(dumped(router, rules))
    assert [body[TCP_AT] in CLOSING for body in closing.values()] == [True]
    client.close()
    server.close()
    wait_until(lambda: told(2, 3, 7), 5, "TIME_WAIT", explain=lambda: str(states))


def test_what_is_filtered_wakes_nobody(net: NatPair, opened) -> None:
    """Events come in order: when the last flow's is the first to come, no other has come."""
    router = net.routers[0]
    own = frozenset(
        map(socket.inet_aton, (OWN[4].format(1), VIP[4], "192.168.1.11", "192.168.1.1", "192.168.0.255"))
    )
    own6 = frozenset(
        socket.inet_pton(socket.AF_INET6, a) for a in (OWN[6].format(1), VIP[6], "2001:db8:1::11")
    )
    rules = Filter(
        protocols=frozenset({6, 17}), networks=((socket.inet_aton("192.168.0.77"), 32),), local=own | own6
    )
    restorer = opened(router, Restorer)
    events = opened(router, lambda: Events(rules, (restorer.port,)))
    restorer.restore(Builder().chunks(flows(50)))  # our own
    assert finish(restorer).failed == 0
    for protocol in (1, 132, 253):  # protocols
        provoke(net, 4, protocol)
    with net.socket(router, socket.SOCK_DGRAM) as sender:  # loopback, from the router, multicast
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.168.1.11"))
        for address in ("127.0.0.1", SERVER[4], "224.0.0.251"):
            sender.sendto(b"x", (address, 5000))
    with net.socket(net.server, socket.SOCK_DGRAM) as sender:  # to the router, broadcast
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for address in (OWN[4].format(1), VIP[4], "192.168.0.255"):
            sender.sendto(b"x", (address, 5000))
    with net.socket(net.client, socket.SOCK_DGRAM) as sender:  # an address
        sender.sendto(b"x", ("192.168.0.77", 5000))
    provoke(net, 4, 17)
    assert select.select([events], [], [], 5)[0]
    (first,) = events.read(1)
    assert parse(first)[1][3:12] == b"\x11" + socket.inet_aton(CLIENT[4]) + socket.inet_aton(SERVER[4])
    wait_until(lambda: len(dumped(router)) == 61, 10, "50 of ours, 10 that nobody wants, and the last")
    assert len(dumped(router, rules)) == 51  # the router's own restore, and the last


def test_long_lists_are_left_to_python(net: NatPair, opened) -> None:
    rules = Filter(local=frozenset(bytes([10, 9, 8, n]) for n in range(100)) | {socket.inet_aton(VIP[4])})
    assert not rules.fits
    events = opened(net.routers[0], lambda: Events(rules))
    with net.socket(net.server, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (VIP[4], 5000))
    provoke(net, 4, 17)
    found: list[bytes] = []
    wait_until(lambda: found.extend(events.read()) or (found and events.filtered), 10, "both events")
    assert next(iter(entries(found)))[4:8] == socket.inet_aton(CLIENT[4])
    events.set_filter(Filter(local=frozenset({socket.inet_aton(VIP[4])})))  # back to the kernel's
    before = events.filtered
    provoke(net, 4, 17)
    wait_until(lambda: events.read(), 10, "an event")
    assert events.filtered == before


def test_lost_events_are_noticed(where: str, opened) -> None:
    events = opened(where, lambda: Events(Filter(), receive_buffer=4096))
    restorer = opened(where, Restorer)
    restorer.restore(Builder().chunks(flows(200)))
    assert finish(restorer).failed == 0
    assert len(events.read()) < 100
    assert events.overruns == 1 and events.drained
    # Heard again after the queue was empty; and the dump has what was lost.
    restorer.restore(Builder().chunks(flows(1, first=500)))
    finish(restorer)
    assert len(events.read()) == 1 and events.overruns == 1
    assert len(dumped(where)) == 201


def test_pause_and_resume(where: str, opened) -> None:
    events, restorer = opened(where, lambda: Events(Filter())), opened(where, Restorer)

    def restore(first: int) -> list[bytes]:
        restorer.restore(Builder().chunks(flows(10, first=first)))
        assert finish(restorer).failed == 0
        return events.read()

    assert len(restore(0)) == 10
    events.pause()
    assert restore(10) == []
    events.resume()
    assert len(restore(20)) == 10
    assert len(dumped(where)) == 30


# --- dump -----------------------------------------------------------------------------------


def test_dump_filters(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    marked = [(key, bytes([body[0] | 8]) + body[1:12] + b"\0\0\0\7" + body[12:]) for key, body in flows(5)]
    restorer.restore(Builder().chunks(marked + flows(7, first=100)))
    assert finish(restorer).failed == 0
    assert len(dumped(where)) == len(dumped(where, family=4)) == 12
    assert dumped(where, family=6) == []
    assert len(dumped(where, mark=(7, 0xFF))) == 5
    assert dumped(where, expectations=True) == []
    assert dumped(where, Filter(protocols=frozenset({17}))) == []
    assert netns.enter(where, table_size)[0] == 12


def test_a_dump_comes_in_slices(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    restorer.restore(Builder().chunks(flows(2000)))
    finish(restorer)
    dump = opened(where, Dump)
    sizes = []
    while not dump.done:
        assert select.select([dump], [], [], 5)[0]
        sizes.append(len(dump.read(1)))
    assert sum(sizes) == dump.entries == 2000
    assert max(sizes) < 200


# --- restore ----------------------------------------------------------------------------------


def test_ten_thousand_entries(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    wanted = flows(10_000)
    restorer.restore(Builder().chunks(wanted))
    figures = finish(restorer)
    assert (figures.entries, figures.failed, figures.updated, figures.replaced) == (10_000, 0, 0, 0)
    assert figures.steps > figures.chunks > 20 and figures.bytes < figures.chunks * 65536
    found = entries(dumped(where))
    for key, body in wanted:
        left = int.from_bytes(found[key][TIMEOUT], "big")
        assert 590 <= left <= 600
        assert untimed(found[key]) == untimed(body)

    # Again with other values: an update, in whichever way.
    wanted = flows(10_000, state=5, timeout=60)
    restorer.restore(Builder().chunks(wanted))
    figures = finish(restorer)
    assert figures.failed == 0 and figures.updated + figures.replaced == 10_000
    assert figures.replaced > 9000  # it noticed
    found = entries(dumped(where))
    assert len(found) == 10_000 and {body[7] for body in found.values()} == {5}

    restorer.delete(Builder().deletes(key for key, _ in flows(10_100)))
    figures = finish(restorer)
    assert (figures.entries, figures.gone, figures.failed) == (10_100, 100, 0)
    assert dumped(where) == []


def test_entries_that_stand_in_the_way(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    wanted = flows(60)
    same, other, further, clash, free = (wanted[n : n + 10] for n in (0, 10, 20, 30, 50))
    before = flows(10, state=2, timeout=10)
    before += flows(10, first=10, snat="192.168.0.99")
    assert all(key == known for (key, _), (known, _) in zip(before, same + other, strict=True))
    restorer.restore(Builder().chunks(before + further))
    # The server's packet to the virtual address, taken for a new connection.
    vip, server = socket.inet_aton(VIP[4]), socket.inet_aton(SERVER[4])
    reverse = [
        (b"\0\0\4\6" + server + vip + key[14:16] + key[12:14], b"\4" + body[1:12]) for key, body in clash
    ]
    assert finish(restorer).failed == 0
    restorer.restore(Builder().chunks(reverse))
    assert finish(restorer).failed == 0

    # `further` has been seen more of by the kernel: no ASSURED in ours.
    ours = [(key, body[:2] + b"\x0a" + body[3:]) for key, body in further]
    restorer.restore(Builder().chunks(same + other + ours + clash + free + flows(40, first=1000)))
    figures = finish(restorer)
    assert restorer.failures == []
    assert (figures.updated, figures.replaced, figures.clashed) == (20, 10, 10)
    found = entries(dumped(where))
    assert len(found) == 90
    for key, body in same + other + further + clash + free:
        assert untimed(found[key]) == untimed(body)
        assert int.from_bytes(found[key][TIMEOUT], "big") > 500


def test_what_cannot_be_restored_is_told_by_key(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    # Their masters, of which they are a part, are not there.
    bad = [
        (
            key[:2] + b"\x44" + key[3:] + key[4:] + b"\6",
            b"\xff" + struct.pack("!III", 300, 0, 0) + bytes(12) + b"\xff" * 16 + b"ftp\0\0",
        )
        for key, _ in flows(2)
    ]
    restorer.restore(Builder().chunks(bad + flows(5, first=10)))
    figures = finish(restorer)
    assert figures.entries == 7 and figures.failed == 2 == sum(figures.errors.values())
    assert [key for key, _ in restorer.failures] == [key for key, _ in bad]
    assert len(dumped(where)) == 5
    restorer.restore([Chunk(b"x" * (4 << 20), 1, flows(1))])  # longer than any send
    assert finish(restorer).failed == 1 and restorer.failures[0][0] == b""


def with_tail(entry: Entry, **values: bytes) -> Entry:
    """The entry with a helper or a master."""
    key, body = entry
    kinds = {"master": T_MASTER, "helper": T_HELPER}
    rare = {kinds[name]: value for name, value in values.items()}
    return key, bytes((body[0] | TAIL,)) + body[1:] + pack_tail(rare)


def nat(body: bytes) -> bytes:
    """The parts on which a TCP connection depends: its state and its translation."""
    return body[7:18]


def test_a_helper_that_this_kernel_lacks_costs_the_helper_only(where: str, opened) -> None:
    """The other router had it. Nobody asks for it more than once, which takes a program each time."""
    restorer = opened(where, Restorer)
    wanted = [with_tail(entry, helper=b"nosuch") for entry in flows(300)]
    wanted += [with_tail(entry, helper=b"ftp") for entry in flows(300, first=300)]
    wanted += [with_tail(entry, master=wanted[299][0]) for entry in flows(20, first=600)]
    restorer.restore(Builder().chunks(wanted))
    figures = finish(restorer)
    assert (figures.entries, figures.failed, figures.alone) == (620, 0, 1)
    found = entries(dumped(where))
    assert {key: nat(body) for key, body in found.items()} == {key: nat(body) for key, body in wanted}
    assert sum(tail(body).get(T_HELPER) == b"ftp" for body in found.values()) == 300
    assert sum(T_MASTER in tail(body) for body in found.values()) == 20
    before = restorer.figures.chunks
    restorer.restore(Builder().chunks([with_tail(entry, helper=b"nosuch") for entry in flows(9, first=900)]))
    assert finish(restorer).failed == 0 and restorer.figures.chunks < before
    assert restorer.figures.chunks == 1

    # The same once more: they are there, with and without.
    restorer.restore(Builder().chunks(wanted))
    figures = finish(restorer)
    assert (figures.failed, figures.updated + figures.replaced) == (0, 620)
    assert len(dumped(where)) == 629


def test_many_helpers_that_nobody_has_take_a_step_each(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    wanted = [with_tail(entry, helper=b"none%d" % number) for number, entry in enumerate(flows(200))]
    restorer.restore(Builder().chunks(wanted))
    figures = finish(restorer)
    assert (figures.failed, figures.alone) == (0, 200) and figures.steps > 200
    assert len(dumped(where)) == 200


def test_what_outlives_its_master_is_restored_without(where: str, opened) -> None:
    """A transfer whose control connection is closed, a call whose INVITE is long ago."""
    restorer = opened(where, Restorer)
    gone = flows(1, first=5000)[0][0]
    wanted = [with_tail(entry, master=gone, helper=b"ftp") for entry in flows(2)]
    wanted += [with_tail(entry, master=gone) for entry in flows(300, first=10)]
    for _ in range(2):
        restorer.restore(Builder().chunks(wanted))
        assert finish(restorer).failed == 0
        found = entries(dumped(where))
        assert {key: nat(body) for key, body in found.items()} == {key: nat(body) for key, body in wanted}


def test_a_dump_can_be_deleted(where: str, opened) -> None:
    restorer = opened(where, Restorer)
    zoned = [(b"\0\7" + key[2:], bytes([body[0] | 0x40]) + body[1:]) for key, body in flows(5)]
    restorer.restore(Builder().chunks(flows(5) + zoned))
    assert finish(restorer).failed == 0
    messages = dumped(where, Filter(zones=frozenset({7})))
    assert len(messages) == 5
    data = b"".join(deletion(message, number) for number, message in enumerate(messages, 1))
    restorer.delete([Chunk(data, 1, zoned)])
    figures = finish(restorer)
    assert figures.failed == figures.gone == 0
    assert set(entries(dumped(where))) == {key for key, _ in flows(5)}


def test_the_loop_goes_on_during_a_restore(where: str, opened) -> None:
    """A timer that is due in the meantime waits for one step at the most, however long the restore takes."""
    restorer = opened(where, Restorer)
    loop, period, steps, adverts = Loop(), 10 * MILLISECOND, [], []

    def advert(now: int) -> None:
        adverts.append((due[0], loop.now()))
        due[0] = now + period
        loop.call_at("advert", due[0], advert)

    def step(now: int) -> None:
        steps.append(now)  # of the turn: a timer that falls due from now on waits for the next one
        if restorer.step():
            loop.stop()
        else:
            loop.call_at("restore", now, step)

    restorer.restore(Builder().chunks(flows(30_000)))
    due = [loop.now()]
    loop.call_at("advert", due[0], advert)
    loop.call_at("restore", loop.now(), step)
    loop.run()
    loop.close()
    assert restorer.figures.failed == 0 and len(steps) > 80
    waited = [sum(when < began < said for began in steps) for when, said in adverts]
    assert len(waited) > 3 and max(waited) <= 1


# --- a live connection ---------------------------------------------------------------------------


def hear(end: socket.socket, count: int) -> int:
    got = 0
    while got < count:
        data = end.recv(65536)
        if not data:
            break
        got += len(data)
    return got


@pytest.mark.parametrize("net", [2], indirect=True)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("restored", [True, False])
def test_a_live_connection_moves(net: NatPair, opened, family: int, restored: bool) -> None:
    """The server speaks and the client only listens. Without the entry the new router resets it."""
    client, server = net.connection(family)
    with client, server:
        server.sendall(bytes(100_000))
        assert hear(client, 100_000) == 100_000
        assert client.getpeername()[0] == str(server.getsockname()[0])
        known = [(key, body) for key, body in entries(dumped(net.routers[0])).items() if key[3] == 6]
        assert len(known) == 1
        net.fail(0)
        if restored:
            restorer = opened(net.routers[1], Restorer)
            restorer.restore(Builder().chunks(known))
            assert finish(restorer).failed == 0
        net.activate(1)
        if not restored:
            client.settimeout(2)
            with pytest.raises((ConnectionResetError, TimeoutError)):
                server.sendall(bytes(1000))
                assert hear(client, 1000) == 1000
            return
        server.sendall(bytes(1000))
        assert hear(client, 1000) == 1000
        server.setblocking(True)
        for _ in range(20):  # full speed, with window scaling
            server.sendall(bytes(100_000))
            assert hear(client, 100_000) == 100_000
        client.sendall(b"thanks")
        assert server.recv(100) == b"thanks"


# --- the rest ---------------------------------------------------------------------------------------


def test_settings_are_held_and_put_back(where: str, tmp_path) -> None:
    netns.write_sysctls(where, {"netfilter/nf_conntrack_events": 2})

    def body() -> None:
        sysctls = Sysctls(str(tmp_path / "sysctls.json"))
        assert sysctls.hold("replication", SETTINGS) == []
        found = [Path("/proc/sys", *path).read_text().strip() for path, _ in SETTINGS]
        assert found == [value for _, value in SETTINGS]
        assert sysctls.release("replication") == []

    netns.enter(where, body)
    assert netns.read_sysctl(where, "netfilter/nf_conntrack_events") == "2"
    assert netns.read_sysctl(where, "netfilter/nf_conntrack_tcp_loose") == "1"
