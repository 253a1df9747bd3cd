# SPDX-License-Identifier: GPL-2.0-or-later
"""Two sessions on a link that splits, harms and loses: equal tables, or a counted resync or end."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tandem.channel import frames
from tandem.channel.events import Closed, Message, PeerInStep
from tandem.channel.frames import (
    HELLO_MAX,
    Hello,
    ProtocolError,
    decode_hello,
    pack_records,
    unpack_records,
)
from tandem.channel.session import OPENED
from tandem.channel.topics import DATA_MAX, OUTBOX_MAX, Outbox, unpack_message
from tandem.conntrack.record import DESTROY, NEW, UPDATE
from tandem.core.timers import MILLISECOND, SECOND
from tests.property.replication_link import End, Link, destroy, key, new, pair, update

QUEUE = 30_000

numbers = st.integers(0, 30)
changes = st.lists(
    st.one_of(
        st.builds(new, numbers, st.integers(0, 5)),
        st.builds(update, numbers, st.integers(0, 5)),
        st.builds(destroy, numbers),
    ),
    min_size=1,
    max_size=20,
)


class TwoRouters(RuleBasedStateMachine):
    """Both change their tables, stream or not, swap roles, lose connections and time."""

    @initialize(left=st.sampled_from((1, 3, 100, 1 << 16)), both=st.booleans())
    def begin(self, left: int, both: bool) -> None:
        self.link = Link(End(1, queue_limit=QUEUE), End(2, queue_limit=QUEUE), left)
        for end in self.link.ends:
            end.own.slice_size = 7
        self.streams = [True, both]
        self.said: list[list[bytes]] = [[], []]  # by whom, on this connection
        self.follow()

    def heard(self, who: int) -> list[bytes]:
        """The messages of `who` on this connection that the other end has received."""
        events = self.link.ends[1 - who].events
        return [event.data for event in events if isinstance(event, Message)]

    def follow(self) -> None:
        """A session that has come up streams what its router streams, as channel.py does it."""
        self.link.settle()
        for end, on in zip(self.link.ends, self.streams, strict=True):
            assert end.closed is None
            if on and not end.session.outgoing.wanted:
                end.session.stream_on(end.position, self.link.now)

    @rule(who=st.integers(0, 1), records=changes, urgent=st.booleans())
    def change(self, who: int, records: list[tuple[int, bytes, bytes]], urgent: bool) -> None:
        if self.streams[who]:
            self.link.ends[who].change(records, self.link.now, urgent)

    @rule(who=st.integers(0, 1), first=st.integers(100, 1000))
    def flood(self, who: int, first: int) -> None:
        if self.streams[who]:
            self.link.ends[who].change([new(first + n) for n in range(150)], self.link.now)

    @rule(who=st.integers(0, 1), data=st.binary(max_size=40), times=st.sampled_from((1, 2, 1000)))
    def say(self, who: int, data: bytes, times: int) -> None:
        end = self.link.ends[who]
        data *= times
        if len(data) <= DATA_MAX and end.session.send("leases", data):
            self.said[who].append(data)

    @rule(who=st.integers(0, 1), size=st.integers(1, 3000))
    def carry(self, who: int, size: int) -> None:
        self.link.collect()
        self.link.deliver(who, size)

    @rule()
    def settle(self) -> None:
        self.link.settle()

    @rule(time=st.sampled_from((1, MILLISECOND, 100 * MILLISECOND, 2 * SECOND, 15 * SECOND)))
    def wait(self, time: int) -> None:
        self.link.run(time)

    @rule(at=numbers)
    def drift(self, at: int) -> None:
        """The right router forgets or invents an entry."""
        held = self.link.ends[1].held
        if held.entries.pop(key(at), None) is None:
            held.entries[key(at)] = b"\0?"

    @rule(who=st.integers(0, 1), pieces=st.integers(0, 5))
    def reconnect(self, who: int, pieces: int) -> None:
        for _ in range(pieces):
            self.carry(who, 100)
        for end in self.link.ends:
            end.session.receive_eof()
            end.events = [event for event in end.events if not isinstance(event, Message)]
        self.said = [[], []]
        self.link.connect()
        self.follow()

    @rule(old=st.integers(0, 1), settle=st.booleans())
    def turn(self, old: int, settle: bool) -> None:
        """The roles swap: in order, or the new one takes over before it has heard of it."""
        was, is_ = self.link.ends[old], self.link.ends[1 - old]
        if not self.streams[old] or self.streams[1 - old]:
            return
        was.session.stream_off()
        if settle:
            self.link.settle()
        is_.own.entries = dict(is_.held.entries)
        self.streams = [old == 1, old == 0]
        is_.session.stream_on(is_.position, self.link.now, adopt=True)

    @rule(who=st.integers(0, 1))
    def hand_over(self, who: int) -> None:
        """A group is given up, and the stream goes on for another one."""
        self.link.ends[who].session.hand_over()

    @rule(who=st.integers(0, 1))
    def stop(self, who: int) -> None:
        self.streams[who] = False
        self.link.ends[who].session.stream_off()

    @rule(who=st.integers(0, 1))
    def start(self, who: int) -> None:
        self.streams[who] = True
        end = self.link.ends[who]
        end.session.stream_on(end.position, self.link.now)

    @invariant()
    def bounded(self) -> None:
        for end in self.link.ends:
            session = end.session
            assert end.closed is None, session.closed
            assert session.outgoing.queued <= QUEUE
            assert len(session._control) <= 4
            assert len(session._buffer) <= frames.PAYLOAD_MAX + 20
            assert session.outgoing.acked <= session.outgoing.sent <= session.outgoing.position
            assert session.outbox._size <= OUTBOX_MAX
        for who in (0, 1):
            assert self.heard(who) == self.said[who][: len(self.heard(who))]

    def teardown(self) -> None:
        """Given time, everything that is streamed is held."""
        if not hasattr(self, "link"):
            return
        self.link.run(60 * SECOND)
        for number, end in enumerate(self.link.ends):
            assert self.heard(number) == self.said[number]
            if self.streams[number]:
                other = self.link.ends[1 - number]
                assert end.session.outgoing.in_step
                assert end.session.outgoing.acked == end.position
                assert other.held.entries == end.own.entries


TestTwoRouters = TwoRouters.TestCase


@given(
    st.binary(max_size=300),
    st.lists(st.integers(1, 50), max_size=10),
    st.booleans(),
)
def test_a_stranger_gets_nothing(data: bytes, cuts: list[int], with_magic: bool) -> None:
    link = Link(End(1), End(2))
    right = link.ends[1].session
    data = (Hello(bytes(8), bytes(16), 1).encode() if with_magic else b"") + data
    while data and right.closed is None:
        size = cuts.pop() if cuts else len(data)
        right.receive_data(data[:size], link.now)
        data = data[size:]
        assert len(right._buffer) <= 2 * HELLO_MAX
    assert right.state != OPENED
    right.handle_timer(link.now + 5 * SECOND)
    assert right.closed is not None


@given(st.data(), st.booleans())
def test_harm_ends_the_session(data: st.DataObject, insecure: bool) -> None:
    """Bytes that were changed, lost, doubled or moved are never applied."""
    settings: dict[str, object] = {"secrets": {}, "key_id": 0, "insecure": True} if insecure else {}
    link = pair(settings, settings)
    left, right = link.ends
    left.session.stream_on(0, link.now)
    link.settle()
    states = [dict(left.own.entries)]
    sent = b""
    for _ in range(data.draw(st.integers(1, 5))):
        left.change(data.draw(changes), link.now, urgent=True)
        states.append(dict(left.own.entries))
        sent += left.session.data_to_send(link.now)
    start = data.draw(st.integers(0, len(sent) - 1))
    end = data.draw(st.integers(start + 1, len(sent)))
    part = sent[start:end]
    harm = data.draw(
        st.sampled_from(
            (
                sent[:start] + bytes(len(part)) + sent[end:],
                sent[:start] + sent[end:],
                sent[:end] + part + sent[end:],
                sent[:start] + part[::-1] + sent[end:],
                sent[:start] + data.draw(st.binary(max_size=100)) + sent[start:],
            )
        )
    )
    for begin in range(0, len(harm), size := data.draw(st.integers(1, 200))):
        right.take(right.session.receive_data(harm[begin : begin + size], link.now), link.now)
    assert right.held.entries in states
    if right.closed is None:  # whole frames, as they were sent, and then what waits for its end
        assert harm.startswith(sent[: len(harm) - len(right.session._buffer)])
        # Cut short, or a length that will not come: it ends by time, if not by what follows.
        if right.session._buffer or harm != sent:
            link.now += 3 * SECOND
            events = right.session.handle_timer(link.now)
            assert any(isinstance(event, Closed) for event in events)
    else:
        assert right.closed in {"mac", "frame_size"}


@given(st.binary(max_size=200), st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_whatever_a_peer_seals(payload: bytes, kind: int, flags: int, insecure: bool) -> None:
    """Nothing raises, and a session that goes on goes on well."""
    settings: dict[str, object] = {"secrets": {}, "key_id": 0, "insecure": True} if insecure else {}
    link = pair(settings, settings)
    left, right = link.ends
    left.session.stream_on(0, link.now)
    right.session.stream_on(0, link.now)
    link.settle()
    assert left.session._seal is not None
    data = left.session._seal.make(kind % 16, flags % 4, payload)
    right.take(right.session.receive_data(data, link.now), link.now)
    link.run(2 * SECOND)


@given(changes)
def test_records_come_back(records: list[tuple[int, bytes, bytes]]) -> None:
    unique = list({record[1]: record for record in records}.values())
    back = [record for packed in pack_records(unique) for record in unpack_records(memoryview(packed))]
    assert sorted(back) == sorted(unique)
    assert {op for op, _, _ in back} <= {NEW, UPDATE, DESTROY}


@given(st.binary(max_size=400))
def test_any_payload_of_records(payload: bytes) -> None:
    try:
        records = unpack_records(memoryview(payload))
    except ProtocolError as error:
        assert error.reason == "malformed"
    else:
        assert len(records) <= frames.RECORDS_MAX


@given(st.text("abc_", min_size=1, max_size=32), st.binary(max_size=DATA_MAX))
def test_messages_come_back(topic: str, data: bytes) -> None:
    outbox = Outbox()
    assert outbox.add(topic, data)
    assert unpack_message(memoryview(outbox.take())) == (topic, data)
    assert not outbox.waiting


@given(st.binary(max_size=60))
def test_any_payload_of_a_message(payload: bytes) -> None:
    try:
        topic, data = unpack_message(memoryview(payload))
    except ProtocolError as error:
        assert error.reason == "malformed"
    else:
        assert bytes((len(topic),)) + topic.encode() + data == payload


@given(
    st.builds(
        Hello,
        st.binary(min_size=8, max_size=8),
        st.binary(min_size=16, max_size=16),
        st.integers(0, 255),
        st.text(max_size=50),
        st.booleans(),
        st.integers(1, 65535),
    ),
    st.binary(max_size=5),
)
def test_hellos_come_back(hello: Hello, more: bytes) -> None:
    data = hello.encode()
    found = decode_hello(data + more)
    assert found is not None
    assert found[1] == len(data) <= HELLO_MAX
    assert found[0].node == hello.node
    assert all(decode_hello(data[:size]) is None for size in range(len(data)))


def test_in_step_is_told() -> None:
    link = pair()
    link.ends[0].session.stream_on(0, link.now)
    link.settle()
    assert link.ends[0].last(PeerInStep) == PeerInStep()


def test_a_stream_that_ends_before_it_begins_anew_speaks_of_no_position() -> None:
    routers = TwoRouters()
    routers.begin(left=1, both=False)
    routers.start(who=1)
    routers.settle()
    routers.flood(first=100, who=1)
    routers.stop(who=1)
    routers.turn(old=0, settle=False)
    routers.stop(who=1)
    routers.settle()
    routers.bounded()
    routers.teardown()
