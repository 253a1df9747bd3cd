# SPDX-License-Identifier: GPL-2.0-or-later
"""The reception of packets: which the router refuses, and how it counts them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.core.events import Start
from tandem.core.packet import GROUP4, GROUP6, PROBE, Advertisement, encode
from tandem.core.settings import Address, Group, Instance
from tandem.core.sync_group import SyncGroup
from tandem.effects.endpoint import Endpoint
from tandem.effects.vrrp_socket import Received, pack
from tandem.log import Logger
from tandem.router import Router

OURS, PEER, STRANGER = (pack(f"192.168.1.{number}") for number in (2, 3, 66))
OURS6, PEER6, STRANGER6 = (pack(f"fe80::{number}") for number in (2, 3, 66))
LAN = Instance(
    "lan", "br-lan", 51, version=3, track_primary=False, virtual_addresses=(Address("192.168.1.1", 24, 4),)
)
LAN6 = replace(
    LAN, name="lan6", family=6, multicast_group="ff02::12", virtual_addresses=(Address("fe80::1", 64, 6),)
)
UNICAST: dict[str, Any] = {"unicast_peers": ("192.168.1.3",)}
UNICAST6: dict[str, Any] = {"unicast_peers": ("fe80::3",)}


class Lines:
    """A sink for the log that keeps it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, _level: str, line: str) -> bool:
        self.lines.append(line)
        return True


class Wire:
    """A socket of one interface with what the test puts in, and a router with one instance on it."""

    interface = "br-lan"
    malformed = 0

    def __init__(self, settings: Instance) -> None:
        self.family = settings.family
        self.arrived: list[Received] = []
        self.log = Lines()
        self.settings = settings
        links = SimpleNamespace(device=lambda name: name)
        interfaces = SimpleNamespace(serve=lambda *_: None, hear=lambda _wanted: None, links=links)
        executor = SimpleNamespace(endpoints={}, execute=lambda *_: [])
        loop = SimpleNamespace(now=lambda: 0, call_at=lambda *_: None)
        parts: list[Any] = [loop, None, executor, interfaces, None, Logger("warning", self.log)]
        self.router = Router(*parts, self.caught)
        self.endpoint = Endpoint(settings, SimpleNamespace())  # type: ignore[arg-type]
        self.router.endpoints["lan"] = self.endpoint
        self.router._serve()
        self.group = SyncGroup(Group("lan", (settings.name,), implicit=True), [settings])
        self.group.handle(Start(), 0)
        self.router.groups["lan"] = self.router._group_of[settings.name] = self.group

    def caught(self, error: Exception) -> None:
        raise error

    def receive(self, most: int) -> list[Received]:
        taken, self.arrived = self.arrived[:most], self.arrived[most:]
        return taken

    def lost(self) -> int:
        return 0

    def advert(self, priority: int = 200, vrid: int = 51, interval_cs: int = 100) -> Advertisement:
        addresses = tuple(pack(address.address) for address in self.settings.virtual_addresses)
        return Advertisement(3, vrid, priority, interval_cs, addresses)

    def packet(self, source: bytes, hop_limit: int = 255, advert: Advertisement | None = None) -> Received:
        unicast, group = (OURS, GROUP4) if self.family == 4 else (OURS6, GROUP6)
        destination = unicast if self.settings.unicast_peers else group
        return encode(advert or self.advert(), source, destination), source, destination, hop_limit

    def read(self, *packets: Received, familiar: bool = False) -> int:
        self.arrived = list(packets)
        return self.router._hearing.packets(self, 64, familiar, familiar)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", [4, 6])
def test_a_hop_limit_below_the_least_is_refused_and_counted(family: int) -> None:
    settings, changes, peer = (LAN, UNICAST, PEER) if family == 4 else (LAN6, UNICAST6, PEER6)
    strict = Wire(replace(settings, **changes))
    strict.read(strict.packet(peer, 254))
    assert strict.endpoint.counters == {"bad_ttl": 1}
    assert any("TTL or hop limit too low" in line for line in strict.log.lines)
    strict.read(strict.packet(peer, 255))
    assert strict.endpoint.counters == {"bad_ttl": 1, "adverts_received": 1}
    lax = Wire(replace(settings, **changes, unicast_min_ttl=250))
    lax.read(lax.packet(peer, 249), lax.packet(peer, 250))
    assert lax.endpoint.counters == {"bad_ttl": 1, "adverts_received": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_who_is_no_unicast_peer_is_refused_and_counted(family: int) -> None:
    settings, changes, stranger = (LAN, UNICAST, STRANGER) if family == 4 else (LAN6, UNICAST6, STRANGER6)
    wire = Wire(replace(settings, **changes))
    wire.read(wire.packet(stranger))
    assert wire.endpoint.counters == {"not_a_peer": 1}
    everybody = Wire(replace(settings, **changes, check_unicast_src=False))
    everybody.read(everybody.packet(stranger))
    assert everybody.endpoint.counters == {"adverts_received": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_who_is_not_in_allow_src_is_refused_and_counted(family: int) -> None:
    settings, peer, stranger = (LAN, PEER, STRANGER) if family == 4 else (LAN6, PEER6, STRANGER6)
    allowed = "192.168.1.3" if family == 4 else "fe80::3"
    wire = Wire(replace(settings, allow_src=(allowed,)))
    for priority in (255, 0):
        wire.read(wire.packet(stranger, advert=wire.advert(priority)))
    assert wire.endpoint.counters == {"not_allowed": 2}
    assert any("source is not in allow_src" in line for line in wire.log.lines)
    wire.read(wire.packet(peer))
    assert wire.endpoint.counters == {"not_allowed": 2, "adverts_received": 1}


def test_a_doctor_s_probe_is_counted_and_not_logged() -> None:
    wire = Wire(LAN)
    for _ in range(2):
        wire.read(wire.packet(PEER, advert=wire.advert(PROBE[0], vrid=77, interval_cs=PROBE[1])))
    assert wire.router.drops == {"probes": 2}
    assert wire.log.lines == []
    wire.read(wire.packet(PEER, advert=wire.advert(vrid=77)))
    assert wire.router.drops == {"probes": 2, "unknown_vrid": 1}
    assert len(wire.log.lines) == 1


def test_alternating_virtual_router_ids_cost_a_few_log_lines_and_no_memory() -> None:
    wire = Wire(LAN)
    for number in range(2000):
        source = pack(f"192.168.1.{number % 250 + 3}")
        wire.read(wire.packet(source, advert=wire.advert(vrid=52 + number % 200)))
    assert wire.router.drops == {"unknown_vrid": 2000}
    assert len(wire.log.lines) <= 40


@pytest.mark.parametrize("priority", [255, 150, 0])
def test_a_stranger_is_counted_beside_an_authenticated_peer(priority: int) -> None:
    wire = Wire(LAN)
    wire.router.peer_sources("r2", ((51, PEER),), authenticated=True)
    wire.read(wire.packet(STRANGER, advert=wire.advert(priority)))
    assert wire.endpoint.counters == {"strangers_ignored": 1}
    assert wire.endpoint.stranger == (STRANGER, priority, 100, 0)
    wire.read(wire.packet(PEER))
    assert wire.endpoint.counters == {"strangers_ignored": 1, "adverts_received": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_junk_in_the_name_of_the_active_router_hides_no_advert_of_it(family: int) -> None:
    wire = Wire(LAN if family == 4 else LAN6)
    peer, stranger = (PEER, STRANGER) if family == 4 else (PEER6, STRANGER6)
    true = wire.packet(peer)
    payload, *way = true
    junk = (payload[:-1] + b"!", *way)
    wire.read(true, junk)
    assert wire.endpoint.counters == {"adverts_received": 1}
    before = dict(wire.router.drops)
    # Strangers whose adverts are right push nothing out of what is remembered of the active router.
    for number in range(1200):
        interval = wire.advert(priority=90, interval_cs=number + 1)
        wire.read(wire.packet(stranger, advert=interval))
    counters = dict(wire.endpoint.counters)
    assert wire.read(junk, true, junk, true, wire.packet(stranger, advert=wire.advert(7)), familiar=True) == 5
    assert wire.endpoint.counters["adverts_received"] == counters["adverts_received"] + 1
    assert wire.router.drops == {**before, "unread": 4}
