# SPDX-License-Identifier: GPL-2.0-or-later
"""Records: what a peer may send, what an update leaves out, and when two bodies tell of the same flow."""

from __future__ import annotations

import pytest

from tandem.conntrack import record
from tandem.conntrack.record import (
    DNAT,
    EXPECTATION,
    EXPECTED,
    FIXED_SIZE,
    ICMP,
    IPV6,
    MARK,
    SNAT,
    T_DCCP,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_SCTP,
    T_ZONE,
    TAIL,
    TCP,
    ZONED,
    complete,
    fixed_size,
    merge,
    pack_tail,
    same_flow,
    tail,
    valid,
)

STATE = bytes((3, 7, 7, 3, 3))
ADDRESS = {4: bytes((192, 0, 2, 1)), 6: bytes(range(16))}
PORT = b"\x9c\x40"


def key(protocol: int, family: int = 4, zone: int = 0) -> bytes:
    """The key of a flow; its last bytes are a ping's for ICMP, ports for all others."""
    last = (b"\x08\0" if protocol == 1 else b"\x80\0") + PORT if protocol in (1, 58) else PORT + b"\1\xbb"
    return zone.to_bytes(2, "big") + bytes((family, protocol)) + 2 * ADDRESS[family] + last


def body(
    kind: int, status: int = 0x000E, timeout: int = 120, state: bytes = STATE, rest: bytes = b""
) -> bytes:
    """A body with all parts that its kind says, `rest` behind them."""
    made = bytes((kind,)) + status.to_bytes(2, "big") + timeout.to_bytes(4, "big")
    made += state if kind & TCP else b""
    made += b"\0\0\0\7" if kind & MARK else b""
    for bit in (SNAT, DNAT):
        if kind & bit:
            made += ADDRESS[6 if kind & IPV6 else 4] + PORT
    return made + rest


FLOWS = [  # (key, kind): of each family and protocol, with every part, in a zone and in none
    *((key(6, 4), TCP | parts) for parts in (0, SNAT, DNAT, SNAT | DNAT, MARK, MARK | SNAT | DNAT)),
    *((key(6, 6), TCP | IPV6 | parts) for parts in (0, SNAT, MARK | SNAT | DNAT)),
    *((key(17, 4), parts) for parts in (0, SNAT, MARK | DNAT)),
    (key(17, 6), IPV6), (key(1, 4), ICMP | SNAT), (key(58, 6), ICMP | IPV6 | DNAT),
    (key(47, 4), SNAT), (key(47, 6), IPV6), (key(58, 4), 0), (key(1, 6), IPV6),
    (key(6, 4, 5), TCP | ZONED), (key(6, 6, 256), TCP | IPV6 | ZONED | SNAT), (key(1, 4, 1), ICMP | ZONED),
]  # fmt: skip


def test_the_bits_of_a_status_have_the_kernels_numbers() -> None:
    """enum ip_conntrack_status of linux/netfilter/nf_conntrack_common.h."""
    assert record.IPS_EXPECTED == 1 << 0
    assert record.IPS_SEEN_REPLY == 1 << 1
    assert record.IPS_ASSURED == 1 << 2
    assert record.IPS_CONFIRMED == 1 << 3
    assert record.IPS_FIXED_TIMEOUT == 1 << 10


@pytest.mark.parametrize(("name", "kind"), FLOWS)
def test_a_flow_that_fits_its_key_is_valid_and_no_other(name: bytes, kind: int) -> None:
    good = body(kind)
    assert valid(name, good)
    for other in (SNAT, DNAT, TCP, MARK, IPV6, ICMP, ZONED, TAIL):
        changed = bytes((kind ^ other,)) + good[1:]
        assert valid(name, changed) is (other == TAIL)  # a tail may be empty
    for wrong in (good[:-1], good + b"\0", good[:1], b""):
        assert not valid(name, wrong)
    assert not valid(name[:-1], good) and not valid(name + b"\0", good) and not valid(b"", good)
    for family in range(256):
        assert valid(name[:2] + bytes((family,)) + name[3:], good) is (family == name[2])


@pytest.mark.parametrize("name", [key(6), key(6, zone=5)])  # what is common is checked by a shorter way
def test_the_values_in_a_body_are_checked(name: bytes) -> None:
    kind = TCP | (ZONED if name[:2] != b"\0\0" else 0)
    for status in (0x08, 0x09, 0x0A, 0x0C, 0x0F):  # CONFIRMED; EXPECTED, SEEN_REPLY and ASSURED may be there
        assert valid(name, body(kind, status))
    for status in (0, 0x06, *(0x08 | 1 << bit for bit in range(4, 16))):
        assert not valid(name, body(kind, status))
    for timeout in (1, 0x100, 0x10000, 0x1000000, 0xFFFFFFFF):
        assert valid(name, body(kind, timeout=timeout))
    assert not valid(name, body(kind, timeout=0))
    for at, most in enumerate((9, 14, 14)):  # the state, the window scales
        for value in range(20):
            state = STATE[:at] + bytes((value,)) + STATE[at + 1 :]
            assert valid(name, body(kind, state=state)) is (value <= most)
    for flags in range(256):
        assert valid(name, body(kind, state=bytes((3, 7, 7, flags, flags))))


def test_an_udp_flow_is_not_read_as_tcp() -> None:
    """Other protocols may have any value in the place of TCP's state."""
    for name, kind in ((key(17), MARK), (key(17, zone=5), MARK | ZONED)):
        made = body(kind)
        assert valid(name, made[:7] + b"\xff\xff\xff\xff")


def test_a_fixed_timeout_needs_a_tail() -> None:
    """The kernel's bit 10; it is rare, so it is told as the rare things are."""
    assert valid(key(17), body(TAIL, 0x040E)) and not valid(key(17), body(0, 0x040E))
    assert valid(key(47), body(TAIL, 0x040E)) and not valid(key(47), body(0, 0x040E))


MASTER = key(6)
SIZES = (3, 16), (4, 12), (5, 12), (6, 9), (7, 10), (8, 12), (9, 3)  # types and lengths
TAILS = [  # (the tail of a UDP flow, whether it is one)
    (b"", True),
    (pack_tail({T_HELPER: b"sip"}), True),
    (pack_tail({T_HELPER: b"f"}), True),
    (pack_tail({T_HELPER: b"fifteen-letters"}), True),
    (pack_tail({T_HELPER: b"sixteen-letters!"}), False),
    (pack_tail({T_HELPER: b""}), False),
    (pack_tail({T_HELPER: b"a\0b"}), False),
    (pack_tail({T_MASTER: MASTER}), True),
    (pack_tail({T_MASTER: MASTER[:-1]}), False),
    (pack_tail({T_MASTER: key(6, 6)}), False),
    (pack_tail({T_MASTER: MASTER[:2] + b"\6" + MASTER[3:]}), False),
    *((pack_tail({type_: b"\1" * size}), True) for type_, size in SIZES),
    *((pack_tail({type_: b"\1" * (size + more)}), False) for type_, size in SIZES for more in (-1, 1)),
    (pack_tail({T_ZONE: b"\2\0\5"}), True),
    (pack_tail({T_ZONE: b"\0\0\5"}), False),
    (pack_tail({T_ZONE: b"\3\0\5"}), False),
    (pack_tail({0: b""}), False),
    (pack_tail({10: b"\1"}), False),
    (pack_tail({T_MASTER: MASTER, T_HELPER: b"sip", T_LABELS: bytes(16), T_ZONE: b"\1\0\5"}), True),
    (pack_tail({T_LABELS: bytes(16)}) + pack_tail({T_HELPER: b"sip"}), False),  # in another order
    (2 * pack_tail({T_HELPER: b"sip"}), False),
    (pack_tail({T_HELPER: b"sip"})[:-1], False),
    (pack_tail({T_HELPER: b"sip"}) + b"\3", False),
    (pack_tail({T_HELPER: b"sip"}) + b"\3\x10", False),
]  # fmt: skip


@pytest.mark.parametrize(("end", "is_one"), TAILS)
def test_the_tail_of_a_body_is_checked(end: bytes, is_one: bool) -> None:
    assert valid(key(17), body(TAIL, rest=end)) is is_one
    assert not end or not valid(key(17), body(0, rest=end))
    six = body(TAIL | IPV6, rest=pack_tail({T_MASTER: key(6, 6)}))
    assert valid(key(17, 6), six) and not valid(key(17, 6), six[:-1])


EXPECTED_SIZES = {4: 12, 6: 36}


def expectation(family: int, names: bytes = b"ftp\0nat\0") -> bytes:
    size = EXPECTED_SIZES[family]
    return bytes((EXPECTATION,)) + bytes((0, 0, 0, 9)) + bytes(8) + b"\xff" * size + bytes(4 + size) + names


def expected_key(family: int) -> bytes:
    size = EXPECTED_SIZES[family]
    return b"\0\0" + bytes((family | EXPECTED, 6)) + bytes(2 * size) + b"\6"


@pytest.mark.parametrize("family", [4, 6])
def test_an_expectation_that_a_peer_sends_is_checked(family: int) -> None:
    name, longest = expected_key(family), b"a" * 31
    for names in (b"ftp\0nat\0", b"\0\0", longest + b"\0" + longest + b"\0"):
        assert valid(name, expectation(family, names))
    for names in (
        b"",
        b"\0",
        b"ftp\0nat",
        b"ftp\0nat\0x",
        b"a\0b\0c\0",
        longest + b"a\0\0",
        b"\0a" + longest + b"\0",
    ):
        assert not valid(name, expectation(family, names))
    good = expectation(family)
    for other in (name[:-1], name + b"\0", expected_key(10 - family), key(6, family)):
        assert not valid(other, good)
    assert not valid(name, body(TCP if family == 4 else TCP | IPV6)) and not valid(name, good[:20])


def test_bodies_of_one_kind_have_one_size() -> None:
    for kind, size in (
        (0, 7), (TCP, 12), (MARK, 11), (SNAT, 13), (DNAT, 13), (TCP | MARK | SNAT | DNAT, 28),
        (IPV6, 7), (IPV6 | TCP, 12), (IPV6 | SNAT, 25), (IPV6 | DNAT, 25), (IPV6 | SNAT | DNAT, 43),
        (ICMP | ZONED | TAIL, 7),
    ):  # fmt: skip
        assert fixed_size(kind) == FIXED_SIZE[kind] == size


def test_a_tail_is_read_as_it_was_packed() -> None:
    values = {T_LABELS: bytes(16), T_HELPER: b"sip"}
    assert pack_tail(values) == b"\2\3sip\3\x10" + bytes(16)
    assert tail(body(TAIL | TCP | SNAT, rest=pack_tail(values))) == values
    assert tail(body(TCP | SNAT)) == {} and tail(body(TAIL | TCP)) == {}
    assert tail(body(0, rest=pack_tail(values))) == {}  # the kind says that there is none
    assert tail(expectation(4)) == tail(expectation(6, b"\2\3sip\0")) == {}


UNKNOWN = bytes(5)


def test_an_update_without_the_state_of_tcp_is_not_complete() -> None:
    assert complete(body(TCP)) and not complete(body(TCP, state=UNKNOWN))
    assert complete(body(0)) and complete(body(MARK))
    assert complete(body(TCP | TAIL, state=UNKNOWN)) and complete(expectation(4))


def test_an_update_keeps_what_the_event_left_out() -> None:
    old = body(TCP | TAIL | SNAT, 0x0A, 300, rest=pack_tail({T_HELPER: b"ftp", T_LABELS: b"\1" * 16}))
    new = body(TCP | MARK | SNAT, 0x0E, 200, state=UNKNOWN)
    assert merge(old, new) == body(
        TCP | TAIL | MARK | SNAT, 0x0E, 200, rest=pack_tail({T_HELPER: b"ftp", T_LABELS: b"\1" * 16})
    )
    told = body(TCP | TAIL | SNAT, state=bytes((4, 1, 2, 1, 1)), rest=pack_tail({T_LABELS: b"\2" * 16}))
    assert merge(old, told) == body(
        TCP | TAIL | SNAT,
        state=bytes((4, 1, 2, 1, 1)),
        rest=pack_tail({T_HELPER: b"ftp", T_LABELS: b"\2" * 16}),
    )
    assert merge(body(TCP | TAIL), told) == told and merge(body(TCP), told) == told
    assert merge(body(TCP, state=UNKNOWN), body(TCP, state=UNKNOWN)) == body(TCP, state=UNKNOWN)
    assert merge(body(0), body(MARK)) == body(MARK)
    assert merge(body(TAIL, rest=pack_tail({T_SCTP: b"\3" * 9})), body(0)) == body(
        TAIL, rest=pack_tail({T_SCTP: b"\3" * 9})
    )


def test_an_expectation_is_not_merged() -> None:
    old, new = expectation(4), expectation(4, b"sip\0\0")
    assert merge(old, new) == new
    assert merge(body(TCP), new) == new and merge(old, body(TCP, state=UNKNOWN)) == body(TCP, state=UNKNOWN)


def test_a_dump_tells_the_same_flow_whatever_its_timeout() -> None:
    known = body(TCP | TAIL | SNAT, timeout=300, rest=pack_tail({T_DCCP: b"\1" * 10}))
    assert same_flow(known, known[:3] + b"\0\0\0\1" + known[7:])
    assert same_flow(known, body(TCP | SNAT, timeout=9, state=UNKNOWN)), (
        "what a dump leaves out does not count"
    )
    for at in (1, 2, 7, 8, 11, 12, 17):
        changed = known[:at] + bytes((known[at] ^ 4,)) + known[at + 1 :]
        assert not same_flow(known, changed)
    assert not same_flow(known, body(TCP, timeout=300)) and not same_flow(None, known)


def test_an_expectation_is_the_same_whatever_its_timeout() -> None:
    known = expectation(4)
    assert same_flow(known, known) and same_flow(known, known[:1] + b"\1\2\3\4" + known[5:])
    for at in (5, 12, 13, len(known) - 2):
        assert not same_flow(known, known[:at] + bytes((known[at] ^ 1,)) + known[at + 1 :])
    assert not same_flow(None, known) and not same_flow(body(0), known) and not same_flow(known, body(0))
