# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual servers: who is up, who gets which part, and what follows when a real server goes down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tandem import balancing
from tandem.balancing import FLUSH, FLUSH_LIMIT, Balancing
from tandem.core.balance import SLOTS, SORRY, Balance
from tandem.core.settings import RealServer, VirtualServer
from tandem.log import Logger

A = RealServer("a", "10.0.0.1", checks=("tcp", "http"))
B = RealServer("b", "10.0.0.2", port=8080, weight=3, checks=("tcp",))
C = RealServer("c", "2001:db8::3", weight=0)
WEB = VirtualServer("web", "192.168.9.4", 80, servers=("a", "b"))
DNS = VirtualServer("dns", "2001:db8::4", 53, "udp", "rr", ("b", "c"), sorry_address="10.0.0.9")


def balance() -> Balance:
    found = Balance()
    found.settle((WEB, DNS), (A, B, C))
    return found


def test_all_are_up_until_a_check_says_otherwise() -> None:
    found = balance()
    assert all(map(found.is_up, "abc"))
    assert (found.share("web", "a"), found.share("web", "b")) == (0.25, 0.75)
    assert (found.share("dns", "b"), found.share("dns", "c")) == (1.0, 0.0)
    assert found.reaches("web") and found.reaches("dns") and not found.is_sorry("dns")


def test_a_server_is_down_with_its_first_check_and_up_with_its_last() -> None:
    found = balance()
    assert not found.checked("a", "tcp", True), "it was up"
    assert found.checked("a", "tcp", False) and not found.is_up("a")
    assert not found.checked("a", "http", False)
    assert found.share("web", "b") == 1.0
    assert not found.checked("a", "tcp", True) and not found.is_up("a")
    assert found.checked("a", "http", True) and found.is_up("a")
    assert found.share("web", "a") == 0.25
    assert not found.checked("unknown", "tcp", False)


def test_nobody_answers_or_the_sorry_server_does() -> None:
    found = balance()
    for name in "ab":
        found.checked(name, "tcp", False)
    assert found.owners == {"web": (), "dns": (SORRY,) * SLOTS}
    assert not found.reaches("web") and not found.is_sorry("web") and found.share("web", "a") == 0.0
    assert not found.reaches("dns") and found.is_sorry("dns") and found.share("dns", "b") == 0.0


def test_a_reload_keeps_what_is_known_of_the_checks_that_stay() -> None:
    found = balance()
    found.checked("a", "tcp", False)
    found.checked("b", "tcp", False)
    found.settle((WEB,), (A, RealServer("b", "10.0.0.2", weight=3)))
    assert not found.is_up("a") and found.is_up("b") and list(found.owners) == ["web"]
    found.settle((), ())
    found.settle((WEB,), (A, B))
    assert found.is_up("a"), "it was gone for a while"


def test_connections_end_on_every_port_that_a_virtual_server_uses() -> None:
    found = balance()
    assert found.ends("a") == [("tcp", 80)]
    assert found.ends("b") == [("tcp", 8080), ("udp", 8080)]
    assert found.ends("c") == [("udp", 53)]


# The effects that follow


class FakeBalancer:
    """Stands in for the kernel's table."""

    def __init__(self) -> None:
        self.failures: tuple[str, ...] = ()
        self.calls: list[Any] = []
        self.changed = False

    def hold(self, plan: str, owners: dict[str, tuple[str, ...]]) -> None:
        self.calls.append((plan, dict(owners)))

    def assign(self, owners: dict[str, tuple[str, ...]]) -> None:
        self.calls.append(dict(owners))

    def restore(self) -> bool:
        return self.changed

    def clear(self) -> None:
        self.calls.append("clear")


class Bench:
    """The shell with a fake kernel and fake processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table = FakeBalancer()
        self.started: list[list[str]] = []
        self.lines: list[str] = []
        monkeypatch.setattr("tandem.effects.balancer.Balancer", lambda: self.table)
        monkeypatch.setattr(balancing, "Processes", lambda *_, **__: self)
        loop: Any = SimpleNamespace(now=lambda: 0, call_at=lambda *_: None)
        sink: Any = SimpleNamespace(write=lambda _level, line: self.lines.append(line) or True)
        self.balancing = Balancing(loop, Logger("info", sink))

    def start(self, argv: list[str], limit: int, _ended: object) -> None:
        assert limit == FLUSH_LIMIT
        self.started.append(argv[argv.index(FLUSH) + 1 :])

    def close(self) -> None:
        self.started.append(["closed"])

    def follow(self, *virtual: VirtualServer, plan: str | None = "rules") -> None:
        config = SimpleNamespace(virtual_servers=virtual, real_servers=(A, B, C))
        found: Any = SimpleNamespace(config=config, balance=plan)
        self.balancing.follow(found)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench(monkeypatch)
    found.follow(WEB, DNS)
    return found


def test_the_table_is_made_with_the_slots(bench: Bench) -> None:
    assert bench.table.calls == [("rules", balance().owners)]


def test_a_server_that_goes_down_loses_its_slots_and_its_connections(bench: Bench) -> None:
    bench.balancing.checked("b", "tcp", False)
    [_, owners] = bench.table.calls
    assert set(owners["web"]) == {"a"} and set(owners["dns"]) == {SORRY}
    assert bench.started == [["10.0.0.2", "6", "8080"], ["10.0.0.2", "17", "8080"]]
    assert any("real_server b: DOWN" in line for line in bench.lines)
    bench.balancing.checked("b", "tcp", False)
    assert len(bench.table.calls) == 2, "nothing has changed"
    bench.balancing.checked("b", "tcp", True)
    assert bench.table.calls[-1] == balance().owners and len(bench.started) == 2
    assert any("real_server b: up" in line for line in bench.lines)


def test_status(bench: Bench) -> None:
    bench.balancing.checked("b", "tcp", False)
    web, dns = bench.balancing.status()
    assert (web["name"], web["address"], web["protocol"], web["algorithm"], web["sorry"]) == (
        "web", "192.168.9.4:80", "tcp", "sh", False,
    )  # fmt: skip
    assert (dns["address"], dns["sorry"]) == ("[2001:db8::4]:53", True)
    assert web["servers"] == [
        {"name": "a", "address": "10.0.0.1", "port": 80, "weight": 1, "up": True, "share": 1.0},
        {"name": "b", "address": "10.0.0.2", "port": 8080, "weight": 3, "up": False, "share": 0.0},
    ]


def test_health_names_those_that_nobody_answers_and_what_the_kernel_refuses(bench: Bench) -> None:
    assert bench.balancing.health == {}
    bench.balancing.checked("b", "tcp", False)
    assert bench.balancing.health == {"virtual_servers": ["dns: no real server is up"]}
    bench.table.failures = ("no memory",)
    for up in (True, False):
        bench.balancing.checked("b", "tcp", up)
    assert bench.balancing.health["virtual_servers"][0] == "nftables refuses the rules: no memory"
    assert len([line for line in bench.lines if "no memory" in line]) == 1, "said once"
    bench.table.failures = ()
    bench.balancing.checked("b", "tcp", True)
    assert bench.balancing.health == {}


def test_a_table_that_another_program_has_changed_is_put_back(bench: Bench) -> None:
    assert bench.balancing.restore() == []
    bench.table.changed, bench.table.failures = True, ("no memory",)
    assert bench.balancing.restore() == ["table inet tandem_balance"]
    assert bench.balancing.health


def test_without_virtual_servers_the_table_goes(bench: Bench) -> None:
    bench.follow(plan=None)
    assert bench.table.calls[-1] == "clear" and bench.started == [["closed"]]
    assert bench.balancing.status() == [] and bench.balancing.health == {} and bench.balancing.restore() == []
    bench.balancing.checked("b", "tcp", False)
    bench.balancing.close()
    assert bench.table.calls[-1] == "clear" and len(bench.started) == 1
    bench.follow(WEB)
    assert bench.table.calls[-1] == ("rules", {"web": balance().owners["web"]})
