# SPDX-License-Identifier: GPL-2.0-or-later
"""The owner of an entry in a backup's kernel, by its counters, TCP flags and status."""

from __future__ import annotations

import struct

import pytest

from tandem.conntrack import own_traffic
from tandem.conntrack.own_traffic import OwnTraffic

from .flow_messages import attribute, nest

LIBERAL = 0x08
ESTABLISHED, FIN_WAIT, LAST_ACK, TIME_WAIT, CLOSE = 3, 4, 6, 7, 8
OFFLOAD, HW_OFFLOAD = 1 << 14, 1 << 15


def entry(
    packets: tuple[int, int] | None,
    number: int = 7,
    state: int | None = ESTABLISHED,
    flags: tuple[int, int] = (LIBERAL, LIBERAL),
    status: int = 0x18E,
) -> bytes:
    """`packets` of both directions; `state`: of TCP, None: the flow is UDP's."""
    body = attribute(12, struct.pack("!I", number)) + attribute(3, struct.pack("!I", status))
    if state is not None:
        both = (attribute(kind, bytes((some, 0))) for kind, some in zip((4, 5), flags, strict=True))
        body += nest(4, nest(1, attribute(1, bytes((state,))), *both))
    if packets is not None:
        for kind, count in zip((9, 10), packets, strict=True):
            body += nest(kind, attribute(1, struct.pack("!Q", count)), attribute(2, bytes(8)))
    return bytes(20) + body


def test_packets_since_then_are_ours() -> None:
    traffic = OwnTraffic()
    for number in range(5000):
        traffic.note(entry((number, 0), number=number))
    assert not any(traffic.uses(entry((number, 0), number=number)) for number in range(5000))
    assert all(traffic.uses(entry((number, 1), number=number)) for number in range(5000))
    assert traffic.uses(entry((1, 0), number=5001))  # made since
    traffic.forget()
    assert traffic.uses(entry((1, 0), number=1))


def test_an_entry_is_not_found_between_two_others() -> None:
    traffic = OwnTraffic()
    others, between = (0x01AABB05, 0x05CCDD05), 0xAABB0505
    for number in others:
        traffic.note(entry((0x01010101, 0), number=number))
    assert traffic.uses(entry((0x01010101, 0), number=between))
    traffic.note(entry((9, 0), number=between))
    assert not traffic.uses(entry((9, 0), number=between))
    assert not any(traffic.uses(entry((0x01010101, 0), number=number)) for number in others)


@pytest.mark.parametrize("state", [None, ESTABLISHED])
def test_what_was_put_there_for_a_peer_is_not(state: int | None) -> None:
    assert not OwnTraffic().uses(entry((0, 0), state=state))


def test_what_had_no_packets_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A survey sees each entry that was put there for a peer: 100,000 of them took half a second."""
    parsed: list[bytes] = []

    def attributes(message: bytes, *_: int) -> dict[int, tuple[int, int]]:
        parsed.append(message)
        return {}

    monkeypatch.setattr(own_traffic, "attributes", attributes)
    traffic = OwnTraffic()
    for packets in ((0, 0), (1, 0), (0, 1), None):
        traffic.note(entry(packets))
    assert parsed == [entry((1, 0)), entry((0, 1)), entry(None)]


def test_counters_that_somebody_has_set_to_zero() -> None:
    traffic = OwnTraffic()
    traffic.note(entry((5, 4)))
    assert not traffic.uses(entry((0, 0)))
    assert traffic.uses(entry((1, 0)))


def test_large_counts() -> None:
    traffic = OwnTraffic()
    traffic.note(entry((1 << 32, 0)))
    assert not traffic.uses(entry((1 << 32, 0)))
    assert traffic.uses(entry((1 << 32, 1)))


@pytest.mark.parametrize(
    ("state", "ours"), [(FIN_WAIT, True), (LAST_ACK, False), (TIME_WAIT, False), (CLOSE, False)]
)
def test_what_is_closed_is_nobodys(state: int, ours: bool) -> None:
    assert OwnTraffic().uses(entry((5, 5), state=state)) == ours


@pytest.mark.parametrize("bit", [OFFLOAD, HW_OFFLOAD])
def test_what_is_offloaded_is_ours(bit: int) -> None:
    assert OwnTraffic().uses(entry(None, state=None, status=0x18E | bit))


@pytest.mark.parametrize(
    ("state", "flags", "ours"),
    [
        (ESTABLISHED, (LIBERAL, LIBERAL), False),
        (ESTABLISHED, (3, 3), True),
        (ESTABLISHED, (LIBERAL, 3), True),
        (None, (0, 0), False),
    ],
)
def test_without_counters_the_flags_tell(state: int | None, flags: tuple[int, int], ours: bool) -> None:
    assert OwnTraffic().uses(entry(None, state=state, flags=flags)) == ours


def test_garbage_is_not_ours() -> None:
    message = entry((5, 5))
    traffic = OwnTraffic()
    for size in range(len(message)):
        traffic.note(message[:size])
        traffic.uses(message[:size])
