# SPDX-License-Identifier: GPL-2.0-or-later
"""Which adverts the kernel lets pass at once, what is remembered of them, and what a flood hides."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.admission import KNOWN_MAX
from tandem.core.packet import Reason
from tandem.core.settings import Instance
from tandem.core.state import Role
from tandem.core.timers import MILLISECOND
from tandem.effects.reception import Wanted
from tandem.hearing import SORT_PAUSE
from tests.unit.test_router_packets import LAN, OURS, PEER, STRANGER, Wire

FAST = replace(LAN, advert_int_cs=10)


class Hearer(Wire):
    """A wire with a clock; `heard` has each filter that the kernel was given, `timers` what is to come."""

    def __init__(self, settings: Instance) -> None:
        super().__init__(settings)
        self.heard: list[dict[tuple[str, int], Wanted]] = []
        self.timers: dict[Any, tuple[int | None, Any]] = {}
        self.now = 0
        hearing: Any = self.router._hearing
        hearing._interfaces = SimpleNamespace(hear=self.heard.append)
        loop = SimpleNamespace(
            now=lambda: self.now, call_at=lambda key, when, what=None: self.timers.update({key: (when, what)})
        )
        hearing._loop = loop
        hearing._admission._now = lambda: self.now
        self.router._loop = loop  # type: ignore[assignment]

    @property
    def wanted(self) -> Wanted:
        """The last filter."""
        [found] = self.heard[-1].values()
        return found

    def pass_on(self) -> None:
        """Let the time pass until the known routers are sorted."""
        when, what = self.timers["sort"]
        assert when is not None
        self.now = when
        what(when)


def test_a_backup_that_knows_nobody_hears_everybody() -> None:
    wire = Hearer(LAN)
    wire.router._hearing.sort()
    assert wire.heard == [{("br-lan", 4): Wanted(frozenset({(3, 51)}), 255, None, 2)}]


def test_the_first_active_router_is_known_at_once_and_others_in_a_while() -> None:
    wire = Hearer(LAN)
    wire.router._hearing.sort()
    wire.read(wire.packet(PEER))
    assert wire.wanted.sources == {PEER} and "sort" not in wire.timers
    wire.read(wire.packet(PEER))
    assert len(wire.heard) == 2, "it is known now"
    wire.now = 500 * MILLISECOND
    wire.read(wire.packet(STRANGER, advert=wire.advert(250)))
    wire.now += MILLISECOND
    wire.read(wire.packet(STRANGER, advert=wire.advert(251)))
    assert len(wire.heard) == 2 and wire.timers["sort"][0] == 500 * MILLISECOND + SORT_PAUSE
    wire.pass_on()
    assert wire.wanted.sources == {STRANGER}, "the active one now"
    wire.router._hearing.sort_soon()
    assert wire.timers["sort"][0] == wire.now + SORT_PAUSE, "the next look is planned anew"


def test_configured_routers_and_peers_are_known() -> None:
    unicast = Hearer(replace(LAN, unicast_peers=("192.168.1.3",)))
    unicast.router._hearing.sort()
    assert unicast.wanted.sources == {PEER}
    wire = Hearer(LAN)
    wire.router.peer_sources("r2", ((51, PEER), (52, STRANGER)), authenticated=True)
    wire.pass_on()
    assert wire.wanted.sources == {PEER}, "of this virtual router"


def test_an_active_router_that_knows_nobody_listens_to_nobody_in_particular() -> None:
    wire = Hearer(LAN)
    wire.group.members[0].role = Role.ACTIVE
    wire.router._hearing.sort()
    assert wire.wanted.sources is not None and OURS not in wire.wanted.sources


def test_several_virtual_routers_of_a_device_share_one_filter() -> None:
    wire = Hearer(FAST)
    other = Hearer(
        replace(LAN, name="second", virtual_router_id=52, unicast_min_ttl=250, unicast_peers=("192.168.1.3",))
    )
    endpoints = {("br-lan", 4, 51): wire.endpoint, ("br-lan", 4, 52): other.endpoint}
    wire.router._group_of["second"] = other.group
    wire.router._hearing.expect(endpoints)
    wire.router._hearing.sort()
    assert wire.wanted == Wanted(frozenset({(3, 51), (3, 52)}), 250, None, 11 + 2), "one listens to everybody"
    wire.group.members[0].role = Role.ACTIVE
    wire.router._hearing.sort()
    assert wire.wanted.sources is not None and PEER in wire.wanted.sources


def test_the_resignation_of_an_unknown_router_counts_as_unread_in_a_flood() -> None:
    """Adverts of the active router, which contradict it, may be among the unread ones."""
    wire = Hearer(LAN)
    wire.read(wire.packet(PEER))
    resigns = wire.packet(STRANGER, advert=wire.advert(0))
    wire.arrived = [resigns, resigns]
    wire.router._hearing.packets(wire, 64, True)  # type: ignore[arg-type]
    assert wire.router.drops == {"unread": 2} and "priority_zero_received" not in wire.endpoint.counters
    wire.arrived = [wire.packet(PEER, advert=wire.advert(0))]
    wire.router._hearing.packets(wire, 64, True)  # type: ignore[arg-type]
    wire.read(resigns)
    assert wire.router.drops == {"unread": 2} and wire.endpoint.counters["priority_zero_received"] == 2


def test_packets_that_the_socket_could_not_take_are_counted() -> None:
    wire = Hearer(LAN)
    wire.malformed = 3
    wire.lost = lambda: 4  # type: ignore[method-assign]
    wire.read()
    assert wire.router.drops == {"malformed": 3, "unread": 4} and wire.malformed == 0


def test_a_rival_of_the_active_router_is_a_trouble() -> None:
    wire = Hearer(LAN)
    said: list[Any] = []
    wire.router._hearing.trouble = SimpleNamespace(contested=lambda *what: said.append(what))  # type: ignore[assignment]
    wire.read(wire.packet(PEER))
    assert not said, "it is not active"
    wire.endpoint.installed, wire.now = True, MILLISECOND
    wire.read(wire.packet(PEER, advert=wire.advert(0)))
    assert not said, "who resigns is no rival"
    wire.read(wire.packet(PEER, advert=wire.advert(interval_cs=50)))
    assert said == [("lan", "192.168.1.3", 500, MILLISECOND)]


def test_a_dropped_packet_is_a_trouble_unless_it_is_ours() -> None:
    wire = Hearer(replace(LAN, unicast_peers=("192.168.1.3",)))
    said: list[Any] = []
    admission: Any = wire.router._hearing._admission
    admission._trouble = SimpleNamespace(dropped=lambda *what: said.append(what))
    wire.read(wire.packet(STRANGER))
    assert said == [("lan", "192.168.1.66", Reason.NOT_A_PEER.sentence, 0)]
    wire.endpoint.expected = replace(wire.endpoint.expected, own_sources=frozenset({STRANGER}))
    wire.read(wire.packet(STRANGER))
    assert len(said) == 1 and wire.endpoint.counters == {"not_a_peer": 1, "own_address": 1}


def test_what_cannot_be_decoded_is_counted_and_logged() -> None:
    wire = Hearer(LAN)
    wire.read((b"no advert", PEER, OURS, 255))
    assert sum(wire.router.drops.values()) == 1 and len(wire.log.lines) == 1


@pytest.mark.parametrize("version", [2, 3])
def test_an_interval_out_of_bounds_is_bounded_and_told(version: int) -> None:
    wire = Hearer(replace(LAN, version=version, max_learned_interval_cs=300))
    wire.router._hearing._admission._check_interval(wire.endpoint, wire.advert(interval_cs=300), PEER)
    assert "interval_bounded" not in wire.endpoint.counters
    wire.router._hearing._admission._check_interval(wire.endpoint, wire.advert(interval_cs=400), PEER)
    if version == 2:
        assert not wire.log.lines, "it learns none"
        return
    assert wire.endpoint.counters == {"interval_bounded": 1}
    [line] = wire.log.lines
    assert "192.168.1.3, priority 200, claims an interval of 4 s; 3 s is used" in line
    wire.read(wire.packet(PEER, advert=wire.advert(interval_cs=400)))
    assert wire.endpoint.counters["interval_bounded"] == 2


def test_what_is_remembered_is_bounded_and_known_routers_stay() -> None:
    wire = Hearer(LAN)
    wire.read(wire.packet(PEER))
    known = wire.router._hearing._admission
    for number in range(KNOWN_MAX + 5):
        wire.read(wire.packet(STRANGER, advert=wire.advert(priority=90, interval_cs=number + 1)))
        assert len(known.known) <= KNOWN_MAX
    assert {event.source for _, event in known.known.values()} == {PEER, STRANGER}
    assert len(known.known) == 7, "the strangers' first ones were forgotten"
    for number in range(KNOWN_MAX):
        wire.read(wire.packet(PEER, advert=wire.advert(interval_cs=number + 1)))
    assert len(known.known) < KNOWN_MAX // 2, "when one router has most of it, all is forgotten"
    wire.router._hearing.expect(known.endpoints)
    assert not known.known, "their settings may have changed"
