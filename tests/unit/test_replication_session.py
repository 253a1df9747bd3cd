# SPDX-License-Identifier: GPL-2.0-or-later
"""The peer protocol: handshake, harm on the way, nonsense of a peer that has the secret, limits of time."""

from __future__ import annotations

import pytest

from tandem.channel import frames, session
from tandem.channel.events import Closed, Message
from tandem.channel.frames import HEAD, HELLO_MAX, MAC_SIZE, Hello, ProtocolError, Seal
from tandem.channel.session import OPENED
from tandem.channel.settings import Settings
from tandem.channel.topics import DATA_MAX
from tandem.core.timers import MILLISECOND, SECOND
from tests.property.replication_link import (
    SECRET,
    End,
    Link,
    Table,
    body,
    closed,
    destroy,
    new,
    pair,
    streaming,
    update,
)

OTHER = b"quite another secret ..."


# Handshake


def test_which_secrets_a_connection_is_made_with() -> None:
    both = {1: SECRET, 2: OTHER}
    link = pair({"secrets": both, "key_id": 1}, {"secrets": both, "key_id": 2})
    for end in link.ends:
        assert end.session.knows(both)
        assert end.session.knows(both | {3: b"another one, that is new"})
        for number in both:  # each direction has its own
            assert not end.session.knows({number: both[number]})
            assert not end.session.knows(both | {number: b"another one, that is new"})
    waiting = End(1, secrets=both)
    waiting.begin(True, 0)
    assert not waiting.session.knows({1: SECRET}), "the peer may still choose the other one"


def test_opens() -> None:
    link = pair({"router_id": "r1"}, {"router_id": "r2" * 40})
    left, right = link.ends
    assert left.session.state == right.session.state == OPENED
    assert left.session.peer and right.session.peer
    assert right.session.peer.router_id == "r1"
    assert left.session.peer.router_id == ("r2" * 40)[:32]
    assert left.session.peer.node == bytes([2] * 8)


def test_a_peer_by_another_name_is_refused() -> None:
    named: dict[str, object] = {"peer_id": "r2"}
    assert closed(pair(named, {"router_id": "r2"})) == (None, None)
    assert closed(pair(named, {"router_id": "r3"}))[0] == "identity"
    assert closed(pair({"peer_id": "é" * 40}, {"router_id": "é" * 40})) == (None, None)  # both are cut


def without_connections(monkeypatch: pytest.MonkeyPatch, older: bool) -> Link:
    """The left end streams, the right end replicates no connections; an `older` one does not say so."""
    link = Link(End(1), End(2))
    left, right = link.ends
    left.own.apply_all([new(1)])
    right.replicates = False
    if older:
        monkeypatch.setattr(session, "NO_CONNECTIONS", 0)
    link.connect()
    link.settle()
    left.session.stream_on(left.position, link.now)
    link.settle()
    assert (left.session.state, right.session.state) == (OPENED, OPENED)
    return link


def test_who_replicates_no_connections_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    link = without_connections(monkeypatch, older=False)
    left, right = link.ends
    assert not left.session.replicates and not left.session.outgoing.on
    assert right.session.send("notes", b"a topic") and left.session.send("notes", b"another")
    link.settle()
    assert [end.last(Message) for end in link.ends] == [
        Message("notes", b"a topic"),
        Message("notes", b"another"),
    ]


def test_what_no_table_keeps_is_never_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that streams all the same must not believe that its connections are safe."""
    link = without_connections(monkeypatch, older=True)
    left, right = link.ends
    assert left.session.outgoing.on and right.session.incoming.on
    for number in range(2, 5):
        left.change([new(number)], link.now)
        link.run(20 * SECOND)
    assert not left.session.outgoing.in_step and not right.session.incoming.in_step
    assert left.session.outgoing.bulks == 1 and left.session.outgoing.acked == 3
    left.session.stream_off()
    link.settle()
    left.session.stream_on(left.position, link.now, adopt=True)
    link.run(5 * SECOND)
    assert (left.closed, right.closed) == (None, None) and not right.held.entries


def test_one_byte_at_a_time() -> None:
    link = pair(piece=1)
    assert {end.session.state for end in link.ends} == {OPENED}


@pytest.mark.parametrize("who", [0, 1])
def test_wrong_secret(who: int) -> None:
    wrong: dict[str, object] = {"secrets": {1: OTHER}}
    link = pair(*((wrong, {}) if who == 0 else ({}, wrong)))
    assert closed(link) == (None, "authentication")
    # The stranger saw a hello, and nothing that was made with the secret.
    assert b"".join(link.carried[1]) == link.ends[1].session._hello


def test_a_responder_without_the_secret_fails_too() -> None:
    link = pair({}, {"secrets": {1: SECRET}})
    fresh = Link(End(1), End(2, secrets={1: OTHER}))
    fresh.collect()
    fresh.deliver(0, 1000)
    fresh.collect()
    fresh.deliver(1, 1000)
    # The session sends an AUTH all the same, made with its own key.
    liar = fresh.ends[1].session
    assert liar._seal is not None
    fresh.ends[0].take(
        fresh.ends[0].session.receive_data(liar._seal.make(frames.AUTH, 0, b""), fresh.now), fresh.now
    )
    assert fresh.ends[0].closed == "authentication"
    assert link.ends[0].closed is None


def test_unknown_key_id() -> None:
    link = pair({"secrets": {7: SECRET}, "key_id": 7})
    assert closed(link) == (None, "unknown_key")
    assert not link.carried[1]


@pytest.mark.parametrize("ours", [1, 2])
@pytest.mark.parametrize("theirs", [1, 2])
def test_rotation(ours: int, theirs: int) -> None:
    both = {1: SECRET, 2: OTHER}
    link = pair({"secrets": both, "key_id": ours}, {"secrets": both, "key_id": theirs})
    assert closed(link) == (None, None)
    link.ends[0].session.stream_on(0, link.now)
    link.settle()
    assert link.ends[0].session.outgoing.in_step


@pytest.mark.parametrize("who", [0, 1])
def test_insecure_on_one_side_only(who: int) -> None:
    open_: dict[str, object] = {"secrets": {}, "key_id": 0, "insecure": True}
    link = pair(*((open_, {}) if who == 0 else ({}, open_)))
    assert closed(link) == (None, "insecure")
    assert not link.carried[1]


def test_insecure_on_both_sides() -> None:
    open_: dict[str, object] = {"secrets": {}, "key_id": 0, "insecure": True}
    link = pair(open_, open_)
    assert closed(link) == (None, None)


def test_version_mismatch_is_told_to_both(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Link(End(1), End(2))
    later = Hello(bytes([1] * 8), bytes(16), 1, versions=(2, 3)).encode()
    link.ends[0].session._raw = later
    link.settle()
    assert link.ends[1].closed == "version"
    assert b"".join(link.carried[1]) == link.ends[1].session._hello
    assert link.ends[1].session.closed is not None
    assert link.ends[1].session.closed.detail == "the peer speaks versions 2..3, this router 1..1"
    monkeypatch.setattr(frames, "VERSIONS", (2, 3))
    with pytest.raises(ProtocolError) as error:
        frames.decode_hello(b"".join(link.carried[1]))
    assert error.value.reason == "version"


def test_a_later_hello_may_be_longer() -> None:
    hello = Hello(bytes(8), bytes(16), 1, "r1").encode()
    prefix = frames._PREFIX.size
    longer = hello[: prefix - 2] + (len(hello) - prefix + 5).to_bytes(2, "big") + hello[prefix:] + b"later"
    found = frames.decode_hello(longer + b"more")
    assert found is not None
    assert found == (Hello(bytes(8), bytes(16), 1, "r1"), len(longer))


def test_itself() -> None:
    link = pair({}, {"node": bytes([1] * 8)})
    assert closed(link) == (None, "self")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"T", b"TNDX", bytes(400), b"TNDM\1\1\xff\xff", b"\x16\x03\x01"]
)
def test_garbage_costs_little(data: bytes) -> None:
    link = Link(End(1), End(2))
    right = link.ends[1]
    right.take(right.session.receive_data(data, link.now), link.now)
    if right.closed is None:
        assert len(right.session._buffer) <= HELLO_MAX
        link.now += 5 * SECOND
        right.take(right.session.handle_timer(link.now), link.now)
    assert right.closed in {"magic", "hello", "handshake_timeout"}
    assert right.session.data_to_send(link.now) == b""
    assert right.session.receive_data(b"more", link.now) == []


def test_silence_is_given_five_seconds() -> None:
    link = Link(End(1), End(2))
    right = link.ends[1].session
    assert right.next_deadline() == link.now + 5 * SECOND
    assert right.handle_timer(link.now + 5 * SECOND - 1) == []
    assert right.handle_timer(link.now + 5 * SECOND) == [
        Closed("handshake_timeout", "the handshake took too long")
    ]
    assert right.next_deadline() is None


def test_an_authenticated_connection_must_be_opened() -> None:
    link = Link(End(1), End(2))
    link.ends[0].take = lambda events, now: None  # type: ignore[method-assign]
    link.settle()
    assert link.ends[1].session.state == session.READY
    link.run(5 * SECOND)
    assert closed(link) == ("handshake_timeout", "handshake_timeout")


def test_no_more_than_an_authentication_before_it() -> None:
    link = Link(End(1), End(2))
    link.collect()
    link.deliver(0, 1000)
    right = link.ends[1]
    right.take(right.session.receive_data(HEAD.pack(1, frames.RECORDS, 0), link.now), link.now)
    assert right.closed == "frame_size"


def test_a_recorded_session_is_no_use() -> None:
    link = streaming(10)
    recorded = b"".join(link.carried[0])
    victim = Link(End(1), link.ends[1])
    for start in range(len(recorded)):
        right = victim.ends[1]
        right.take(right.session.receive_data(recorded[start : start + 1], victim.now), victim.now)
    assert victim.ends[1].closed == "authentication"


def test_reflection() -> None:
    link = Link(End(1), End(2))
    link.collect()
    link.deliver(0, 1000)
    link.collect()
    link.deliver(1, 1000)
    left = link.ends[0]
    reflected = left.session.data_to_send(link.now)  # its own proof
    left.take(left.session.receive_data(reflected, link.now), link.now)
    assert left.closed == "authentication"
    # And its own hello.
    other = Link(End(1), End(2))
    left = other.ends[0]
    left.take(left.session.receive_data(left.session.data_to_send(other.now), other.now), other.now)
    assert left.closed == "self"


def test_a_session_against_itself_by_a_relay_is_seen() -> None:
    link = Link(End(1), End(1))
    link.settle()
    assert link.ends[1].closed == "self"


def test_keys_differ_by_direction_nonce_and_secret() -> None:
    hello = b"hello" * 10
    seals = [
        Seal(SECRET, True, hello),
        Seal(SECRET, False, hello),
        Seal(SECRET, True, hello + b"x"),
        Seal(OTHER, True, hello),
        Seal(b"", True, hello),
    ]
    macs = [seal.mac(b"frame") for seal in seals] + [seals[0].mac(b"frame")]
    assert len(set(macs)) == len(macs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"insecure": True, "secrets": {1: SECRET}},
        {"secrets": {1: SECRET}, "key_id": 2},
        {"secrets": {1: b"too short"}, "key_id": 1},
        {"secrets": {1: bytes(65)}, "key_id": 1},
        {"secrets": {0: SECRET}, "key_id": 0},
        {"secrets": {256: SECRET}, "key_id": 256},
        {"insecure": True, "node": b"short"},
        {"insecure": True, "heartbeat": 0},
    ],
)
def test_settings_that_will_not_do(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Settings(**settings)  # type: ignore[arg-type]


# On the way


@pytest.mark.parametrize("harm", ["flip", "twice", "drop", "swap", "cut"])
@pytest.mark.parametrize("insecure", [False, True])
def test_harm_on_the_way_is_seen(harm: str, insecure: bool) -> None:
    link = streaming(3, **({"secrets": {}, "key_id": 0, "insecure": True} if insecure else {}))
    left, right = link.ends
    sent = []
    for number in range(3):
        left.change([update(1, number)], link.now, urgent=True)
        sent.append(left.session.data_to_send(link.now))
    one, two, three = sent
    data = {
        "flip": one[:20] + bytes([one[20] ^ 1]) + one[21:],
        "twice": one + one,
        "drop": one + three,
        "swap": two + one,
        "cut": one[:-1] + two,
    }[harm]
    right.take(right.session.receive_data(data + three, link.now), link.now)
    assert right.closed == "mac"
    assert right.session.data_to_send(link.now) == b""


# Time


def test_heartbeats_keep_an_idle_session() -> None:
    link = streaming(5)
    link.run(120 * SECOND)
    assert closed(link) == (None, None)
    assert all(end.session.pulse.seen > 110 for end in link.ends)


def test_a_heartbeat_brings_the_peer_s_own_one_with_its_answer() -> None:
    """Three segments an interval instead of four, and each router is woken once less."""
    link = streaming(5)
    link.run(20 * SECOND)
    left, right = sorted((end.session for end in link.ends), key=lambda one: one.pulse._at)
    link.now = left.pulse._at
    left.handle_timer(link.now)
    sender, receiver, sent = left, right, []
    while data := sender.data_to_send(link.now):
        sent.append(len(data))
        link.now += MILLISECOND
        receiver.receive_data(data, link.now)
        sender, receiver = receiver, sender
    assert len(sent) == 3 and right.pulse.answered and left.pulse.answered
    assert left.pulse._at < right.pulse._at


def test_three_heartbeats_missed() -> None:
    link = streaming(5)
    left, right = link.ends
    heard = link.now
    link.run(2900 * MILLISECOND - 1 * SECOND)
    for _ in range(20):
        deadline = right.session.next_deadline()
        assert deadline is not None
        right.events += right.session.handle_timer(deadline)  # of left, nothing arrives any more
        right.session.data_to_send(deadline)
        if right.closed:
            break
    assert right.closed == "dead"
    assert 3 * SECOND <= deadline - heard <= 3 * SECOND + 2 * SECOND
    assert left.closed is None


def test_the_peer_s_interval_counts() -> None:
    link = pair({"heartbeat": 100 * MILLISECOND}, {})
    right = link.ends[1].session
    link.settle()
    assert right.pulse._dead_after == 300 * MILLISECOND


def test_a_peer_that_reads_nothing() -> None:
    """The peer sends heartbeats, so it lives; but ours never go out."""
    link = streaming(5, queue_limit=50_000)
    left, right = link.ends
    start = link.now
    number = 0
    while left.closed is None and link.now < start + 60 * SECOND:
        link.now += 50 * MILLISECOND
        right.session.pulse.heard = link.now  # it does not mind that it hears nothing
        right.events += right.session.handle_timer(link.now)
        right.session.pulse._probe = None  # nor that its own are not answered
        data = right.session.data_to_send(link.now)
        left.take(left.session.receive_data(data, link.now), link.now)
        left.events += left.session.handle_timer(link.now)
        number += 1
        if left.closed is None:
            left.change([new(number * 100 + i) for i in range(100)], link.now)
        assert left.session.outgoing.queued <= 50_000
        assert len(left.session._control) <= 2
    assert left.closed == "stalled"
    assert link.now - start <= 12 * SECOND
    assert left.session.resyncs["overflow"] >= 1


def test_goodbye() -> None:
    link = streaming(5)
    left = link.ends[0]
    left.events += left.session.close("stopped")
    link.settle()
    assert closed(link) == ("stopped", "peer_stopped")
    assert left.session.close() == []


def test_eof() -> None:
    link = streaming(5)
    assert [event.reason for event in link.ends[0].session.receive_eof() if isinstance(event, Closed)] == [
        "eof"
    ]


# Authenticated nonsense


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "reason"),
    [
        (99, 0, b"", "unexpected"),
        (frames.AUTH, 0, b"", "unexpected"),
        (frames.OPEN, 0, b"", "unexpected"),
        (frames.RECORDS, 0, b"", "malformed"),
        (frames.RECORDS, 0, bytes(8) + b"\1", "malformed"),
        (frames.RECORDS, 0, bytes(8) + b"\x10\0\4\xff\xff", "malformed"),
        (frames.RECORDS, 0, bytes(8) + b"\x10\0\4\0\0", "malformed"),
        (frames.RECORDS, 0, bytes(8) + b"\0\0\0\0\1\0", "malformed"),
        (frames.RECORDS, 0, bytes(8) + b"\1\0\0\4\1" + bytes(2 * 1025), "malformed"),
        (frames.RECORDS, frames.BULK, bytes(8), "unexpected"),
        (frames.BULK_END, 0, bytes(16) + frames.pack_digest(None), "unexpected"),
        (frames.BULK_BEGIN, 0, bytes(3), "malformed"),
        (frames.DIGEST, 0, b"\xff" * 8 + frames.pack_digest(None), "unexpected"),
        (frames.DIGEST, 0, bytes(8) + b"\0\0\0\1\x21" + bytes(33), "malformed"),
        (frames.ACK, 0, b"\xff" * 16, "malformed"),
        (frames.HEARTBEAT, 0, b"", "malformed"),
        (frames.TOPIC, 0, b"", "malformed"),
        (frames.TOPIC, 0, b"\0data", "malformed"),
        (frames.TOPIC, 0, b"\x07leases", "malformed"),
        (frames.TOPIC, 0, b"\x02\xff\xff", "malformed"),
        (frames.TOPIC, 0, b"\x21" + b"t" * 33, "malformed"),
        (frames.TOPIC, 0, b"\x01t" + bytes(DATA_MAX + 1), "malformed"),
        (frames.STREAM, 0, bytes(21), "ok"),
        (frames.STREAM, 0, bytes(20), "malformed"),
        (frames.RESYNC, 0, b"\xff", "ok"),
        (frames.GOODBYE, 0, b"\xff", "peer_other"),
    ],
)
def test_nonsense_of_a_peer_that_knows_the_secret(kind: int, flags: int, payload: bytes, reason: str) -> None:
    link = streaming(0)
    left, right = link.ends
    assert left.session._seal is not None
    right.take(right.session.receive_data(left.session._seal.make(kind, flags, payload), link.now), link.now)
    assert right.closed == (None if reason == "ok" else reason)
    if reason in session.GOODBYES:
        link.settle()
        assert left.closed == f"peer_{reason}"


def test_records_of_who_does_not_stream() -> None:
    link = pair()
    left, right = link.ends
    assert left.session._seal is not None
    data = left.session._seal.make(frames.RECORDS, 0, bytes(8) + frames.pack_records([new(1)])[0])
    right.take(right.session.receive_data(data, link.now), link.now)
    assert right.closed == "unexpected"
    assert right.held.entries == {}


def test_macs_are_sixteen_bytes() -> None:
    assert len(Seal(SECRET, True, b"").mac(b"")) == MAC_SIZE == 16
    assert Table().digest() is not None
    assert body(1) != body(2)


def test_a_hello_of_a_big_endian_router_of_32_bits() -> None:
    """Byte for byte: nothing in it depends on who writes it."""
    hello = Hello(b"NODENODE", b"nonce of sixteen", 1, "mips", False, 1000, 32, False, 1, (1, 1))
    encoded = hello.encode()
    head = bytes.fromhex("544e444d01010026") + b"NODENODE" + b"nonce of sixteen"
    assert encoded == head + bytes.fromhex("01002003e80000000104") + b"mips"
    assert frames.decode_hello(encoded) == (hello, len(encoded))


# Time


def test_a_leap_of_the_time_ends_the_session_and_the_next_one_heals() -> None:
    """As after a suspend: what both clocks say is an hour later, at once."""
    link = streaming(300)
    left, right = link.ends
    link.now += 3600 * SECOND
    for end in link.ends:
        end.events += end.session.handle_timer(link.now)
    assert closed(link) == ("dead", "dead")
    left.own.apply_all([destroy(number) for number in range(100)])
    link.connect()
    link.settle()
    left.session.stream_on(left.position, link.now)
    link.settle()
    assert left.session.outgoing.in_step and right.held.entries == left.own.entries
    assert len(right.held.entries) == 200
