# SPDX-License-Identifier: GPL-2.0-or-later
"""The replication channel on real sockets: two routers with a dedicated cable and a LAN between them."""

from __future__ import annotations

import fcntl
import os
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tandem.channel import connector, listeners, peer_link
from tandem.channel.events import Acked, Closed, Opened
from tandem.channel.patience import ENOUGH
from tandem.channel.peer_socket import Path
from tandem.loop import MILLISECOND
from tests.lab.netns import enter, ip_batch
from tests.lab.wait import stays, wait_until
from tests.netns.channel_pair import Cables, connections, in_step, up
from tests.netns.rogue import connect
from tests.property.replication_link import SECRET, new

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def cables() -> Iterator[Cables]:
    with ExitStack() as stack:
        result = Cables()
        stack.callback(result.remove)
        result.build()
        yield result


def test_connects_and_streams(cables: Cables) -> None:
    left, right = cables.pair(router_id="box")
    left.own.apply_all([new(number) for number in range(5000)])
    left.do(left.channel.stream_on)
    up(left, right, path="10.1.0")
    in_step(left, right)
    position = left.change([new(9000), new(9001)], urgent=True)
    wait_until(lambda: left.do(left.channel.acked_position) == position, 10)
    assert left.events[-1] == Acked(position)
    in_step(left, right)
    status = left.peer
    assert status["preferred"]
    assert status["authenticated"]
    assert status["router_id"] == "box"
    assert 1 <= status["totals"]["bulks"] <= 2  # two, when both connected at the same moment
    assert status["lag_records"] == 0
    assert left.do(left.channel.status)["listening"] == [
        "10.1.0.1 port 3780 on sync",
        "10.2.0.1 port 3780 on lan",
    ]
    # One session, and it stays. The side that gave up its own when two crossed has counted two.
    wait_until(lambda: connections(left, right) == [1, 1], 10)
    counted = [router.peer["sessions"] for router in (left, right)]
    assert set(counted) <= {1, 2}
    stays(lambda: [router.peer["sessions"] for router in (left, right)] == counted, 0.7)
    assert [router.peer["state"] for router in (left, right)] == ["up", "up"]
    assert connections(left, right) == [1, 1]


def test_a_patient_backup_lets_records_wait_and_reads_them_before_it_takes_over(cables: Cables) -> None:
    left, right = cables.pair()
    left.do(left.channel.stream_on)
    up(left, right)
    left.change([new(1)])
    in_step(left, right)
    numbers = count(2)

    def bytes_that_wake() -> int:
        current = right.channel.links["peer"].current
        assert current is not None
        return current._sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)

    def sent(least: int) -> bool:
        left.change([new(next(numbers))])
        return right.do(bytes_that_wake) == least

    def comes(then: Callable[[], None]) -> bool:
        """Whether right knows a record that has come while its loop stood still, after `then`."""
        current = right.channel.links["peer"].current
        assert current is not None
        left.change([new(next(numbers))])
        wait_until(lambda: fcntl.ioctl(current._sock, termios.FIONREAD, bytes(4)) != bytes(4), 10)
        then()
        return right.held.entries == left.own.entries

    right.do(lambda: right.channel.be_patient(True))
    wait_until(lambda: sent(ENOUGH), 10, "records that come one after the other wait", every=0.01)
    assert right.do(lambda: comes(right.channel.look)), "who asks for the table gets all of it"
    wait_until(lambda: sent(ENOUGH), 10, every=0.01)
    left.do(lambda: left.channel.be_awaited(True))
    wait_until(lambda: sent(1), 10, "somebody waits for acknowledgements", every=0.01)
    left.do(lambda: left.channel.be_awaited(False))
    wait_until(lambda: sent(ENOUGH), 10, every=0.01)
    assert right.do(lambda: comes(lambda: right.channel.be_patient(False))), "it takes over"
    assert right.do(bytes_that_wake) == 1
    right.do(lambda: right.channel.be_patient(True))
    wait_until(lambda: sent(ENOUGH), 10, every=0.01)
    in_step(left, right)  # by itself


def test_what_was_made_with_a_removed_key_ends(cables: Cables) -> None:
    both = {1: SECRET, 2: b"the one of the next month"}
    left, right = cables.router(0, secrets=both, key_id=2), cables.router(1, secrets=both, key_id=1)
    up(left, right)
    left.reload(secrets=both | {3: b"one that nobody uses yet"})
    before = left.peer["sessions"]
    left.reload(secrets={2: both[2]})
    wait_until(lambda: left.counters.get("unknown_key"), 10, "the other one may not come back with it")
    assert left.peer["state"] == "down" and left.peer["sessions"] == before
    left.reload(secrets=both)
    up(left, right)


def test_a_reload_ends_only_what_it_changes(cables: Cables) -> None:
    left, right = cables.pair()
    left.own.apply_all([new(1)])
    left.do(left.channel.stream_on)
    up(left, right, path="10.1.0")
    in_step(left, right)
    wait_until(lambda: connections(left, right) == [1, 1], 10)
    link, session = left.do(lambda: (left.channel.links["peer"], left.channel.links["peer"].current))
    left.reload(secrets={**left.settings.secrets, 2: b"the one of the next month"})
    assert left.do(lambda: (left.channel.links["peer"], left.channel.links["peer"].current)) == (
        link,
        session,
    )
    left.reload(paths=cables.paths(0)[1:])
    up(left, right, path="10.2.0")
    in_step(left, right)  # the stream goes on in the new session
    left.do(lambda: left.channel.reload([]))
    wait_until(lambda: right.peer["state"] == "down", 10)
    assert left.do(left.channel.status)["listening"] == []
    left.reload(stall_timeout=5_000 * MILLISECOND)
    up(left, right)
    in_step(left, right)


def test_connections_are_one_use_of_the_channel(cables: Cables) -> None:
    """Topics work without them, and each end may begin and end to replicate while the other end goes on."""
    left, right = cables.router(0), cables.router(1, replicates=False)
    left.own.apply_all([new(1)])
    left.do(left.channel.stream_on)
    up(left, right)
    wait_until(lambda: left.heard[-1:] == [b"from 2"] and right.heard[-1:] == [b"from 1"], 10)
    assert not left.peer["streaming"] and not left.do(left.channel.are_known)
    right.do(lambda: right.channel.join(right))
    in_step(left, right)
    right.do(lambda: right.channel.leave(right))
    up(left, right)
    wait_until(lambda: left.heard[-1:] == [b"from 2"] and not left.peer["streaming"], 10)
    assert right.held.entries == left.own.entries


def test_who_is_not_on_the_link_is_not_heard(cables: Cables) -> None:
    left = cables.router(0, paths=(Path("10.1.0.2"),))
    wait_until(lambda: left.do(left.channel.status)["listening"] == ["10.1.0.1 port 3780"], 10)

    def attempt(address: str, ttl: int) -> str:
        with socket.socket() as sock:
            sock.settimeout(1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            try:
                sock.connect((address, 3780))
            except OSError as error:
                return type(error).__name__
        return "connected"

    def attempts() -> list[str]:
        return [attempt("10.1.0.1", 255), attempt("10.1.0.1", 254), attempt("10.2.0.1", 255)]

    assert enter(cables.names[1], attempts) == ["connected", "TimeoutError", "ConnectionRefusedError"]


def test_a_router_of_an_older_release_is_connected_to(cables: Cables) -> None:
    """A peer with the usual hop limit, whose own connections are not heard."""
    cables.router(0, paths=(Path("10.1.0.2"),))

    def older() -> bool:
        with socket.create_server(("10.1.0.2", 3780)) as listener:
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
            listener.settimeout(10)
            with listener.accept()[0] as sock:
                sock.settimeout(10)
                return sock.recv(4) == b"TNDM"

    assert enter(cables.names[1], older)


def test_messages_of_a_topic(cables: Cables) -> None:
    left = cables.router(0)
    assert not left.do(lambda: left.channel.send("peer", "notes", b"to nobody"))
    right = cables.router(1)
    for router, word in ((left, b"from 2"), (right, b"from 1")):
        wait_until(lambda heard=router.heard, word=word: heard[-2:] == ["opened", word], 10)  # type: ignore[misc]
    assert left.do(lambda: left.channel.send("peer", "other", b"data"))
    wait_until(lambda: right.counters.get("unknown_topic") == 1, 10)
    right.stop()
    wait_until(lambda: left.heard[-1] == "closed", 10)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Path("fd01::2"), Path("fd01::1")),
        (Path("fe80::2%sync"), Path("fe80::1%sync")),
        (Path("10.1.0.2", 4000, "10.1.0.1"), Path("10.1.0.1", 4000, "10.1.0.2")),
    ],
)
def test_addresses(cables: Cables, ours: Path, theirs: Path) -> None:
    left = cables.router(0, paths=(ours,))
    right = cables.router(1, paths=(theirs,))
    right.do(right.channel.stream_on)
    right.own.apply_all([new(1)])
    up(left, right)
    right.change([new(2)])
    in_step(right, left)


def test_goodbye_and_a_new_daemon(cables: Cables) -> None:
    left, right = cables.pair()
    left.own.apply_all([new(1)])
    left.do(left.channel.stream_on)
    in_step(left, right)
    left.stop()
    wait_until(lambda: any(isinstance(event, Closed) for event in right.events), 10)
    assert Closed("peer_stopped", "the peer said goodbye: stopped") in right.events
    assert right.held.entries == left.own.entries  # that is what it is for
    again = cables.router(0, node=9)
    again.own.apply_all([new(3)])
    again.do(again.channel.stream_on)
    up(again, right)
    in_step(again, right)


def test_a_daemon_that_was_killed_comes_back(cables: Cables) -> None:
    """The other end still believes in the old connection when the new one arrives."""
    left, right = cables.pair(heartbeat=10_000 * MILLISECOND)
    left.do(left.channel.stream_on)
    up(left, right)
    for name in cables.names:
        ip_batch(["link set sync down", "link set lan down"], name)
    left.stop()  # nobody hears its goodbye
    ip_batch(["link set sync up", "link set lan up"], cables.names[0])
    ip_batch(["link set sync up", "link set lan up"], cables.names[1])
    again = cables.router(0, node=9)
    again.do(again.channel.stream_on)
    up(again, right)
    wait_until(lambda: right.peer["sessions"] >= 2, 10)
    in_step(again, right)


def test_the_dedicated_cable_fails_and_comes_back(cables: Cables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "PROBE", 300 * MILLISECOND)
    monkeypatch.setattr(connector, "PROBE_MAX", 300 * MILLISECOND)
    left, right = cables.pair()
    left.own.apply_all([new(number) for number in range(100)])
    left.do(left.channel.stream_on)
    up(left, right, path="10.1.0")
    in_step(left, right)
    cables.cut("sync", "down")
    left.change([new(500)])
    up(left, right, path="10.2.0")
    in_step(left, right)
    assert not left.peer["preferred"]
    left.change([new(501)])
    cables.cut("sync", "up")
    up(left, right, path="10.1.0")
    in_step(left, right)
    left.change([new(502)])
    in_step(left, right)
    assert left.peer["last_error"] == ""


def test_the_interface_is_made_anew(cables: Cables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "LISTEN_CHECK", 200 * MILLISECOND)
    left, right = cables.pair()
    left.do(left.channel.stream_on)
    up(left, right, path="10.1.0")
    ip_batch(["link del sync"], cables.names[0])
    up(left, right, path="10.2.0")
    one, two = cables.names
    ip_batch([f"link add sync type veth peer name sync netns {two}"], one)
    for number, name in enumerate(cables.names, 1):
        ip_batch(["link set sync up", f"address add 10.1.0.{number}/24 dev sync"], name)

    def connects() -> bool:
        try:
            connect("10.1.0.1", 1).close()
        except OSError:
            return False
        return True

    wait_until(lambda: enter(two, connects), 10)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"secrets": {1: b"quite another secret ..."}}, "authentication"),
        ({"secrets": {2: SECRET}, "key_id": 2}, "unknown_key"),
        ({"secrets": {}, "key_id": 0, "insecure": True}, "insecure"),
    ],
)
def test_no_session_without_the_secret(cables: Cables, settings: dict[str, object], reason: str) -> None:
    left = cables.router(0)
    right = cables.router(1, **settings)
    wait_until(
        lambda: left.counters.get(reason) and right.counters.get(reason),
        10,
        explain=lambda: str(left.counters),
    )
    assert left.peer["state"] == right.peer["state"] == "down"
    assert not left.events
    assert any(reason in line or "secret" in line or "key id" in line for line in left.log.lines)


def test_strangers_and_crowds(cables: Cables) -> None:
    left = cables.router(0)
    ip_batch(["address add 10.1.0.7/24 dev sync"], cables.names[1])

    def stranger(source: str) -> socket.socket:
        return connect("10.1.0.1", 5, source)

    def refused() -> bool:
        try:
            with stranger("10.1.0.7") as sock:
                return sock.recv(1) == b""
        except ConnectionResetError:
            return True

    assert enter(cables.names[1], refused)
    wait_until(lambda: left.counters.get("stranger") == 1, 10)
    with ExitStack() as stack:
        socks = [stack.enter_context(enter(cables.names[1], lambda: stranger("10.1.0.2"))) for _ in range(10)]
        wait_until(lambda: left.counters.get("crowded") == 10 - peer_link.UNOPENED_MAX, 10)
        assert connections(left) == [peer_link.UNOPENED_MAX]
        # A crowd does not keep the peer out.
        right = cables.router(1)
        up(left, right)
        with pytest.raises(ConnectionError):  # reset, as it said more than was read
            socks[-1].sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
            while socks[-1].recv(100):
                pass
            raise ConnectionError("or closed")
    wait_until(lambda: connections(left) == [1], 10)


def test_a_peer_that_never_reads(cables: Cables) -> None:
    """Its kernel's buffers fill; ours is the queue limit, and then it is cut off."""
    left, right = cables.pair(queue_limit=500_000, stall_timeout=1500 * MILLISECOND)
    left.own.can_digest = False  # this table's digest is not as cheap as the real one's
    left.do(left.channel.stream_on)
    up(left, right)
    in_step(left, right)
    hold, reads = threading.Event(), threading.Event()
    worst = 0

    def hang() -> None:
        hold.wait(60)
        reads.set()

    right._work.put(hang)  # the whole router hangs
    os.write(right._bell, b"!")
    for number in range(80):
        left.change([new(100_000 + 1000 * number + i) for i in range(1000)])
        connection = left.channel.links["peer"].current
        if connection is not None:
            worst = max(worst, connection.session.outgoing.queued)
    wait_until(lambda: any(isinstance(event, Closed) for event in left.events), 20)
    assert not reads.is_set()  # we never waited in a send: that would have lasted until the other one reads
    assert 250_000 < worst <= 500_000
    hold.set()
    up(left, right)
    wait_until(lambda: left.peer.get("in_step") and left.own.entries == right.held.entries, 60)
    assert left.peer["sessions"] > 1


def test_bulk_while_records_flow(cables: Cables) -> None:
    left, right = cables.pair()
    left.own.slice_size = 200
    left.own.can_digest = right.held.can_digest = False
    left.own.apply_all([new(number) for number in range(20_000)])
    up(left, right)
    wait_until(lambda: connections(left, right) == [1, 1], 10)
    left.do(left.channel.stream_on)
    for number in range(100):
        left.change([new(30_000 + number)])
    in_step(left, right)
    assert left.peer["totals"]["bulks"] == 1
    assert [type(event) for event in left.events[:1]] == [Opened]
