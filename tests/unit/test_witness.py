# SPDX-License-Identifier: GPL-2.0-or-later
"""The witness: its datagrams, and to whom it gives its vote."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.channel.frames import MAC_SIZE
from tandem.core.timers import MILLISECOND, SECOND
from tandem.witness.grants import NODES_MAX, Grants
from tandem.witness.wire import (
    ANSWER,
    CHALLENGE,
    DATAGRAM_MAX,
    GROUPS_MAX,
    HOLDS,
    NAME_MAX,
    NOBODY,
    REQUEST,
    WANTS,
    Message,
    cluster_in,
    cluster_of,
    pack,
    unpack,
)

SECRET = b"of a pair, and of nobody else"
CLUSTER = cluster_of(SECRET)
A, B = b"A" * 8, b"B" * 8
LEASE = SECOND
START = 100 * SECOND
FRESH = bytes(range(16))


def request(node: bytes, number: int, *groups: tuple[int, bytes], nonce: bytes = FRESH) -> Message:
    return Message(REQUEST, CLUSTER, node, nonce, number, 0, groups)


G = (WANTS, b"G1")
HELD = (WANTS | HOLDS, b"G1")


def settled() -> Grants:
    """Grants that know both routers, after the time in which nobody new gets a vote."""
    grants = Grants(LEASE, START - LEASE)
    for node in (A, B):
        grants.handle(request(node, 1, nonce=NOBODY), FRESH, START)
    return grants


def got(answer: Message | None) -> tuple[bool, ...]:
    assert answer is not None and answer.kind == ANSWER
    return answer.granted


def test_a_datagram_comes_back() -> None:
    for message in (
        request(A, 7, G, (0, b"G2")),
        Message(ANSWER, CLUSTER, A, FRESH, 7, 1000, (), (True, False)),
        Message(CHALLENGE, CLUSTER, A, FRESH, 7),
    ):
        data = pack(message, SECRET)
        assert cluster_in(data) == CLUSTER
        assert unpack(data, SECRET, message.kind == REQUEST) == message
        assert unpack(data, SECRET, message.kind != REQUEST) is None
        assert unpack(data, SECRET + b"!", message.kind == REQUEST) is None
    largest = request(A, 1, *[(WANTS, b"x" * NAME_MAX)] * GROUPS_MAX)
    assert len(pack(largest, SECRET)) == DATAGRAM_MAX
    assert SECRET not in pack(largest, SECRET)


def test_a_datagram_is_what_the_page_says() -> None:
    """docs/witness.md, written down once more with hashlib."""
    cluster = hashlib.blake2b(key=SECRET, person=b"tandem cluster", digest_size=8).digest()
    head = b"TNDW\1" + b"\1" + cluster + A + FRESH + (7).to_bytes(8, "big") + bytes(4) + b"\2"
    data = head + b"\3\2G1" + b"\0\2G2"
    mac = hashlib.blake2b(data, key=SECRET, person=b"tandem asks", digest_size=16).digest()
    assert pack(request(A, 7, HELD, (0, b"G2")), SECRET) == data + mac
    head = b"TNDW\1" + b"\2" + cluster + A + FRESH + (7).to_bytes(8, "big") + b"\0\0\3\xe8" + b"\2"
    mac = hashlib.blake2b(head + b"\1\0", key=SECRET, person=b"tandem answers", digest_size=16).digest()
    answer = Message(ANSWER, cluster, A, FRESH, 7, 1000, (), (True, False))
    assert pack(answer, SECRET) == head + b"\1\0" + mac
    head = b"TNDW\1" + b"\3" + cluster + A + FRESH + (7).to_bytes(8, "big") + bytes(4) + b"\0"
    mac = hashlib.blake2b(head, key=SECRET, person=b"tandem answers", digest_size=16).digest()
    assert pack(Message(CHALLENGE, cluster, A, FRESH, 7), SECRET) == head + mac


@pytest.mark.parametrize(
    ("count", "items", "groups"),
    [
        (1, b"\1\1G", ((1, b"G"),)),
        (0, b"", ()),
        (1, b"\1\x40" + b"x" * 64, ((1, b"x" * 64),)),
        (1, b"\1\x41" + b"x" * 65, None),
        (1, b"\1\0", None),
        (1, b"\1", None),
        (1, b"\1\2G", None),
        (2, b"\1\1G", None),
        (1, b"\1\1G\1\1H", None),
        (64, b"\1\1G" * 64, ((1, b"G"),) * 64),
        (65, b"\1\1G" * 65, None),
    ],
)
def test_a_request_has_as_many_groups_as_it_says(
    count: int, items: bytes, groups: tuple[tuple[int, bytes], ...] | None
) -> None:
    """Who has the secret may still be of another release, or broken."""
    data = pack(request(A, 7), SECRET)[: -MAC_SIZE - 1] + bytes((count,)) + items
    mac = hashlib.blake2b(data, key=SECRET, person=b"tandem asks", digest_size=16).digest()
    found = unpack(data + mac, SECRET, request=True)
    assert (found and found.groups) == groups


@pytest.mark.parametrize(("items", "granted"), [(b"\1\0", (True, False)), (b"\1", None), (b"\1\0\1", None)])
def test_an_answer_has_as_many_items_as_it_says(items: bytes, granted: tuple[bool, ...] | None) -> None:
    answer = Message(ANSWER, CLUSTER, A, FRESH, 7, 1000, (), (True, False))
    data = pack(answer, SECRET)[: -MAC_SIZE - 2] + items
    mac = hashlib.blake2b(data, key=SECRET, person=b"tandem answers", digest_size=16).digest()
    found = unpack(data + mac, SECRET, request=False)
    assert (found and found.granted) == granted


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_datagram_that_was_changed_is_refused(where: int, byte: int) -> None:
    data = bytearray(pack(request(A, 7, G, (0, b"G2")), SECRET))
    where %= len(data)
    if data[where] != byte:
        data[where] = byte
        assert unpack(bytes(data), SECRET, True) is None
    assert unpack(bytes(data[:where]), SECRET, True) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_no_datagram(data: bytes) -> None:
    assert unpack(data, SECRET, True) is None and unpack(data, SECRET, False) is None


def test_a_router_without_a_nonce_gets_one_first() -> None:
    grants = Grants(LEASE, START - LEASE)
    challenge = grants.handle(request(A, 1, G, nonce=NOBODY), FRESH, START)
    assert challenge == Message(CHALLENGE, CLUSTER, A, FRESH, 1)
    assert got(grants.handle(request(A, 2, G), b"", START)) == (True,)
    assert grants.handle(request(A, 2, G), b"", START) is None, "a datagram counts once"


def test_one_router_has_the_vote_until_its_lease_ends() -> None:
    grants = settled()
    assert got(grants.handle(request(A, 2, G), b"", START)) == (True,)
    assert got(grants.handle(request(B, 2, G), b"", START + LEASE - 1)) == (False,)
    assert got(grants.handle(request(A, 3, HELD), b"", START + LEASE - 1)) == (True,)
    assert got(grants.handle(request(B, 3, G), b"", START + 2 * LEASE - 2)) == (False,)
    assert got(grants.handle(request(B, 4, G), b"", START + 2 * LEASE)) == (True,)
    assert grants.held(START + 2 * LEASE) == {(CLUSTER, b"G1"): B}


def test_a_group_that_is_not_asked_for_is_free() -> None:
    grants = settled()
    grants.handle(request(A, 2, G, (WANTS, b"G2")), b"", START)
    grants.handle(request(A, 3, (WANTS, b"G2")), b"", START)
    assert got(grants.handle(request(B, 2, G, (WANTS, b"G2")), b"", START)) == (True, False)


def test_clusters_do_not_compete() -> None:
    grants = settled()
    grants.handle(request(A, 2, G), b"", START)
    other = replace(request(B, 1, G), cluster=b"elsewher")
    grants.handle(other, FRESH, START)
    assert got(grants.handle(replace(other, number=2), b"", START)) == (True,)


@pytest.mark.parametrize(("group", "granted"), [(G, False), (HELD, True)])
def test_after_a_start_only_the_holder_gets_the_vote(group: tuple[int, bytes], granted: bool) -> None:
    grants = Grants(LEASE, START)
    grants.handle(request(A, 1, nonce=NOBODY), FRESH, START)
    assert got(grants.handle(request(A, 2, group), b"", START + LEASE - 1)) == (granted,)
    assert got(grants.handle(request(A, 3, G), b"", START + LEASE)) == (True,)


def test_another_router_takes_no_vote_away() -> None:
    grants = settled()
    grants.handle(request(A, 2, G), b"", START)
    grants.handle(request(b"C" * 8, 1, nonce=NOBODY), FRESH, START)
    assert got(grants.handle(request(B, 2, G), b"", START)) == (False,)
    assert grants.held(START) == {(CLUSTER, b"G1"): A}


def test_it_is_bounded() -> None:
    grants = Grants(LEASE, START)
    for number in range(NODES_MAX + 10):
        node = number.to_bytes(8, "big")
        grants.handle(request(node, 1, nonce=NOBODY), FRESH, START + number)
    assert len(grants._nodes) == NODES_MAX == 256
    oldest = request(bytes(7) + b"\x0a", 2, G)
    first = grants.handle(oldest, b"", START + SECOND)
    assert first is not None and first.kind == ANSWER, "the routers that were heard last are known"
    forgotten = grants.handle(request(bytes(7) + b"\x09", 2, G), FRESH, START + SECOND)
    assert forgotten is not None and forgotten.kind == CHALLENGE
    later = grants.handle(request(bytes(7) + b"\x0b", 2, G), FRESH, START + SECOND)
    assert later is not None and later.kind == CHALLENGE, "it made room for that one: it was the oldest then"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B]), st.integers(0, 700), st.integers(0, 300), st.booleans(), st.booleans()
        ),
        max_size=60,
    )
)
def test_two_routers_never_believe_to_have_the_vote(
    steps: list[tuple[bytes, int, int, bool, bool]],
) -> None:
    """Requests take any time on their way, answers get lost, and the witness starts anew at any time."""
    now, number = START, 10
    grants = Grants(LEASE, START - LEASE)
    until = {A: 0, B: 0}  # as each router reckons
    nonces = {A: NOBODY, B: NOBODY}
    for node, pause, delay, lost, restart in steps:
        now += pause * MILLISECOND
        if restart:
            grants = Grants(LEASE, now)
        sent, number = now, number + 1
        now += delay * MILLISECOND
        group = HELD if until[node] > sent else G
        answer = grants.handle(
            request(node, number, group, nonce=nonces[node]), number.to_bytes(16, "big"), now
        )
        if answer is not None and not lost:
            nonces[node] = answer.nonce
            if answer.kind == ANSWER:
                until[node] = sent + LEASE if answer.granted[0] else 0
        assert not (until[A] > now and until[B] > now), "both have the vote"
