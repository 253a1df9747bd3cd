# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams of the peer protocol: bulks, deltas, resyncs, turns of the roles, and a mixed pair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tandem.channel import frames, session
from tandem.channel.events import (
    Acked,
    Event,
    HeldInStep,
    HeldOutOfStep,
    PeerHandedOver,
    PeerInStep,
    PeerOutOfStep,
    PeerStream,
)
from tandem.channel.lag import INTERVAL
from tandem.channel.stream import coalesce
from tandem.conntrack.record import DESTROY, NEW, UPDATE, Entry
from tandem.core.timers import MILLISECOND, SECOND
from tests.property.replication_link import (
    Link,
    body,
    closed,
    destroy,
    key,
    new,
    pair,
    streaming,
    update,
)

# Streams


def test_bulk_and_deltas() -> None:
    link = streaming(500)
    left, right = link.ends
    assert isinstance(left.last(PeerInStep), PeerInStep)
    assert right.last(HeldInStep) == HeldInStep(False)
    left.change([destroy(3), update(4, 9), new(1000)], link.now)
    assert right.held.entries != left.own.entries
    link.run(1 * MILLISECOND)
    assert right.held.entries == left.own.entries


def test_position_and_acknowledgement() -> None:
    link = streaming(5)
    left = link.ends[0]
    position = left.change([new(50), new(51)], link.now, urgent=True)
    assert left.session.outgoing.acked < position
    link.settle()  # urgent: no time passes
    assert left.session.outgoing.acked == position
    assert left.last(Acked) == Acked(position)
    link.run(INTERVAL)
    left.change([new(52)], link.now)
    link.settle()  # the first after a pause does not wait
    position = left.change([new(53)], link.now)
    link.settle()
    assert left.session.outgoing.acked < position
    link.run(session.BATCH_DELAY + session.ACK_DELAY)
    assert left.session.outgoing.acked == position


@pytest.mark.parametrize(("position", "generation"), [(1, 0), (0, 1), (1, 1)])
def test_nobody_acknowledges_what_was_not_sent(position: int, generation: int) -> None:
    outgoing = streaming(5).ends[0].session.outgoing
    at, held = outgoing.sent, outgoing._generation
    with pytest.raises(frames.ProtocolError, match="what was not sent"):
        outgoing.acknowledged(at + position, held + generation)
    outgoing.acknowledged(at, held)
    assert outgoing.in_step


def test_lag() -> None:
    link = streaming(5)
    left = link.ends[0]
    left.change([new(50)], link.now)
    left.session.data_to_send(link.now)  # which nobody carries
    link.now += 7 * MILLISECOND
    assert left.session.lag.now(link.now) == 7 * MILLISECOND
    link = streaming(5)
    left = link.ends[0]
    left.change([new(50)], link.now)
    link.now += 5 * MILLISECOND  # the socket was blocked
    link.settle()
    assert (
        left.session.lag.last == left.session.lag.longest == left.session.lag.now(link.now) == 5 * MILLISECOND
    )


def test_what_the_bulk_does_not_name_is_gone() -> None:
    link = pair()
    left, right = link.ends
    right.held.apply_all([new(7), new(8)])
    left.own.apply_all([new(8), new(9)])
    left.session.stream_on(0, link.now)
    link.settle()
    assert set(right.held.entries) == {key(8), key(9)}


def test_deltas_within_the_bulk() -> None:
    link = pair()
    left, right = link.ends
    left.own.apply_all([new(number) for number in range(1000)])
    left.session.stream_on(0, link.now)
    for number in range(0, 1000, 3):
        left.session.output_at  # noqa: B018
        data = left.session.data_to_send(link.now, limit=500)
        right.take(right.session.receive_data(data, link.now), link.now)
        left.change([destroy(number), update(number + 1, number), new(2000 + number)], link.now)
    link.run(MILLISECOND)
    assert left.session.outgoing.in_step
    assert right.held.entries == left.own.entries
    assert left.session.outgoing.bulks == 1


def test_waiting_records_of_one_key_become_one() -> None:
    link = streaming(2)
    left, right = link.ends
    before = right.session.incoming.records
    left.change([update(1, number) for number in range(100)], link.now)
    left.change([new(5), destroy(5)], link.now)
    assert left.session.outgoing.waiting == 2
    assert left.session.outgoing.coalesced == 100
    link.run(MILLISECOND)
    assert right.session.incoming.records == before + 2
    assert right.held.entries == left.own.entries


def test_coalesced_updates_lose_nothing() -> None:
    tcp = lambda state: bytes((4, 0, 14, 0, 0, 0, 9, state, 7, 7, 8, 8))  # noqa: E731
    at = key(1)
    both = coalesce((NEW, at, tcp(3)), (UPDATE, at, tcp(0)))
    assert both == (NEW, at, tcp(3))
    assert coalesce((UPDATE, at, tcp(3)), (UPDATE, at, tcp(0))) == (UPDATE, at, tcp(3))
    # The receiver still has the entry of a flow that is gone.
    assert coalesce((DESTROY, at, b""), (UPDATE, at, tcp(0))) == (NEW, at, tcp(0))
    assert coalesce((NEW, at, tcp(3)), (DESTROY, at, b"")) == (DESTROY, at, b"")
    assert coalesce((DESTROY, at, b""), (NEW, at, tcp(2))) == (NEW, at, tcp(2))


def test_overflow_heals_by_a_bulk() -> None:
    link = streaming(10, queue_limit=20_000)
    left, right = link.ends
    for number in range(100, 2000):
        left.change([new(number)], link.now)
        assert left.session.outgoing.queued <= 20_000
    assert left.last(PeerOutOfStep) == PeerOutOfStep("overflow")
    assert left.session.resyncs == {"overflow": 1}
    assert left.session.outgoing.dropped == 1900
    assert not left.session.outgoing.in_step
    link.run(2 * SECOND)
    assert left.session.outgoing.in_step
    assert left.session.outgoing.acked == left.position
    assert right.held.entries == left.own.entries


def test_drift_is_found_and_healed() -> None:
    link = streaming(100)
    left, right = link.ends
    del right.held.entries[key(5)]
    link.run(11 * SECOND)
    assert right.last(HeldOutOfStep) == HeldOutOfStep("digest")
    assert left.last(PeerOutOfStep) == PeerOutOfStep("digest")
    assert right.session.incoming.drifts == 1
    assert left.session.resyncs == {"digest": 1}
    assert left.session.outgoing.in_step
    assert right.held.entries == left.own.entries
    link.run(11 * SECOND)
    assert right.held.confirmed > link.now - 11 * SECOND


def test_a_digest_that_never_matches_costs_fewer_and_fewer_bulks() -> None:
    link = pair()
    left, right = link.ends
    right.held.digest = lambda: (0, b"wrong")  # type: ignore[method-assign]
    left.session.stream_on(0, link.now)
    link.run(100 * SECOND)
    assert left.session.outgoing.bulks == 7  # at 0, 1, 3, 7, 15, 31, 63 s
    left.session.stream_off()
    assert closed(link) == (None, None)


def test_without_digests_nothing_is_compared() -> None:
    link = pair()
    left, right = link.ends
    right.held.can_digest = False
    left.session.stream_on(0, link.now)
    link.run(1 * SECOND)
    right.held.entries[key(1)] = b"drift"
    link.run(20 * SECOND)
    assert left.session.resyncs == {}


def test_asked_for() -> None:
    link = streaming(10)
    left, right = link.ends
    right.held.entries.clear()
    right.events += right.session.request_bulk()
    link.run(2 * SECOND)
    assert left.session.resyncs == {"asked": 1}
    assert right.held.entries == left.own.entries
    assert left.session.outgoing.in_step


def test_a_source_that_is_not_ready() -> None:
    link = pair()
    left, right = link.ends
    left.own.apply_all([new(1)])
    left.own.slices = lambda: iter([[], [], [new(1)[1:]]])  # type: ignore[method-assign,return-value]
    left.session.stream_on(0, link.now)
    link.settle()
    assert not left.session.outgoing.in_step
    link.run(3 * MILLISECOND)
    assert left.session.outgoing.in_step
    assert right.held.entries == left.own.entries


def test_oversized_records_are_counted_and_left_out() -> None:
    link = streaming(1)
    left, right = link.ends
    left.session.push([(NEW, key(1), bytes(2000)), (NEW, b"", b"x"), new(2)], 3, link.now)
    link.run(MILLISECOND)
    assert left.session.outgoing.oversized == 2
    assert key(2) in right.held.entries
    assert closed(link) == (None, None)


@pytest.mark.parametrize(("more", "parts"), [(-9, 1), (-1, 1), (0, 1), (1, 2), (8, 2), (9, 2)])
def test_no_payload_is_larger_than_a_frame_may_be(more: int, parts: int) -> None:
    """The position of the records, 8 bytes, has its place in the frame too."""
    records = [(NEW, key(number), bytes(1008)) for number in range(1, 96) if number % 3][:63]
    taken = sum(map(len, frames.pack_records(records)))
    rest = frames.PAYLOAD_MAX - 8 - taken - len(frames.pack_records([(NEW, key(100), b"")])[0])
    records.append((NEW, key(100), bytes(rest + more)))
    packed = frames.pack_records(records)
    assert len(packed) == parts
    assert max(map(len, packed)) + 8 <= frames.PAYLOAD_MAX
    assert sorted(r for p in packed for r in frames.unpack_records(memoryview(p))) == sorted(records)


def test_batches_beyond_a_frame() -> None:
    records = [(NEW, key(number), bytes(1024)) for number in range(200)]
    packed = frames.pack_records(records)
    assert len(packed) > 1
    assert sorted(r for p in packed for r in frames.unpack_records(memoryview(p))) == sorted(records)


# Turns


def turn(link: Link, old: int = 0) -> None:
    """Swap the roles in the planned way."""
    was, is_ = link.ends[old], link.ends[1 - old]
    was.session.stream_off()
    link.settle()
    is_.own.entries = dict(is_.held.entries)
    is_.session.stream_on(is_.position, link.now, adopt=True)
    link.settle()


def test_a_bulk_that_is_broken_off_makes_no_entry_stale() -> None:
    link = streaming(500)
    left, right = link.ends
    left.session.repeat("asked")
    link.now += 2 * SECOND
    for _ in range(1000):
        link.collect()
        link.deliver(0, 200)
        if right.session.incoming.in_bulk:
            break
    assert right.session.incoming.in_bulk and right.held._stale
    right.session.close()
    assert not right.held._stale and len(right.held.entries) == 500


@pytest.mark.parametrize("in_step", [True, False])
def test_who_does_not_adopt_or_is_not_in_step_sends_its_whole_table(in_step: bool) -> None:
    link = streaming(10) if in_step else pair()
    left, right = link.ends
    left.session.stream_off()
    link.settle()
    right.own.entries = dict(right.held.entries) | {key(50): body(50)}
    right.session.stream_on(right.position, link.now, adopt=not in_step)
    link.settle()
    assert right.session.outgoing.bulks == 1 and right.session.outgoing.in_step
    assert left.held.entries == right.own.entries
    assert left.last(HeldInStep) == HeldInStep(False)


def test_the_stream_turns_round_without_a_bulk() -> None:
    link = streaming(100)
    left, right = link.ends
    left.change([new(200)], link.now)
    turn(link)
    assert right.session.outgoing.in_step
    assert right.session.outgoing.bulks == 0
    assert left.held.entries == right.own.entries
    assert left.last(PeerStream) == PeerStream(True, False)
    assert left.last(HeldInStep) == HeldInStep(True)
    assert left.session.incoming.adopted == 1
    assert right.last(PeerStream) == PeerStream(False, True)
    right.change([destroy(200), new(300)], link.now)
    turn(link, 1)
    assert left.session.outgoing.in_step
    assert left.session.outgoing.bulks == 1  # the first
    left.change([new(400)], link.now)
    link.run(11 * SECOND)
    assert right.held.entries == left.own.entries
    assert left.session.resyncs == right.session.resyncs == {}


def test_a_turn_before_the_old_sender_has_ended_costs_a_bulk() -> None:
    link = streaming(100)
    left, right = link.ends
    right.own.entries = dict(right.held.entries)
    right.session.stream_on(0, link.now, adopt=True)
    link.run(2 * SECOND)
    assert right.session.resyncs == {"basis": 1}
    assert right.session.outgoing.in_step
    assert left.held.entries == right.own.entries


def test_a_turn_with_a_table_that_changed_is_found_by_the_digest() -> None:
    link = streaming(100)
    left, right = link.ends
    left.session.stream_off()
    link.settle()
    left.own.apply_all([destroy(5)])  # it should not have
    right.own.entries = dict(right.held.entries)
    right.session.stream_on(0, link.now, adopt=True)
    link.run(2 * SECOND)
    assert right.session.resyncs == {"digest": 1}
    assert left.held.entries == right.own.entries
    assert right.session.outgoing.in_step


def test_a_stream_that_stops_within_its_bulk_is_not_complete() -> None:
    link = pair()
    left, right = link.ends
    left.own.apply_all([new(number) for number in range(1000)])
    left.session.stream_on(0, link.now)
    right.take(
        right.session.receive_data(left.session.data_to_send(link.now, limit=1000), link.now), link.now
    )
    left.session.stream_off()
    link.settle()
    assert right.last(PeerStream) == PeerStream(False, False)
    right.session.stream_on(0, link.now, adopt=True)
    link.settle()
    assert right.session.outgoing.in_step
    assert right.session.outgoing.bulks == 1


def test_both_stream() -> None:
    link = pair()
    for number, end in enumerate(link.ends):
        end.own.apply_all([new(number * 100 + i) for i in range(20)])
        end.session.stream_on(0, link.now)
    link.settle()
    assert all(end.session.outgoing.in_step for end in link.ends)
    assert link.ends[0].held.entries == link.ends[1].own.entries
    assert link.ends[1].held.entries == link.ends[0].own.entries


def test_the_last_of_a_group_is_told_while_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    link = streaming(5)
    left, right = link.ends
    equal: list[bool] = []
    take = right.take

    def taken(events: list[Event], now: int) -> None:
        equal.extend(right.held.entries == left.own.entries for e in events if isinstance(e, PeerHandedOver))
        take(events, now)

    monkeypatch.setattr(right, "take", taken)
    left.change([new(1000 + number) for number in range(3000)], link.now)
    left.session.hand_over()
    link.settle()  # no time passes
    assert equal == [True]
    link.run(3 * left.session._settings.digest_interval)
    assert equal == [True] and left.session.outgoing.in_step
    right.session.hand_over()  # it does not stream
    link.run(SECOND)
    assert left.last(PeerHandedOver) is None


def test_the_last_of_a_group_is_told_behind_a_bulk() -> None:
    link = streaming(2000)
    left, right = link.ends
    right.session.request_bulk()
    link.run(SECOND)
    left.session.hand_over()
    link.run(SECOND)
    assert isinstance(right.last(PeerHandedOver), PeerHandedOver) and right.session.incoming.in_step


def test_off_and_on_before_anything_was_sent() -> None:
    link = pair()
    left = link.ends[0]
    left.session.stream_on(0, link.now)
    left.session.stream_off()
    link.settle()
    assert not link.ends[1].session.incoming.on
    left.session.stream_on(0, link.now)
    left.session.stream_off()
    left.session.stream_on(0, link.now)
    link.settle()
    assert left.session.outgoing.in_step


def test_a_source_that_gets_ready_makes_no_slow_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next bulk would wait nine times as long as the source took."""
    link = pair({}, {})
    left, right = link.ends
    left.own.apply_all([new(number) for number in range(100)])
    slices, ready = left.own.slices, link.now + 3 * SECOND

    def later() -> Iterator[list[Entry]]:
        while link.now < ready:
            yield []
        yield from slices()

    monkeypatch.setattr(left.own, "slices", later)
    left.session.stream_on(left.position, link.now)
    link.run(4 * SECOND)
    assert left.session.outgoing.in_step and left.session.outgoing.bulk_ns < SECOND
    left.events += left.session.repeat("filter")
    assert not left.session.outgoing.in_step
    link.run(5 * SECOND)
    assert left.session.outgoing.in_step and right.held.entries == left.own.entries


def test_filters_may_change_as_often_as_an_administrator_likes() -> None:
    """A bulk that the peer asks for again and again comes ever more seldom; one that we repeat does not."""
    link = pair({}, {})
    left = link.ends[0]
    left.session.stream_on(left.position, link.now)
    link.run(SECOND)
    for _ in range(6):
        left.events += left.session.repeat("filter")
        link.run(2 * SECOND)
        assert left.session.outgoing.in_step


# A mixed pair

# One record each of TCP with SNAT (IPv4) and of UDP (IPv6), as every router writes them.
TCP_KEY = bytes.fromhex("00000406c0a8010acb007101c3500050")
TCP_BODY = bytes.fromhex("05000e00001d100307070303c0a80004c350")
UDP_KEY = bytes.fromhex("00000611fd000001000000000000000000000010fd00000f00000000000000000000000113880035")
UDP_BODY = bytes.fromhex("10000a0000001e")
ON_THE_WIRE = bytes.fromhex(
    "10" "0012" "0001" "01" "000004" "06c0a8010acb007101c3500050" "05000e00001d100307070303c0a80004c350"
    "28" "0007" "0001" "02" "00000611fd000001000000000000000000000010fd00000f00000000000000000000000113880035"
    "10000a0000001e"
)  # fmt: skip


def test_a_router_of_32_bits_and_the_other_byte_order() -> None:
    """The attacker says so in its hello, and sends byte for byte what we would have sent."""
    big: dict[str, object] = {"word_size": 32, "little_endian": False, "router_id": "mips"}
    link = pair({"router_id": "x86"}, big)
    left, right = link.ends
    assert left.session.peer and right.session.peer
    assert (left.session.peer.word_size, left.session.peer.little_endian) == (32, False)
    assert (right.session.peer.word_size, right.session.peer.little_endian) == (64, True)
    records = [(NEW, TCP_KEY, TCP_BODY), (UPDATE, UDP_KEY, UDP_BODY)]
    assert frames.pack_records(records) == [ON_THE_WIRE]
    assert frames.unpack_records(memoryview(ON_THE_WIRE)) == records
    for sender, receiver in ((left, right), (right, left)):
        sender.session.stream_on(sender.position, link.now)
        link.settle()
        sender.change(records, link.now)
        link.run(MILLISECOND)
        assert receiver.held.entries == {TCP_KEY: TCP_BODY, UDP_KEY: UDP_BODY}
        assert sender.session.outgoing.in_step
    assert ON_THE_WIRE in b"".join(link.carried[0]) and ON_THE_WIRE in b"".join(link.carried[1])
