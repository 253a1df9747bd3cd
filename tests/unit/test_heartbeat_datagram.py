# SPDX-License-Identifier: GPL-2.0-or-later
"""The datagram of a heartbeat, byte by byte, and the directory."""

from __future__ import annotations

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from tandem.channel import heartbeat
from tandem.channel.heartbeat import (
    DATAGRAM_MAX,
    HEAD,
    HEARS,
    begun,
    key_of,
    pack_directory,
    round_trip,
    seal,
    unpack_directory,
    unseal,
)
from tandem.channel.topics import DATA_MAX
from tandem.core.heartbeats import NEVER
from tandem.core.standing import STANDINGS_MAX, Entry

SECRET, A, B = b"s" * 16, b"a" * 8, b"b" * 8
WAY, BACK = bytes((10, 0, 0, 1, 10, 0, 0, 2)), bytes((10, 0, 0, 2, 10, 0, 0, 1))
KEY = key_of(SECRET, A, B)
SENDS = begun(KEY, WAY)


def data(standings: bytes = b"\x0a\x64\0") -> bytes:
    head = HEAD.pack(1, A, 7, 1000, 900, NEVER, 50, 3, HEARS, 12345, 2, len(standings) // 3)
    return head + standings


def test_the_layout_and_the_key() -> None:
    """As docs/protocol.md has it, made by hand."""
    numbers = ((7, 8), (1000, 4), (900, 4), (NEVER, 4), (50, 2), (3, 2), (2, 1), (12345, 8), (2, 4), (1, 1))
    body = b"\x01" + A + b"".join(value.to_bytes(size, "big") for value, size in numbers) + b"\x0a\x64\0"
    assert data() == body
    key = blake2b(A + B, key=SECRET, person=b"tandem heartbeat", digest_size=32).digest()
    assert key == KEY
    assert seal(begun(KEY, WAY), body) == body + blake2b(WAY + body, key=key, digest_size=16).digest()


def test_the_flags_are_those_of_every_release() -> None:
    """docs/protocol.md: a router of another release reads and writes the same bits."""
    assert (heartbeat.GOODBYE, heartbeat.HEARS, heartbeat.IN_STEP, heartbeat.STALE) == (1, 2, 4, 8)


def test_only_what_the_peer_has_made_is_taken() -> None:
    good = seal(SENDS, data())
    head = unseal(SENDS, good, A)
    assert head is not None and head[2] == 7
    assert unseal(SENDS, good, B) is None, "of another daemon, or of an earlier life"
    assert unseal(begun(KEY, BACK), good, A) is None, "by another path, or sent back"
    assert unseal(begun(key_of(SECRET, B, A), WAY), good, A) is None
    assert unseal(begun(key_of(b"t" * 16, A, B), WAY), good, A) is None
    assert unseal(SENDS, seal(SENDS, data() + b"\0"), A) is None, "of another length than it says"
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1
        assert unseal(SENDS, bytes(bad), A) is None


@given(st.binary(max_size=DATAGRAM_MAX + 1))
def test_a_strangers_datagram_is_refused(datagram: bytes) -> None:
    assert unseal(SENDS, datagram, A) is None
    assert unseal(SENDS, b"\x01" + A + datagram, A) is None


def test_the_round_trip_leaves_out_the_time_at_the_other_end() -> None:
    assert round_trip(5_000, 20_000, 25_300_000) == 300_000
    assert round_trip(0xFFFFFFFF, 10, (1 << 32) * 1000 + 110_000) == 101_000
    assert round_trip(0, NEVER, 0) is None


entries = st.builds(
    lambda name, vrid, family, there: Entry(name, vrid, family, bytes(4 if family == 4 else 16) * there),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.integers(1, 255), st.sampled_from((4, 6)), st.booleans(),
)  # fmt: skip


@given(st.integers(0, 0xFFFFFFFF), st.lists(entries, max_size=5))
def test_a_directory_comes_back(number: int, listed: list[Entry]) -> None:
    assert unpack_directory(pack_directory(number, listed)) == (number, tuple(listed))


@given(st.binary(max_size=60))
def test_a_malformed_directory_is_none_or_bounded(data: bytes) -> None:
    found = unpack_directory(bytes((heartbeat.VERSION,)) + data)
    assert found is None or len(found[1]) <= STANDINGS_MAX


def test_the_largest_directory_fits_into_a_message() -> None:
    largest = [Entry("\U0001f600" * 64, number, 6, bytes(16)) for number in range(STANDINGS_MAX)]
    assert len(pack_directory(1, largest)) <= DATA_MAX
    assert unpack_directory(pack_directory(1, [*largest, largest[0]])) is None
