# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts about segments: what the router sees of others, and the addresses that it asks for."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem import wire_watch
from tandem.core.settings import Address, Instance
from tandem.core.state import Role
from tandem.core.timers import SECOND
from tandem.core.trouble import SETTLE, Situation
from tandem.effects.announce import probe_frame
from tandem.effects.vrrp_socket import pack
from tandem.log import Logger
from tandem.wire_watch import ASK, LOOK, WireWatch

LAN = Instance(
    "lan", "br-lan", 51, version=3,
    virtual_addresses=(Address("192.168.1.4", 24, 4), Address("192.168.9.4", 24, 4, "eth1")),
    excluded_addresses=(Address("2001:db8::4", 64, 6),),
)  # fmt: skip
OURS, ELSEWHERE, SIX = pack("192.168.1.4"), pack("192.168.9.4"), pack("2001:db8::4")
MACS = {"br-lan": b"\2\0\0\0\0\1", "eth1": b"\2\0\0\0\0\2"}


class Endpoint(SimpleNamespace):
    virtual_addresses = (OURS, ELSEWHERE, SIX)


class Bench:
    """A watch over one instance; `asked`, `watched` and `claims` are what would go to the wire."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, settings: Instance = LAN) -> None:
        self.now = 100 * SECOND
        self.asked: list[tuple[int, list[bytes]]] = []
        self.watched: list[dict[Any, frozenset[bytes]]] = []
        self.situations: list[Situation] = []
        self.claims: list[Any] = []
        self.problems: list[str] = []
        self.lines: list[str] = []
        self.report: dict[str, list[str]] = {}
        self.present: dict[bytes, str] = {}
        self.timers: dict[Any, Any] = {}
        self.endpoint = Endpoint(settings=settings, installed=False, home="br-lan")
        self.member = SimpleNamespace(
            name="lan", peer=None, role=Role.BACKUP, active_down_interval=lambda: 3 * SECOND
        )
        group = SimpleNamespace(settings=SimpleNamespace(name="G"), members=[self.member])
        links = SimpleNamespace(
            addresses=lambda: frozenset(self.present),
            names=lambda: ("lo", *MACS),
            has_address=lambda name, address: self.present.get(address) == name,
            device=lambda name: name if name in MACS else None,
            index=lambda name: {"br-lan": 3, "eth1": 4}.get(name),
            mac=lambda name: MACS.get(name),
        )
        self.neighbours = SimpleNamespace(
            due=lambda now: None, unheard=lambda group, name: (f"{group} {name}",)
        )
        trouble = SimpleNamespace(look=self.look, claimed=lambda *what: self.claims.append(what))
        self.changed: dict[str, int] = {}
        router: Any = SimpleNamespace(
            links=links, neighbours=self.neighbours, groups={"G": group}, endpoints={"lan": self.endpoint},
            changed=self.changed, trouble=trouble,
        )  # fmt: skip
        loop: Any = SimpleNamespace(now=lambda: self.now, call_at=self.call_at)
        sink: Any = SimpleNamespace(write=lambda _level, line: self.lines.append(line) or True)
        announcer: Any = SimpleNamespace(send=lambda index, frames: self.asked.append((index, frames)))
        self.closed: list[int] = []
        fake = SimpleNamespace(watch=self.watch, close=lambda: self.closed.append(1))
        monkeypatch.setattr(wire_watch, "Claims", lambda _loop, _claimed: fake)
        self.watching = WireWatch(loop, Logger("info", sink), router, announcer)

    def call_at(self, key: Any, when: int | None, what: Any = None, _slack: int = 0) -> None:
        self.timers[key] = when, what

    def look(self, _now: int, situations: list[Situation]) -> dict[str, list[str]]:
        self.situations = situations
        return self.report

    def watch(self, wanted: dict[Any, frozenset[bytes]]) -> list[str]:
        self.watched.append(wanted)
        return self.problems

    def passes(self, seconds: float = 0) -> Situation:
        """Let time pass, and look."""
        self.now += int(seconds * SECOND)
        self.watching._look(self.now)
        [found] = self.situations
        return found


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_it_looks_again_and_again(bench: Bench) -> None:
    bench.watching.start()
    assert bench.timers["wire watch"][0] == bench.now + LOOK
    bench.passes(3)
    assert bench.timers["wire watch"][0] == bench.now + LOOK
    bench.watching.close()
    assert bench.timers["wire watch"][0] is None and bench.closed == [1]


def test_what_is_known_of_a_backup(bench: Bench) -> None:
    found = bench.passes()
    assert found == Situation("lan", False, bench.now, 1000, True, None, ("G lan",), ())
    bench.changed["lan"] = bench.now - 7
    bench.member.peer = SimpleNamespace(
        source=pack("192.168.1.3"), interval_cs=50, heard=bench.now - 3 * SECOND
    )
    found = bench.passes()
    assert found.since == bench.now - 7 and found.peer == ("192.168.1.3", 500)
    bench.member.peer.heard -= 1
    assert bench.passes().peer is None, "it was active"
    bench.member.peer.heard, bench.member.role = bench.now, Role.ACTIVE
    assert bench.passes().peer is None, "this router is"


def test_virtual_addresses_without_the_role_are_strays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.present = {ELSEWHERE: "eth1", pack("192.168.1.2"): "br-lan"}
    assert bench.passes().strays == (("192.168.9.4", "eth1"),)
    bench.present[OURS] = "gone"
    assert bench.passes().strays == (("192.168.1.4", "?"), ("192.168.9.4", "eth1"))
    bench.endpoint.installed = True
    assert bench.passes().strays == ()
    owner = Bench(monkeypatch, replace(LAN, priority=255))
    owner.present = {OURS: "br-lan"}
    assert owner.passes().strays == (), "they are its own"


def test_problems_are_logged_when_they_begin_and_when_they_end(bench: Bench) -> None:
    bench.report = {"contested": ["lan: two are active"]}
    bench.passes()
    bench.passes(3)
    assert bench.lines == ["lan: two are active"] and bench.watching.report == bench.report
    bench.report = {}
    bench.passes(3)
    assert bench.lines[1:] == ["no longer: lan: two are active"]


def test_a_backup_asks_for_nothing_and_hears_nothing(bench: Bench) -> None:
    bench.passes(ASK / SECOND)
    assert bench.asked == [] and bench.watched == [{}]


def test_an_active_router_asks_when_it_has_settled_and_then_now_and_then(bench: Bench) -> None:
    bench.endpoint.installed, bench.changed["lan"] = True, bench.now
    bench.passes(SETTLE / SECOND - 0.001)
    places = {("br-lan", 3, 4): {OURS}, ("br-lan", 3, 6): {SIX}, ("eth1", 4, 4): {ELSEWHERE}}
    assert bench.watched == [{place: frozenset(some) for place, some in places.items()}] and not bench.asked
    bench.passes(0.001)
    assert bench.asked == [
        (3, [probe_frame(MACS["br-lan"], OURS), probe_frame(MACS["br-lan"], SIX)]),
        (4, [probe_frame(MACS["eth1"], ELSEWHERE)]),
    ]
    bench.passes(ASK / SECOND - 0.001)
    assert len(bench.asked) == 2
    bench.passes(0.001)
    assert len(bench.asked) == 4
    bench.changed["lan"] = bench.now + 1  # it was away for a moment
    bench.passes(SETTLE / SECOND + 0.001)
    assert len(bench.asked) == 6, "a new role asks anew"


@pytest.mark.parametrize(
    ("name", "mac"), [("eth1", b""), ("eth1", bytes(6)), ("eth1", bytes(20)), ("eth1", None)]
)
def test_only_ethernet_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, mac: bytes | None
) -> None:
    monkeypatch.setitem(MACS, name, mac)  # type: ignore[arg-type]
    bench.endpoint.installed, bench.changed["lan"] = True, 0
    bench.passes()
    assert {place[0] for place in bench.watched[0]} == {"br-lan"}
    assert [index for index, _ in bench.asked] == [3]


def test_who_cannot_listen_says_so(bench: Bench) -> None:
    bench.problems = ["br-lan: Operation not permitted"]
    bench.passes()
    assert bench.lines == ["br-lan: Operation not permitted: other hosts' ARP is not heard"]


def test_another_host_with_a_virtual_address_is_a_trouble(bench: Bench) -> None:
    theirs = b"\2\0\0\0\0\x66"
    bench.watching._claimed(OURS, theirs)
    assert not bench.claims, "this router is a backup"
    bench.endpoint.installed, bench.changed["lan"] = True, 5
    bench.watching._claimed(OURS, MACS["eth1"])
    bench.watching._claimed(pack("192.168.1.5"), theirs)
    assert not bench.claims, "it is this router itself, or another address"
    bench.watching._claimed(OURS, theirs)
    assert bench.claims == [("lan", "192.168.1.4", "02:00:00:00:00:66", 5, bench.now)]
