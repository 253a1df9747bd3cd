# SPDX-License-Identifier: GPL-2.0-or-later
"""Captured messages: the records that they give, and the messages that restore them."""

from __future__ import annotations

import struct
import sys

import pytest

from tandem.conntrack import message, record
from tandem.conntrack.bulk import CHANGE
from tandem.conntrack.encode import Builder
from tandem.conntrack.expectation import master_key, parse_expectation
from tandem.conntrack.parser import Parser
from tandem.conntrack.record import (
    DESTROY,
    DNAT,
    EXPECTATION,
    ICMP,
    MARK,
    NEW,
    SNAT,
    TCP,
    UPDATE,
    ZONED,
    further,
    merge,
    tail,
    valid,
)  # fmt: skip

from .flow_messages import attribute, event, nest
from .vectors import NATIVE, reordered, subsystem, translated, tree, vectors, with_attributes

NAT = {
    "plain": 0, "snat": SNAT, "snat port": SNAT, "masquerade": SNAT, "dnat": DNAT, "dnat port": DNAT,
    "both": SNAT | DNAT, "both ports": SNAT | DNAT, "redirect port only": DNAT,
}  # fmt: skip


def parse(raw: bytes) -> record.Record:
    found = parse_expectation(raw) if subsystem(raw) == 2 else message.parse(raw)
    assert found is not None
    return found


def test_which_of_two_knows_more_of_a_connection() -> None:
    def tcp(state: int) -> bytes:
        return bytes((TCP, 0, 8, 0, 0, 0, 9, state, 0, 0, 0, 0))

    order = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert all(further(tcp(a), tcp(b)) == (a > b > 0) for a in order for b in order)
    assert not further(tcp(9), tcp(1)) and not further(tcp(1), tcp(9)) and further(tcp(2), tcp(9))
    udp = bytes((0, 0, 8, 0, 0, 0, 9))
    assert not further(udp, udp) and not further(tcp(3), udp) and not further(udp, tcp(3))
    expectation = bytes((EXPECTATION, *range(30)))
    assert not further(expectation, expectation)


@pytest.mark.parametrize("case", sorted({case for case, _ in vectors()}))
def test_a_flow_from_beginning_to_end(case: str) -> None:
    """NEW, UPDATE, DESTROY in this order, all for one key, with the NAT that the case's name says."""
    states: dict[bytes, list[int]] = {}
    for name, raw in vectors("event"):
        if name == case:
            op, key, body = parse(raw)
            states.setdefault(key, []).append(op)
            if op == DESTROY:
                assert body == b""
                continue
            assert valid(key, body)
            protocol, _, rest = case.partition(" ")
            if protocol in ("tcp", "udp"):
                assert body[0] & (SNAT | DNAT) == NAT[rest.removeprefix("v6 ")]
                assert bool(body[0] & TCP) == (protocol == "tcp")
    for ops in states.values():
        assert ops[0] == NEW and all(op == UPDATE for op in ops[1:-1])
        assert len(ops) == 1 or ops[-1] in (UPDATE, DESTROY)
    if case.startswith(("tcp", "udp")):
        assert [ops[-1] for ops in states.values()] == [DESTROY]


@pytest.mark.parametrize(("case", "raw"), vectors("dump"))
def test_restored_from_a_dump(case: str, raw: bytes) -> None:
    """The restore message: the reply is the plain inverse, the NAT apart, and what is left is as it was."""
    op, key, body = parse(raw)
    assert op == UPDATE and valid(key, body)
    made = Builder().message(key, body, 0x01020304)
    assert struct.unpack_from("=IHHI", made) == (len(made), subsystem(raw) << 8, 0x401, 0x01020304)
    if body[0] == EXPECTATION:
        assert tree(made[20:]) == {type_: value for type_, value in tree(raw[20:]).items() if type_ != 5}
        return
    was, parts = tree(raw[20:]), tree(made[20:])
    for ours in (parts[1], parts[2]):
        if 2 not in was[1][2] and 4 not in was[1][2] and 7 not in was[1][2]:  # no ports: ours are zero
            assert ours[2].pop(2) == ours[2].pop(3) == b"\0\0"
    assert parts[1] == was[1]
    original, reply = parts[1][1], parts[2][1]
    first, second = sorted(original)
    assert (reply[first], reply[second]) == (original[second], original[first])
    for kind, address in ((6, second), (13, first)):
        bit = SNAT if kind == 6 else DNAT
        assert (kind in parts) == bool(body[0] & bit)
        if kind in parts:
            assert was[2][1][address] in (parts[kind].get(1), parts[kind].get(4))
    assert struct.unpack("!I", parts[3])[0] & ~0x406 == 8  # CONFIRMED, of the others only what may be set
    assert parts[7] == was[7]
    if TCP & body[0]:
        assert parts[4][1][1:] if isinstance(parts[4][1], bytes) else parts[4][1][1] == was[4][1][1]
        for direction in (4, 5):
            flags = was[4][1][direction][0] & 3 | 8
            assert parts[4][1][direction] == bytes((flags, 0x0B))
    again = message.parse(translated(made))
    expected = body[:2] + bytes((body[2] & ~1,)) + body[3:]  # EXPECTED is the kernel's to set
    assert again is not None and again[1:] == (key, expected)


def test_captured_messages_come_in_the_order_of_this_machine() -> None:
    """The other tests here depend on the order of the vectors on a big-endian machine."""
    for _, raw in vectors():
        little = reordered(raw, NATIVE, "<")
        big = reordered(raw, NATIVE, ">")
        assert (raw == little) == (sys.byteorder == "little") and (raw == big) == (sys.byteorder == "big")
        assert reordered(big, ">", "<") == little


def test_what_the_rare_ones_have() -> None:
    tails: dict[int, bytes] = {}
    kinds = 0
    for case, raw in vectors("dump"):
        if case in ("others", "ftp") and subsystem(raw) == 1:
            body = parse(raw)[2]
            tails |= tail(body)
            kinds |= body[0]
    assert kinds & MARK and kinds & ZONED
    assert tails[record.T_HELPER] == b"ftp"
    assert tails[record.T_LABELS][0] == 1 << 5 and len(tails[record.T_LABELS]) == 16
    assert tails[record.T_ZONE] == b"\1\0\x08"
    assert tails[record.T_SCTP][0] == 1 or tails[record.T_SCTP][0] < 10
    assert len(tails[record.T_MASTER]) == 16
    position, before, after = struct.unpack("!3I", tails[record.T_SEQ_ADJ_ORIG])
    assert position and after - before == 2  # 10,0,0,2 has become 192,0,2,10


def test_labels_are_the_same_on_a_machine_of_the_other_byte_order() -> None:
    """nft --debug=netlink writes label 5 as 0x0 0x0 0x0 0x20 on s390x, as 0x20 0x0 0x0 0x0 on x86_64."""
    little, big = (1 << 5).to_bytes(16, "little"), (1 << 5).to_bytes(16, "big")
    assert message.labels(little, "little") == message.labels(big, "big") == little
    [body] = [parse(raw)[2] for case, raw in vectors("dump") if case == "others" and 22 in tree(raw[20:])]
    assert tail(body)[record.T_LABELS] == little


def test_an_expectation_names_its_master() -> None:
    [raw] = [raw for case, raw in vectors("dump") if case == "ftp" and subsystem(raw) == 2]
    key = parse(raw)[1]
    flows = {parse(other)[1] for case, other in vectors("dump") if case == "ftp" and subsystem(other) == 1}
    assert master_key(key) in flows


def test_icmp() -> None:
    for case, raw in vectors():
        if case.startswith("icmp"):
            _, key, body = parse(raw)
            assert body[0] & (ICMP | SNAT | DNAT) == ICMP | SNAT
            assert key[-4:] == bytes((8 if key[2] == 4 else 128, 0, 0x12, 0x34))


def test_every_captured_shape_is_learnt() -> None:
    """The second message of a shape is as fast as it gets; both ways lead to the same."""
    parser = Parser()
    for _, raw in vectors():
        assert parser.parse(raw) == parse(raw)
    for case, raw in vectors():
        assert parser.parse(raw) == parse(raw)
        if case.startswith(("tcp", "udp", "icmp")):
            assert parser.knows(raw)


def test_an_update_says_only_what_changed() -> None:
    [first] = [raw for case, raw in vectors("dump") if case == "tcp both ports"]
    _, key, whole = parse(first)
    parts = tree(first[20:])
    without = {type_: value for type_, value in parts.items() if type_ != 4}  # a mark has been set
    without[8] = b"\0\0\0\7"
    _, same, body = parse(with_attributes(first, without))
    assert same == key and not record.complete(body) and record.complete(whole)
    merged = merge(whole, body)
    assert merged[7:12] == whole[7:12] and merged[12:16] == b"\0\0\0\7" and merged[16:] == whole[12:]


def test_an_offloaded_flow_is_established() -> None:
    """The kernel tells neither timeout nor state of a flow that is in a flow table."""
    [raw] = [raw for case, raw in vectors("dump") if case == "tcp snat"]
    parts = {type_: value for type_, value in tree(raw[20:]).items() if type_ not in (4, 7)}
    parts[3] = (0x419E | 0x4000).to_bytes(4, "big")
    _, key, body = parse(with_attributes(raw, parts))
    assert valid(key, body)
    made = tree(Builder().message(key, body)[20:])
    assert made[4][1][1] == b"\3" and struct.unpack("!I", made[7])[0] == message.OFFLOADED_TCP_TIMEOUT
    assert struct.unpack("!I", made[3])[0] & 0xC000 == 0


def test_the_timeout_of_established_connections_is_this_routers() -> None:
    entries = [parse(raw)[1:] for case, raw in vectors("dump") if case.startswith(("tcp", "udp"))]
    builder = Builder()
    for chunk in builder.chunks(entries, 1, 7440):
        offset = 0
        for _, body in chunk.entries:
            length = struct.unpack_from("=I", chunk.data, offset)[0]
            timeout = tree(bytes(chunk.data[offset + 20 : offset + length]))[7]
            established = body[0] & TCP and body[7] == 3
            assert timeout == (struct.pack("!I", 7440) if established else body[3:7])
            offset += length


def test_an_update_has_no_nat_and_no_helper() -> None:
    for _, raw in vectors("dump"):
        _, key, body = parse(raw)
        if body[0] != EXPECTATION:
            made = Builder().message(key, body, 1, CHANGE)
            assert not tree(made[20:]).keys() & {2, 5, 6, 13, 14}
            assert struct.unpack_from("=H", made, 6)[0] == 1


@pytest.mark.parametrize("kind", [15, 16, 24])  # CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY, CTA_SYNPROXY
def test_the_empty_extensions_of_restored_entries_are_learnt_and_others_are_read(kind: int) -> None:
    plain = event(b"\x0a\0\0\1", b"\x0a\0\0\2", protocol=17)

    def extended(third: int) -> bytes:
        inner = [attribute(number, struct.pack("!I", value)) for number, value in enumerate((0, 0, third), 1)]
        body = plain[16:] + nest(kind & 0x3FFF, *inner)
        return struct.pack("=I", 16 + len(body)) + plain[4:16] + body

    parser = Parser()
    assert parser.parse(extended(0)) == parser.parse(plain)
    assert parser.knows(extended(0)) and not parser.knows(extended(7))
    assert parser.parse(extended(7)) == message.parse(extended(7)) != parser.parse(plain)


def test_dccp_which_linux_tracked_until_6_15() -> None:
    """State, role and handshake sequence number go along (enum ctattr_protoinfo_dccp)."""
    client, server = bytes((10, 0, 0, 2)), bytes((192, 0, 2, 2))
    state, role, sequence = b"\4", b"\1", bytes.fromhex("0000123456789abc")
    info = nest(4, nest(2, attribute(1, state), attribute(2, role), attribute(3, sequence)))
    raw = event(client, server, protocol=33, ports=(40000, 5001), reply=(server, bytes((192, 0, 2, 10))))
    raw = struct.pack("=I", len(raw) + len(info)) + raw[4:] + info
    op, key, body = parse(raw)
    assert op == NEW and key[3] == 33 and valid(key, body)
    assert tail(body) == {record.T_DCCP: state + role + sequence}
    assert Parser().parse(raw) == (op, key, body)
    restored = Builder().message(key, body)
    assert info in restored
    assert body[0] & SNAT and bytes((192, 0, 2, 10)) in restored


# nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c: what answers what.
ANSWERS = {1: {8: 0, 13: 14, 15: 16, 17: 18}, 58: {128: 129, 139: 140}}


@pytest.mark.parametrize("protocol", [1, 58])
@pytest.mark.parametrize("asked", [0, 3, 8, 13, 14, 15, 16, 17, 18, 127, 128, 129, 130, 139, 140, 255])
def test_the_answer_to_an_icmp_message_is_of_the_other_type(protocol: int, asked: int) -> None:
    """The kernel refuses an entry whose reply is not the inverse of its original."""
    answers = ANSWERS[protocol] | {answer: question for question, answer in ANSWERS[protocol].items()}
    size = 4 if protocol == 1 else 16
    key = (
        bytes((0, 0, 4 if protocol == 1 else 6, protocol)) + bytes(range(2 * size)) + bytes((asked, 0, 9, 9))
    )
    body = bytes((ICMP | (0 if protocol == 1 else record.IPV6), 0, 8, 0, 0, 0, 30))
    made = Builder().message(key, body)
    found = message.attributes(made, 20, len(made))
    original, reply = (message.Flow(made, found[kind]) for kind in (1, 2))
    assert original.type_code == bytes((asked, 0)) and original.packed()[-4:] == bytes((asked, 0, 9, 9))
    assert reply.type_code == bytes((answers.get(asked, asked), 0)) and reply.sport == b"\x09\x09"
