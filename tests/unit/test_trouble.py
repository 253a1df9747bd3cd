# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults between the routers, with literal times; and frames that say who has an address."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from tandem.core.trouble import KEEP, NOTED_MAX, SETTLE, Situation, Trouble
from tandem.effects.announce import announcement, probe_frame
from tandem.effects.claims import claim

S = 1_000_000_000
MAC = bytes.fromhex("020000000a0b")
V4, V6 = socket.inet_aton("192.168.1.4"), socket.inet_pton(socket.AF_INET6, "fd00:1::4")


def situation(**options: Any) -> Situation:
    return Situation(
        **{"name": "I1", "active": True, "since": 0, "interval_ms": 100, "learns_interval": True} | options
    )


def seen(trouble: Trouble, what: str, *values: Any, start: float, end: float) -> None:
    """Note it every second from `start` to `end`."""
    for second in range(int(start), int(end) + 1):
        getattr(trouble, what)("I1", *values, second * S)


def test_nothing_is_wrong() -> None:
    assert (
        Trouble().look(100 * S, [situation(), situation(name="I2", active=False, peer=("192.168.1.2", 100))])
        == {}
    )


def test_adverts_that_do_not_fit() -> None:
    trouble = Trouble()
    seen(trouble, "dropped", "192.168.1.3", "VRRP version differs from ours", start=10, end=12)
    assert trouble.look(12 * S, [situation()]) == {}, "it may be over soon"
    seen(trouble, "dropped", "192.168.1.3", "VRRP version differs from ours", start=13, end=14)
    wrong = {"adverts": ["I1: adverts from 192.168.1.3 are dropped: VRRP version differs from ours"]}
    assert trouble.look(14 * S, [situation()]) == wrong
    assert trouble.look(14 * S + KEEP, [situation()]) == wrong
    assert trouble.look(15 * S + KEEP, [situation()]) == {}
    assert trouble.look(14 * S, [situation(name="other")]) == {}, "that instance is gone"


def test_another_router_is_active_as_well() -> None:
    trouble = Trouble()
    seen(trouble, "contested", "192.168.1.3", 1000, start=10, end=12)
    assert trouble.look(12 * S, [situation()]) == {}, "two may be active while they meet"
    seen(trouble, "contested", "192.168.1.3", 1000, start=13, end=20)
    [[text]] = trouble.look(20 * S, [situation()]).values()
    assert text.startswith("I1: 192.168.1.3 is active as well: it does not hear this router")
    assert trouble.look(20 * S, [situation(active=False)]) == {}
    assert trouble.look(20 * S + SETTLE + 1, [situation()]) == {}
    seen(trouble, "contested", "192.168.1.3", 1000, start=60, end=61)
    assert trouble.look(61 * S, [situation()]) == {}, "that is another time"


def test_a_peer_that_is_active_says_so_by_the_channel_alone() -> None:
    trouble, both = Trouble(), situation(unheard=("r1",))
    assert trouble.look(10 * S, [both]) == {}, "one of the two may be about to yield"
    [[text]] = trouble.look(13 * S, [both]).values()
    assert text.startswith("I1: r1 is active as well: its adverts are not heard here")
    assert trouble.look(16 * S, [situation(active=False, unheard=("r1",))]) == {}
    seen(trouble, "contested", "192.168.1.3", 1000, start=10, end=19)
    [[text]] = trouble.look(19 * S, [situation()]).values()
    assert "192.168.1.3 is active as well: it does not hear this router" in text, "the peer is deaf"


def test_slow_adverts_are_no_pause() -> None:
    trouble = Trouble()
    for second in (0, 40, 80):
        trouble.contested("I1", "192.168.1.3", 40_000, second * S)
    assert "adverts" in trouble.look(90 * S, [situation()])


@pytest.mark.parametrize(
    ("peer_ms", "learns", "wrong"), [(100, True, False), (1000, True, True), (1000, False, False)]
)
def test_intervals_that_differ(peer_ms: int, learns: bool, wrong: bool) -> None:
    one = situation(active=False, peer=("192.168.1.2", peer_ms), learns_interval=learns)
    text = "I1: advert_int is 1000 ms on 192.168.1.2 and 100 ms here: set it alike"
    assert Trouble().look(10 * S, [one]) == ({"adverts": [text]} if wrong else {})


def test_an_address_that_another_host_has() -> None:
    trouble = Trouble()
    trouble.claimed("I1", "192.168.1.4", MAC.hex(":"), 0, 2 * S)
    assert trouble.look(10 * S, [situation()]) == {}, "the active before us may have said it"
    trouble.claimed("I1", "192.168.1.4", MAC.hex(":"), 0, 10 * S)
    assert trouble.look(12 * S, [situation()]) == {}, "it may be about to take over"
    [[text]] = trouble.look(14 * S, [situation()]).values()
    assert text == "I1: 192.168.1.4 is also at 02:00:00:00:0a:0b: give that host another address"
    assert trouble.look(14 * S, [situation(active=False)]) == {}
    trouble.claimed("I1", "192.168.1.4", MAC.hex(":"), 0, 40 * S)
    assert trouble.look(40 * S, [situation()]), "it goes on to say so"
    assert trouble.look(60 * S, [situation(since=39 * S)]) == {}, "that was another time"
    assert trouble.look(40 * S + KEEP, [situation()]) and not trouble.look(41 * S + KEEP, [situation()])


def test_an_address_on_a_backup() -> None:
    stray = situation(active=False, since=10 * S, strays=(("192.168.1.4", "lan"),))
    assert Trouble().look(12 * S, [stray]) == {}, "the kernel tells soon that it is gone"
    [[text]] = Trouble().look(13 * S, [stray]).values()
    assert "192.168.1.4 is on lan, where another program has put it" in text


def test_a_flood_of_different_packets_is_bounded() -> None:
    trouble = Trouble()
    seen(trouble, "dropped", "192.168.1.3", "why", start=0, end=5)
    for number in range(10_000):
        trouble.dropped("I1", str(number), "why", 6 * S)
        trouble.claimed("I1", "192.168.1.4", str(number), 0, 6 * S)
    found = trouble.look(10 * S, [situation()])
    assert len(found["adverts"]) == 1 and len(found["addresses"]) <= NOTED_MAX
    trouble.dropped("I1", "192.168.1.3", "why", 200 * S)
    trouble.dropped("I1", "192.168.1.3", "why", 204 * S)
    assert len(trouble.look(204 * S, [situation()])["adverts"]) == 1


@pytest.mark.parametrize("address", [V4, V6])
def test_who_says_that_it_has_an_address(address: bytes) -> None:
    assert claim(announcement(MAC, address)) == (address, MAC)
    assert claim(probe_frame(MAC, address)) == (bytes(len(address)), MAC), "who asks says nothing of itself"
    for size in range(len(probe_frame(MAC, address))):
        claim(probe_frame(MAC, address)[:size])
