# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches, and the parsing of the kernel's answers."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.settings import Address
from tandem.effects import netlink
from tandem.effects.leftovers import foreign_addresses
from tandem.effects.netlink import Batch, Failure, Unbound, attributes, bind, messages
from tandem.effects.rtmessages import FOREVER, AddressMessage, LinkMessage, parse
from tandem.nlmsg import NLMSGHDR
from tandem.plan import encode_rtnl
from tandem.plan.result import Template

INDEXES = {"v0": 7, "v1": 8}


def message(kind: int, size: int = 8, relocations: tuple[tuple[int, str], ...] = ()) -> Template:
    return f"m{kind}", NLMSGHDR.pack(16 + size, kind, 1, 0, 0) + bytes(size), relocations


def bound(templates: list[Template]) -> Batch:
    batch = bind(templates, INDEXES.get)
    assert isinstance(batch, Batch)
    return batch


def headers(chunk: bytes) -> list[tuple[int, int, int]]:
    return [(sequence, kind, flags) for kind, flags, sequence, _ in messages(chunk)]


def test_only_the_last_message_asks_for_an_ack() -> None:
    batch = bound([message(20), message(24), message(32)])
    assert [headers(chunk) for chunk in batch.chunks] == [[(1, 20, 1), (2, 24, 1), (3, 32, 5)]]
    assert batch.labels == ("m20", "m24", "m32")


def test_indexes_are_written_where_they_belong() -> None:
    batch = bound([message(20, 12, ((16, "v0"), (24, "v1")))])
    assert batch.chunks[0][16:] == struct.pack("=III", 7, 0, 8)


def test_a_missing_interface_leaves_the_batch_unbound() -> None:
    templates = [message(20, 8, ((16, "gone"),)), message(20), message(20, 8, ((16, "too"), (20, "gone")))]
    assert bind(templates, INDEXES.get) == Unbound(("gone", "too"))
    present = bind(templates, INDEXES.get, skip_missing=True)
    assert isinstance(present, Batch)
    assert len(headers(present.chunks[0])) == 1


def test_messages_of_odd_length_stay_aligned() -> None:
    batch = bound([message(20, 5), message(24, 8)])
    assert headers(batch.chunks[0]) == [(1, 20, 1), (2, 24, 5)]


def test_nothing_to_send() -> None:
    assert bound([]) == Batch((), (), ())


@pytest.mark.parametrize(("size", "count"), [(8, 1000), (10_000, 20)])
def test_long_batches_are_sent_in_pieces(size: int, count: int) -> None:
    batch = bound([message(20, size) for _ in range(count)])
    assert max(len(chunk) for chunk in batch.chunks) < 64 * 1024
    found = [header for chunk in batch.chunks for header in headers(chunk)]
    assert [sequence for sequence, _, _ in found] == list(range(1, count + 1))
    assert sum(flags & netlink.NLM_F_ACK for _, _, flags in found) == netlink.NLM_F_ACK * len(batch.chunks)


def test_failures_speak_to_people() -> None:
    assert str(Failure("route default", errno.ENETUNREACH)) == "route default: Network is unreachable"
    assert str(Failure("x", errno.EINVAL, "Invalid prefsrc")) == "x: Invalid argument (Invalid prefsrc)"


# --- parsing


@given(st.integers(min_value=0, max_value=70), st.binary(max_size=200))
def test_garbage_is_a_message_or_nothing(kind: int, body: bytes) -> None:
    parse(kind, body)
    list(messages(body))
    attributes(body, 0)


@given(st.data())
def test_a_truncated_message_is_no_error(data: st.DataObject) -> None:
    _, whole, _ = encode_rtnl.add_address(Address("2001:db8::4", 64, 6), "v0", 3)
    kind = struct.unpack_from("=H", whole, 4)[0]
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 16))
    flipped = bytearray(whole[16 : 16 + cut])
    for _ in range(data.draw(st.integers(min_value=0, max_value=3))):
        if flipped:
            flipped[data.draw(st.integers(0, len(flipped) - 1))] = data.draw(st.integers(0, 255))
    parse(kind, bytes(flipped))


def test_our_own_messages_are_understood() -> None:
    _, whole, _ = encode_rtnl.add_address(Address("2001:db8::4", 64, 6), "v0", 3)
    [(kind, _, _, body)] = messages(whole)
    found = parse(kind, body)
    assert isinstance(found, AddressMessage)
    assert (found.family, found.prefixlen, found.valid_s, found.flags, found.protocol) == (6, 64, 3, 2, 112)
    assert found.address == bytes.fromhex("20010db8000000000000000000000004")


def test_ports_of_a_bridge_are_not_links() -> None:
    name = struct.pack("=HH4s", 7, 3, b"v0\0")
    assert isinstance(parse(17, struct.pack("=BxHiII", 0, 1, 7, 0, 0) + name), LinkMessage)
    assert parse(17, struct.pack("=BxHiII", 7, 1, 7, 0, 0) + name) is None


def test_addresses_of_somebody_else_are_recognised() -> None:
    addresses = [Address("192.168.1.4", 24, 4), Address("192.168.1.5", 24, 4), Address("192.168.1.6", 24, 4)]
    templates = [encode_rtnl.add_address(address, "v0", 3) for address in addresses]

    def existing(last: int, prefixlen: int = 24, valid_s: int = FOREVER, protocol: int = 0) -> AddressMessage:
        return AddressMessage(True, 7, 4, bytes((192, 168, 1, last)), prefixlen, 0, 0, valid_s, protocol)

    known = [existing(4), existing(5, prefixlen=32), existing(5, valid_s=2), existing(6, protocol=112)]
    assert foreign_addresses(templates, known, INDEXES.get) == {"address 192.168.1.4/24 dev v0"}
    assert foreign_addresses(templates, known, {"v0": 8}.get) == frozenset()
