# SPDX-License-Identifier: GPL-2.0-or-later
"""Any bytes give a record or None, the same by both ways; a restored flow equals the known one."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tandem.conntrack.bulk import CHANGE
from tandem.conntrack.encode import Builder
from tandem.conntrack.expectation import parse_expectation
from tandem.conntrack.message import parse, split
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import (
    DNAT,
    FIXED_SIZE,
    ICMP,
    IPV6,
    MARK,
    SNAT,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_ZONE,
    TAIL,
    TAIL_SIZES,
    TCP,
    TCP_AT,
    ZONED,
    Entry,
    merge,
    pack_tail,
    tail,
    valid,
)  # fmt: skip
from tandem.nlmsg import NFNL_HEADER
from tests.unit.vectors import subsystem, translated, vectors

MESSAGES = [raw for _, raw in vectors()]


def slow(raw: bytes) -> object:
    return parse_expectation(raw) if len(raw) > 8 and subsystem(raw) == 2 else parse(raw)


def with_length(raw: bytes) -> bytes:
    return struct.pack("=I", len(raw)) + raw[4:]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A captured message with some bytes changed, cut off or added; its own length may be right again."""
    raw = bytearray(draw(st.sampled_from(MESSAGES)))
    for _ in range(draw(st.integers(0, 4))):
        # headers are where damage matters most: the low bytes of lengths and types, small values
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.one_of(st.integers(0, 30), st.integers(0, 255)))
    if draw(st.booleans()):
        raw = raw[: draw(st.integers(4, len(raw)))] + draw(st.binary(max_size=12))
    return with_length(bytes(raw)) if draw(st.booleans()) else bytes(raw)


@given(st.lists(damaged(), min_size=1, max_size=20), st.booleans())
def test_both_ways_lead_to_the_same(messages: list[bytes], trained: bool) -> None:
    parser = Parser()
    if trained:
        for raw in MESSAGES:
            parser.parse(raw)
    for raw in messages + messages:
        assert parser.parse(raw) == slow(raw)


@given(st.binary(max_size=300))
def test_garbage_never_raises(raw: bytes) -> None:
    parser = Parser()
    for message in (raw, with_length(raw) if len(raw) >= 4 else raw):
        assert parser.parse(message) == slow(message)
        assert all(len(part) >= 16 for part in split(message))
    header = NFNL_HEADER.pack(20 + len(raw), 0x100, 0, 0, 0, 2, 0, 0)
    assert parser.parse(header + raw) == parse(header + raw)


@given(st.sampled_from(MESSAGES), st.data())
def test_any_values_in_a_known_shape(raw: bytes, data: st.DataObject) -> None:
    """Values outside of headers may be anything; both ways agree."""
    parser = Parser()
    parser.parse(raw)
    changed = bytearray(raw)
    for offset in range(20, len(raw)):
        if data.draw(st.integers(0, 9)) == 0:
            changed[offset] = data.draw(st.integers(0, 255))
    assert parser.parse(bytes(changed)) == slow(bytes(changed))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """A flow of any kind."""
    kind = draw(st.integers(0, 15))
    if draw(st.booleans()):
        kind |= IPV6
    size = 16 if kind & IPV6 else 4
    zone = draw(st.sampled_from((b"\0\0", b"\0\7", b"\1\0")))
    if zone != b"\0\0":
        kind |= ZONED
    protocol = 6 if kind & TCP else draw(st.sampled_from((1, 17, 33, 47, 58, 132, 136, 200)))
    address = st.binary(min_size=size, max_size=size)
    port = st.binary(min_size=2, max_size=2)
    if protocol == (58 if kind & IPV6 else 1):
        kind |= ICMP
        last = bytes((draw(st.sampled_from((128, 129) if kind & IPV6 else (0, 8, 13, 14))), 0)) + draw(port)
    else:
        last = draw(port) + draw(port)
    source, destination = draw(address), draw(address)
    key = zone + bytes((6 if kind & IPV6 else 4, protocol)) + source + destination + last
    body = bytes((draw(st.integers(0, 3)) * 2 | 8,)) + draw(st.integers(1, 1 << 31)).to_bytes(4, "big")
    if kind & TCP:
        state = draw(st.integers(1, 9))
        scales = draw(st.integers(0, 14)), draw(st.integers(0, 14))
        body += bytes((state, *scales, draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    if kind & MARK:
        body += draw(st.integers(1, 0xFFFFFFFF)).to_bytes(4, "big")
    reply_id = last[2:]
    if kind & SNAT:
        to, to_port = draw(address), draw(port)
        if to == source and to_port == (last[2:] if kind & ICMP else last[:2]):
            to = bytes(byte ^ 1 for byte in to)
        body += to + to_port
        reply_id = to_port
    if kind & DNAT:
        to, to_port = draw(address), reply_id if kind & ICMP else draw(port)
        if to == destination:
            to = bytes(byte ^ 1 for byte in to)
        body += to + to_port
    rare: dict[int, bytes] = {}
    if draw(st.integers(0, 3)) == 0:
        types = draw(
            st.sets(st.sampled_from((T_HELPER, T_LABELS, 4, 5, 6 if protocol == 132 else 8, T_MASTER)))
        )
        for type_ in types:
            if type_ == T_MASTER:
                rare[type_] = key[:-1] + b"\7"
            elif type_ == T_HELPER:
                rare[type_] = draw(st.sampled_from((b"ftp", b"sip", b"fifteen-letters")))
            else:
                rare[type_] = b"\1" * TAIL_SIZES[type_]
    if rare:
        kind |= TAIL
    return key, bytes((kind, 0)) + body + pack_tail(rare)


@given(entries())
def test_restored_is_what_was_known(entry: Entry) -> None:
    key, body = entry
    assert valid(key, body)
    found = parse(translated(Builder().message(key, body)))
    assert found is not None
    if body[0] & TCP and body[TCP_AT] == 1:  # SYN_SENT becomes SYN_RECV
        body = body[:TCP_AT] + b"\2" + body[TCP_AT + 1 :]
    assert found[1:] == (key, body)


@given(st.lists(entries(), max_size=60), st.integers(200, 5000), st.integers(1, 1 << 20), st.booleans())
def test_bulk_is_one_by_one(flows: list[Entry], max_bytes: int, first: int, update: bool) -> None:
    """Chunks fit, number their messages without a gap, say whose each is, and are the same messages."""
    builder = Builder(max_bytes)
    purpose = CHANGE if update else 0
    sequence, seen = first, []
    for chunk in builder.chunks(iter(flows), first, None, purpose):
        data = bytes(chunk.data)
        messages = list(split(data))
        assert sum(map(len, messages)) == len(data) and len(messages) == len(chunk.entries)
        assert len(data) <= max_bytes or len(messages) == 1
        assert chunk.first == sequence
        for raw, entry in zip(messages, chunk.entries, strict=True):
            assert raw == builder.message(*entry, sequence, purpose)
            sequence += 1
            seen.append(entry)
    assert sorted(seen) == sorted(flows)
    with_master = [T_MASTER in tail(body) for _, body in seen]
    assert with_master == sorted(with_master)


@given(entries(), st.binary(max_size=80), st.data())
def test_what_a_peer_sends_is_refused_or_can_be_used(entry: Entry, junk: bytes, data: st.DataObject) -> None:
    """A message that `valid` accepts is merged, restored and deleted without an error."""
    key, body = (bytearray(part) for part in entry)
    for part in (key, body):
        for _ in range(data.draw(st.integers(0, 2))):
            part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body)))] + junk
    builder = Builder()
    if valid(bytes(key), bytes(body)):
        made = builder.message(bytes(key), bytes(body), 1)
        assert list(split(made)) == [made]
        assert list(builder.chunks([(bytes(key), bytes(body))]))
        list(builder.deletes([bytes(key)]))
        if body[0] != 0xFF and len(key) == len(entry[0]) and body[0] & 0x10 == entry[1][0] & 0x10:
            merge(entry[1], bytes(body))
    assert not valid(bytes(key), b"") and not valid(b"", bytes(body))


@given(entries())
def test_merged_is_valid_and_keeps_what_only_the_old_says(entry: Entry) -> None:
    key, old = entry
    size = FIXED_SIZE[old[0]]
    new = old[:7] + bytes(5) + old[12:size] if old[0] & TCP else old[:size]
    new = bytes((new[0] & ~TAIL,)) + new[1:]
    merged = merge(old, new)
    assert valid(key, merged) and merged == old
    assert tail(merged) == tail(old) and T_ZONE not in tail(merged)
