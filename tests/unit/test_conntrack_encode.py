# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to the kernel that are made in bulk: timeouts, deletions, questions, and the order of all."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from socket import AF_INET, AF_INET6

import pytest

from tandem.conntrack.bulk import CHANGE, TOUCH
from tandem.conntrack.encode import EXPECTATIONS_AT_ONCE, Builder, Chunk
from tandem.conntrack.expectation import master_key, parse_expectation
from tandem.conntrack.message import split
from tandem.conntrack.record import (
    EXPECTATION,
    T_HELPER,
    T_LABELS,
    T_MASTER,
    T_ZONE,
    TAIL,
    Entry,
    pack_tail,
    valid,
)

from .test_conntrack_record import FLOWS, TCP, body, expectation, expected_key, key
from .vectors import tree

REQUEST, CREATE_FLAG = 1, 0x400
ENTRIES = [(name, body(kind)) for name, kind in FLOWS]


def numbered(protocol: int, number: int) -> bytes:
    return key(protocol)[:-4] + number.to_bytes(4, "big")


def tailed(number: int, tail: dict[int, bytes], timeout: int = 120) -> Entry:
    """A flow of UDP with something rare."""
    return numbered(17, number), body(TAIL, timeout=timeout, rest=pack_tail(tail))


def expected(number: int, family: int = 4) -> Entry:
    name = expected_key(family)
    return name[:6] + number.to_bytes(2, "big") + name[8:], expectation(family)


def told(chunks: Iterable[Chunk]) -> Iterator[tuple[Entry, bytes]]:
    """Return the flow of each message; the sequence numbers begin with 1 and have no gap.

    Each message is for the kernel (port id 0), of the flow's family, version 0, and with resource id 0.
    """
    sequence = 1
    for chunk in chunks:
        messages = list(split(bytes(chunk.data)))
        assert chunk.first == sequence and len(messages) == len(chunk.entries)
        for entry, message in zip(chunk.entries, messages, strict=True):
            assert struct.unpack_from("=II", message, 8) == (sequence, 0)
            family = AF_INET6 if entry[0][2] & 15 == 6 else AF_INET
            assert message[16:20] == bytes((family, 0, 0, 0))
            sequence += 1
            yield entry, message


def head(message: bytes) -> tuple[int, int]:
    """Type and flags."""
    length, type_, flags = struct.unpack_from("=IHH", message)
    assert length == len(message)
    return type_, flags


@pytest.mark.parametrize("purpose", [0, CHANGE, TOUCH])
def test_no_timeout_is_below_the_least(purpose: int) -> None:
    entries = [
        *((numbered(17, timeout), body(0, timeout=timeout)) for timeout in (1, 299, 300, 301, 70_000)),
        *((numbered(6, timeout), body(TCP, timeout=timeout)) for timeout in (1, 299, 300, 301, 70_000)),
        *(tailed(timeout, {T_HELPER: b"sip"}, timeout) for timeout in (2, 298, 302)),
        *(tailed(timeout, {T_HELPER: b"sip", T_MASTER: key(6)}, timeout) for timeout in (3, 303)),
    ]
    for least in (0, 300):
        made = dict(told(Builder().chunks(entries, purpose=purpose, least=least)))
        assert made.keys() == set(entries)
        for (_, known), message in made.items():
            timeout = int.from_bytes(known[3:7], "big")
            assert tree(message[20:])[7] == max(timeout, least).to_bytes(4, "big")
            if known[0] & TAIL and purpose == 0:
                assert tree(message[20:])[5] == {1: b"sip\0"}


def test_the_timeout_of_an_expectation_is_left_as_it_is() -> None:
    [(entry, message)] = told(Builder().chunks([expected(1)], least=300))
    assert entry == expected(1) and tree(message[20:])[4] == b"\0\0\0\x09"


def test_established_connections_have_their_own_timeout_and_others_the_least() -> None:
    states = [bytes((state, 7, 7, 3, 3)) for state in range(10)]
    entries = [
        (numbered(6, number), body(TCP, timeout=9, state=state)) for number, state in enumerate(states)
    ]
    made = list(told(Builder().chunks(entries, established=0x01020304, least=300)))
    for number, (entry, message) in enumerate(made):
        assert entry == entries[number]
        own = number in (0, 3)  # offloaded flows are established
        assert tree(message[20:])[7] == (0x01020304 if own else 300).to_bytes(4, "big")


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_touch_says_the_timeout_alone(entry: Entry) -> None:
    name, known = entry
    [(_, message)] = told(Builder().chunks([entry], purpose=TOUCH))
    whole = tree(Builder().message(name, known)[20:])
    assert head(message) == (0x100, REQUEST)
    assert tree(message[20:]) == {type_: whole[type_] for type_ in whole if type_ in (1, 7, 18)}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_change_tells_the_whole_status_and_a_creation_all_but_that_it_was_expected(entry: Entry) -> None:
    """The kernel refuses to change IPS_EXPECTED, of a new entry too (ctnetlink_change_status)."""
    name, known = entry[0], entry[1][:1] + b"\x01\x0f" + entry[1][3:]
    created, changed = (tree(Builder().message(name, known, purpose=purpose)[20:]) for purpose in (0, CHANGE))
    assert (created[3], changed[3]) == (b"\0\0\1\x0e", b"\0\0\1\x0f")
    assert changed == {type_: part for type_, part in created.items() if type_ not in (2, 6, 13)} | {
        3: changed[3]
    }


def test_a_touch_has_nothing_rare_and_no_expectation() -> None:
    entries = [tailed(1, {T_HELPER: b"sip", T_LABELS: b"\1" * 16}), expected(1), (key(6), body(TCP))]
    made = dict(told(Builder().chunks(entries, purpose=TOUCH)))
    assert made.keys() == {entries[0], entries[2]}
    assert all(tree(message[20:]).keys() == {1, 7} for message in made.values())


def test_a_plain_message_has_nothing_rare() -> None:
    name, known = tailed(1, {T_HELPER: b"sip", T_LABELS: b"\1" * 16, T_ZONE: b"\1\0\5"})
    plain, whole = (tree(Builder().message(name, known, plain=plain)[20:]) for plain in (True, False))
    assert plain == {type_: part for type_, part in whole.items() if type_ not in (5, 22)}
    assert plain[1][3] == b"\0\5" and 3 not in plain[2]


@pytest.mark.parametrize("direction", [1, 2])
def test_a_zone_of_one_direction_is_in_that_tuple(direction: int) -> None:
    name, known = tailed(1, {T_ZONE: bytes((direction, 0, 5))})
    bare = tree(Builder().message(name, body(0))[20:])
    made = tree(Builder().message(name, known)[20:])
    assert made[direction].pop(3) == b"\0\5" and made == bare
    changed = tree(Builder().message(name, known, purpose=CHANGE)[20:])  # which has no reply
    assert (3 in changed[1]) is (direction == 1)


def test_what_needs_another_entry_comes_last_and_expectations_after_that() -> None:
    child, rare = tailed(1, {T_MASTER: key(6)}), tailed(2, {T_LABELS: b"\1" * 16})
    plain = key(6), body(TCP)
    made = [entry for entry, _ in told(Builder().chunks([expected(1), child, expected(2), rare, plain]))]
    assert made == [plain, rare, child, expected(1), expected(2)]


def test_chunks_are_made_as_the_entries_come() -> None:
    """So a step is short, however many entries there are."""
    for entries in (
        [(numbered(6, number), body(TCP)) for number in range(2000)],
        [tailed(number, {T_LABELS: b"\1" * 16}) for number in range(2000)],
    ):
        rest = iter(entries)
        chunks = Builder(4096).chunks(rest)
        first = next(chunks)
        assert 1 <= len(first.entries) <= 100 and len(list(rest)) >= 1900
        assert first.simple is (entries[0][1][0] & TAIL == 0)
    many = [tailed(number, {T_LABELS: b"\1" * 16}) for number in range(250)]
    assert [entry for entry, _ in told(Builder().chunks(many))] == many


@pytest.mark.parametrize("max_bytes", [1, 500, 4096, 65536])
def test_entries_are_deleted_by_their_keys_and_expectations_last(max_bytes: int) -> None:
    builder = Builder(max_bytes)
    flows = [name for name, _ in FLOWS] + [numbered(6, number) for number in range(300)]
    expectations = [expected(number, family)[0] for number in range(200) for family in (4, 6)]
    chunks = list(builder.deletes([*expectations, *flows]))
    made = [(name, message) for (name, _), message in told(chunks)]
    assert sorted(name for name, _ in made[: len(flows)]) == sorted(flows)
    assert [name for name, _ in made[len(flows) :]] == expectations
    for number, (name, message) in enumerate(made[: len(flows)], 1):
        assert message == builder.delete(name, number) and head(message) == (0x102, REQUEST)
        whole = tree(builder.message(name, dict(ENTRIES).get(name, body(TCP)))[20:])
        assert tree(message[20:]) == {type_: whole[type_] for type_ in whole if type_ in (1, 18)}
    for chunk in chunks:
        if chunk.entries[0][0][2] < 0x40:
            assert len(chunk.data) <= max_bytes or len(chunk.entries) == 1
        else:
            assert len(chunk.entries) <= EXPECTATIONS_AT_ONCE
    assert sum(chunk.entries[0][0][2] > 0x40 for chunk in chunks) == 2
    alike = [chunk for chunk in chunks if chunk.entries[0][0][:4] in (b"\0\0\4\6", b"\0\0\4\x11")]
    for chunk in alike[:-1]:
        assert len(chunk.data) + len(chunk.data) // len(chunk.entries) > max_bytes, "there was room for more"


def test_questions_are_numbered_from_one_on_and_expectations_have_none() -> None:
    builder = Builder()
    names = [name for name, _ in FLOWS]
    data, order = builder.asks([expected(1)[0], *names, *reversed(names), expected(2)[0]])
    messages = list(split(data))
    assert sorted(order) == sorted(2 * names) and len(messages) == len(order)
    for number, (name, message) in enumerate(zip(order, messages, strict=True), 1):
        assert message == builder.get(name, number) and head(message) == (0x101, REQUEST)
        assert tree(message[20:]) == tree(builder.delete(name)[20:])
        assert message[16] == (2 if name[2] == 4 else 10)
    assert builder.asks([]) == (b"", [])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("zone", [0, 5])
@pytest.mark.parametrize("direction", [b"\xff\xff\xff\xff", b"\0\0\0\1"])
def test_an_expectation_comes_back_as_it_was_told(family: int, zone: int, direction: bytes) -> None:
    size = 12 if family == 4 else 36
    one, other, mask = (bytes(range(start, start + size)) for start in (1, 50, 100))
    nat = bytes(size) if direction == b"\xff\xff\xff\xff" else bytes(range(150, 150 + size))
    name = zone.to_bytes(2, "big") + bytes((0x40 | family, 17)) + one + other + b"\6"
    known = bytes((EXPECTATION, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4)) + mask + direction + nat + b"sip\0nat\0"
    assert valid(name, known)
    made = Builder().message(name, known, 7)
    assert head(made) == (0x200, REQUEST | CREATE_FLAG) and made[16] == (2 if family == 4 else 10)
    found = parse_expectation(made)
    assert found is not None and found[1:] == (name, known)
    parts = tree(made[20:])
    assert master_key(name) == zone.to_bytes(2, "big") + bytes((family, 6)) + other
    assert parts[1] == tree(Builder().get(master_key(name))[20:])[1]
    assert (10 in parts) is (nat != bytes(size)) and (7 in parts) is (zone != 0)
    [chunk] = Builder().deletes([name])
    gone = bytes(chunk.data)
    assert head(gone) == (0x202, REQUEST) and gone[16] == made[16]
    assert tree(gone[20:]) == {type_: parts[type_] for type_ in parts if type_ in (2, 7)}


def test_an_expectation_without_names_has_none_in_its_message() -> None:
    made = Builder().message(expected_key(4), expectation(4, b"\0\0"))
    assert not tree(made[20:]).keys() & {6, 11}
    made = Builder().message(expected_key(4), expectation(4, b"\0nat\0"))
    assert tree(made[20:])[11] == b"nat\0" and 6 not in tree(made[20:])
