# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages of the kernel that are no records, and the shapes that the parser keeps."""

from __future__ import annotations

import struct
import tracemalloc
from itertools import permutations
from typing import Any

import pytest

from tandem.conntrack.expectation import expectation_deletion, expectation_message, parse_expectation
from tandem.conntrack.message import AT_ONCE, Malformed, attributes, parse, split, tuple_attribute, value
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import (
    DESTROY,
    MARK,
    NEW,
    SNAT,
    T_DCCP,
    T_HELPER,
    T_MASTER,
    T_SCTP,
    T_ZONE,
    UPDATE,
    tail,
    valid,
)
from tandem.nlmsg import NLATTR, NLMSGHDR

from .flow_messages import DELETE, attribute, direction, event
from .vectors import tree, vectors, with_attributes

CLIENT, SERVER, ROUTER = bytes((10, 0, 0, 2)), bytes((192, 0, 2, 2)), bytes((192, 0, 2, 10))
CLIENT6, SERVER6 = bytes(15) + b"\2", bytes(15) + b"\3"
FLOW = event(CLIENT, SERVER, protocol=17, reply=(SERVER, ROUTER))
[EXPECTATION] = [raw for case, raw in vectors("dump") if case == "ftp" and raw[5 if raw[5] else 4] == 2]


def changed(message: bytes, **parts: Any) -> bytes:
    """The message with other attributes, a1 is attribute 1; None: without it."""
    found = tree(message[20:]) | {int(name[1:]): part for name, part in parts.items()}
    return with_attributes(message, {kind: part for kind, part in found.items() if part is not None})


def with_more(message: bytes, kind: int, *values: bytes) -> bytes:
    """The message with an attribute that comes several times."""
    data = message + b"".join(attribute(kind, value) for value in values)
    return struct.pack("=I", len(data)) + data[4:]


def typed(message: bytes, type_: int, flags: int) -> bytes:
    return message[:4] + NLATTR.pack(type_, flags) + message[8:]


@pytest.mark.parametrize(
    ("type_", "flags", "op"),
    [
        (0x100, 0x600, NEW), (0x100, 0x605, NEW), (0x100, 0x400, UPDATE), (0x100, 0x200, UPDATE),
        (0x100, 0, UPDATE), (0x102, 0, DESTROY), (0x102, 0x600, DESTROY), (0x101, 0x600, None),
        (0x103, 0, None), (0x200, 0x600, None), (0x000, 0x600, None), (0x300, 0, None),
    ],
)  # fmt: skip
def test_what_a_message_is_about(type_: int, flags: int, op: int | None) -> None:
    message = typed(FLOW, type_, flags)
    for found in (parse(message), Parser().parse(message)):
        assert (found and found[0]) == op
        assert found is None or (found[2] == b"") is (op == DESTROY)
    expected = parse_expectation(typed(EXPECTATION, type_ ^ 0x300, flags))
    assert (expected and expected[0]) == op


@pytest.mark.parametrize(
    ("protocol", "v6", "numbers"),
    [(1, False, (4, 5, 6)), (58, True, (7, 8, 9)), (58, False, (2, 3)), (17, True, (2, 3))],
)
def test_the_tuple_of_a_key_has_the_kernels_numbers(
    protocol: int, v6: bool, numbers: tuple[int, ...]
) -> None:
    """CTA_PROTO_* of linux/netfilter/nfnetlink_conntrack.h: ports, or id, type and code."""
    source, destination = (CLIENT6, SERVER6) if v6 else (CLIENT, SERVER)
    key = bytes((0, 0, 6 if v6 else 4, protocol)) + source + destination + b"\x08\x05\0\x07"
    values = (b"\0\x07", b"\x08", b"\x05") if len(numbers) == 3 else (b"\x08\x05", b"\0\x07")
    proto = {1: bytes((protocol,)), **dict(zip(numbers, values, strict=True))}
    ip = dict(zip((3, 4) if v6 else (1, 2), (source, destination), strict=True))
    assert tree(tuple_attribute(1, key)) == {1: {1: ip, 2: proto}}


def test_a_message_has_the_length_that_it_says() -> None:
    for message, read in ((FLOW, parse), (EXPECTATION, parse_expectation)):
        assert read(message) is not None
        for wrong in (-1, 1):
            assert read(struct.pack("=I", len(message) + wrong) + message[4:]) is None
        for size in range(len(message)):
            assert read(message[:size]) is None
    assert (
        parse(struct.pack("=I", 19) + FLOW[4:19]) is None
        and parse(struct.pack("=I", 20) + FLOW[4:20]) is None
    )


SIX = tree(event(CLIENT6, SERVER6, protocol=17)[20:])
TCP_REPLY = tree(direction(2, 6, SERVER, CLIENT, (1, 2)))[2]


@pytest.mark.parametrize(
    "parts",
    [
        {"a1": None}, {"a2": None}, {"a3": None}, {"a3": b"\1"}, {"a2": SIX[2]}, {"a2": TCP_REPLY},
        {"a1": {1: tree(FLOW[20:])[1][1]}}, {"a1": {2: tree(FLOW[20:])[1][2]}}, {"a8": b"\1"}, {"a18": b"\1"},
        {"a7": b"\1"},
    ],
)  # fmt: skip
def test_a_message_that_contradicts_itself_is_no_record(parts: dict[str, Any]) -> None:
    message = changed(FLOW, **parts)
    assert parse(message) is Parser().parse(message) is None


@pytest.mark.parametrize(
    "parts", [{"a1": None}, {"a2": None}, {"a3": None}, {"a10": {1: bytes(4)}}, {"a4": b"\1"}]
)
def test_an_expectation_needs_its_parts(parts: dict[str, Any]) -> None:
    assert parse_expectation(changed(EXPECTATION, **parts)) is None


def test_the_tuples_of_an_expectation_are_of_one_family() -> None:
    four = tree(EXPECTATION[20:])
    for kind in (1, 2, 3):
        assert parse_expectation(changed(EXPECTATION, **{f"a{kind}": SIX[1]})) is None
    assert parse_expectation(changed(EXPECTATION, a10={1: bytes(4), 2: SIX[1]})) is None
    found = parse_expectation(changed(EXPECTATION, a10={1: b"\0\0\0\1", 2: four[2]}, a7=b"\0\5", a4=None))
    assert found is not None and valid(found[1], found[2])
    assert found[1][:2] == b"\0\5" and found[2][1:5] == bytes(4) and found[2][25:29] == b"\0\0\0\1"
    gone = parse_expectation(typed(EXPECTATION, 0x202, 0))
    told = parse_expectation(EXPECTATION)
    assert gone is not None and told is not None and gone == (DESTROY, told[1], b"")


def test_messages_about_an_expectation_have_the_length_that_they_say() -> None:
    """NLMSGHDR: length, type, flags (NLM_F_REQUEST, NLM_F_CREATE), sequence, and 0: the kernel is meant."""
    told = parse_expectation(EXPECTATION)
    assert told is not None
    made = expectation_message(*told[1:], 7)
    gone = expectation_deletion(told[1], 8)
    assert NLMSGHDR.unpack_from(made) == (len(made), 0x200, 0x401, 7, 0)
    assert NLMSGHDR.unpack_from(gone) == (len(gone), 0x202, 1, 8, 0)
    assert made[16:20] == gone[16:20] == bytes((2, 0, 0, 0))
    assert parse_expectation(made) == told


STATE_OF = {  # protocol: its attribute of CTA_PROTOINFO, its parts, and where they stand in a tail
    132: (3, {1: b"\3", 2: b"\1\2\3\4", 3: b"\5\6\7\x08"}, T_SCTP),
    33: (2, {1: b"\3", 2: b"\1", 3: bytes(range(8))}, T_DCCP),
}


@pytest.mark.parametrize("protocol", STATE_OF)
@pytest.mark.parametrize("missing", [0, 2, 3])
def test_the_state_of_sctp_and_of_dccp_is_whole_or_left_out(protocol: int, missing: int) -> None:
    attribute_, parts, kind = STATE_OF[protocol]
    told = {number: part for number, part in parts.items() if number != missing}
    message = changed(event(CLIENT, SERVER, protocol=protocol), a4={attribute_: told})
    found = parse(message)
    assert found is not None and valid(*found[1:])
    assert tail(found[2]) == ({} if missing else {kind: b"".join(parts.values())})


def test_the_name_of_a_helper_has_a_limit() -> None:
    for name, kept in (
        (b"sip\0", True),
        (b"fifteen-letters\0", True),
        (b"sixteen-letters!\0", False),
        (b"\0", False),
    ):
        found = parse(changed(FLOW, a5={1: name}))
        assert found is not None and valid(found[1], found[2])
        assert tail(found[2]) == ({T_HELPER: name[:-1]} if kept else {})
    found = parse_expectation(changed(EXPECTATION, a6=b"n" * 40 + b"\0"))
    assert found is not None and valid(found[1], found[2])


def test_a_master_of_the_other_family_is_left_out() -> None:
    four, six = (parse(changed(FLOW, a14=tuple_)) for tuple_ in (tree(FLOW[20:])[1], SIX[1]))
    assert four is not None and tail(four[2]) == {T_MASTER: four[1]}
    assert six is not None and tail(six[2]) == {}


def test_a_timeout_that_is_over_is_one_second() -> None:
    """Zero would make the entry vanish."""
    parser = Parser()
    for timeout in (b"\0\0\0\7", bytes(4), b"\0\0\0\7", bytes(4)):
        message = changed(FLOW, a7=timeout)
        found = parse(message)
        assert found is not None and found[2][3:7] == (timeout if any(timeout) else AT_ONCE)
        assert parser.parse(message) == found


@pytest.mark.parametrize(("one_way", "zone"), [(1, 0), (2, 0), (1, 5)])
def test_the_zone_of_one_direction(one_way: int, zone: int) -> None:
    parts = tree(FLOW[20:])
    parts[one_way][3] = b"\0\7"
    found = parse(with_attributes(FLOW, parts | ({18: zone.to_bytes(2, "big")} if zone else {})))
    assert found is not None and valid(found[1], found[2])
    assert found[1][:2] == (zone or (7 if one_way == 1 else 0)).to_bytes(2, "big")
    assert tail(found[2]) == {T_ZONE: bytes((one_way, 0, 7))}


@pytest.mark.parametrize("protocol", [6, 17])
def test_what_the_reply_says_of_nat(protocol: int) -> None:
    for reply, ports, bits in (
        ((SERVER, CLIENT), (443, 40000), 0), ((SERVER, ROUTER), (443, 40000), 1),
        ((SERVER, CLIENT), (443, 40001), 1), ((ROUTER, CLIENT), (443, 40000), 2),
        ((SERVER, CLIENT), (444, 40000), 2), ((ROUTER, ROUTER), (444, 1), 3),
    ):  # fmt: skip
        message = event(CLIENT, SERVER, protocol=protocol)
        message = changed(message, a2=tree(direction(2, protocol, *reply, ports))[2])
        found = parse(message)
        assert found is not None and found[2][0] & 3 == bits and valid(found[1], found[2])
        parser = Parser()
        assert parser.parse(message) == parser.parse(message) == found
        assert bits != SNAT or found[2].endswith(reply[1] + ports[1].to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("client", "server", "router"), [(CLIENT, SERVER, ROUTER), (CLIENT6, SERVER6, SERVER6[::-1])]
)
def test_what_the_reply_says_of_nat_for_a_ping(client: bytes, server: bytes, router: bytes) -> None:
    """Its id may be translated alone; the parser says the same when it knows the shape."""
    parser = Parser()
    protocol = 1 if len(client) == 4 else 58
    message = event(client, server, protocol=protocol)
    for _ in range(2):
        for reply, number, bits in (
            ((server, client), 40000, 0), ((server, router), 40000, 1), ((server, client), 40001, 1),
            ((router, client), 40000, 2), ((router, router), 40001, 3),
        ):  # fmt: skip
            made = changed(message, a2=tree(direction(2, protocol, *reply, (number, 0)))[2])
            found = parse(made)
            assert found is not None and found[2][0] & 3 == bits and valid(found[1], found[2])
            assert parser.parse(made) == found and parser.knows(made)
            assert not bits or found[2].endswith(reply[bits == 1] + number.to_bytes(2, "big"))


def test_a_datagram_is_split_into_its_messages() -> None:
    one, other = (NLMSGHDR.pack(16 + size, 1, 0, 0, 0) + bytes(size) for size in (0, 5))
    padded = other + bytes(3)
    assert list(split(one)) == [one] and list(split(padded + one + padded)) == [other, one, other]
    assert list(split(b"")) == [] and list(split(one + one[:15])) == [one]
    for length in (0, 15, 17):
        assert list(split(one + struct.pack("=I", length) + one[4:])) == [one]
    assert list(split(one + other)) == [one, other]  # the last one may lack its padding


def test_where_attributes_lie() -> None:
    data = b"head" + attribute(1, b"abc") + attribute(0x8002, b"") + attribute(0x4003, b"d")
    found = attributes(data, 4, len(data))
    assert found == {1: (8, 11), 2: (16, 16), 3: (20, 21)}
    assert attributes(data, 4, 21) == found  # without the last padding
    assert attributes(data, len(data), len(data)) == {}
    assert value(data, found, 1, 3) == b"abc" and value(data, found, 2, 0) == b""
    for end in (5, 7, 10, 13, 20):
        with pytest.raises(Malformed):
            attributes(data, 4, end)
    for length in (0, 3, 6):
        with pytest.raises(Malformed):
            attributes(NLATTR.pack(length, 1), 0, 4)
    for kind, size in ((1, 2), (1, 4), (9, 0)):
        with pytest.raises(Malformed):
            value(data, found, kind, size)


# The parser's memory


def test_a_parser_keeps_some_shapes_of_a_length_and_some_in_all() -> None:
    """A kernel has few; another writer of messages must not make it grow, or slow."""
    parts = tree(FLOW[20:])
    orders = [some for some in permutations(parts) if some.index(1) < some.index(2)][:10]
    messages = [with_attributes(FLOW, {kind: parts[kind] for kind in some}) for some in orders]
    parser = Parser()
    assert [parser.parse(message) for message in messages] == [parse(message) for message in messages]
    assert [parser.knows(message) for message in messages] == [True] * 6 + [False] * 4
    many = [FLOW + attribute(100, bytes(4 * number)) for number in range(74)]
    many = [struct.pack("=I", len(message)) + message[4:] for message in many]
    parser = Parser()
    for message in 2 * many:
        assert parser.parse(message) == parse(message)
    assert sum(map(parser.knows, many)) == 64


def test_a_parser_forgets_the_fronts_of_bodies_and_makes_them_anew() -> None:
    parser = Parser()
    marks = [number.to_bytes(4, "big") for number in range(40)]
    for mark in marks + marks:
        message = changed(FLOW, a8=mark)
        found = parser.parse(message)
        assert found == parse(message) and found is not None
        assert bool(found[2][0] & MARK) is any(mark)
        assert not any(mark) or found[2][7:11] == mark


def test_what_a_parser_keeps_does_not_grow_with_the_marks_and_timeouts_that_it_sees() -> None:
    parser = Parser()
    messages = [changed(FLOW, a8=number.to_bytes(4, "big")) for number in range(2000)]
    tracemalloc.start()
    try:
        for message in messages:
            parser.parse(message)
        assert tracemalloc.get_traced_memory()[0] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", [6, 17])
def test_a_known_shape_is_read_bit_by_bit(protocol: int) -> None:
    """Each bit of the status, that of a fixed timeout too, and what an offloaded flow does not say."""
    flow = event(CLIENT, SERVER, protocol=protocol)
    tcp = {1: {1: b"\3", 2: b"\1", 3: b"\2", 4: b"\3\3", 5: b"\7\xff"}}
    parser = Parser()
    for status in (0, *(1 << bit for bit in range(16)), 0xFFFF):
        for kept in ({}, {"a7": None}, {"a4": tcp} if protocol == 6 else {"a8": b"\1\2\3\4"}):
            message = changed(flow, a3=status.to_bytes(4, "big"), **kept)
            known = parser.knows(message)
            assert known or not status
            found = parser.parse(message)
            assert found == parse(message) and found is not None and valid(found[1], found[2])
            assert bool(found[2][0] & 0x80) is bool(status & 0x400) and found[2][2] & 7 == status & 7


@pytest.mark.parametrize(
    "message",
    [
        with_more(FLOW, 8, b"\0\0\0\1", b"\0\0\0\2"),
        changed(FLOW, a5={1: b"sip\0"}), changed(FLOW, a18=b"\0\5"), changed(FLOW, a22=b"\1" * 16),
        changed(FLOW, a14=tree(FLOW[20:])[1]), event(CLIENT, SERVER, protocol=17, one_way_zone=5),
        event(CLIENT, SERVER, protocol=47), event(CLIENT, SERVER, protocol=253),
        event(CLIENT6, SERVER6, protocol=1),
        changed(FLOW, a4={1: {1: b"\3"}}), event(CLIENT, SERVER, state=3),
    ],
)  # fmt: skip
def test_what_is_rare_has_no_shape(message: bytes) -> None:
    parser = Parser()
    assert parser.parse(message) == parser.parse(message) == parse(message)
    assert not parser.knows(message)


@pytest.mark.parametrize("protocol", [6, 17, 1])
def test_the_end_of_a_flow_is_learnt_with_what_is_rare_but_for_a_zone(protocol: int) -> None:
    rare = changed(
        event(CLIENT, SERVER, protocol=protocol, kind=DELETE), a5={1: b"sip\0"}, a14=tree(FLOW[20:])[1]
    )
    parser = Parser()
    assert parser.parse(rare) == parser.parse(rare) == parse(rare) and parser.knows(rare)
    zoned = changed(rare, a18=b"\0\5")
    assert parser.parse(zoned) == parser.parse(zoned) == parse(zoned) and not parser.knows(zoned)
