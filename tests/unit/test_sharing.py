# SPDX-License-Identifier: GPL-2.0-or-later
"""What a router shares with its peers: who hears what, what is missing, and what is known of a peer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tandem import sharing as module
from tandem.core.actions import GroupTransition, Transition
from tandem.log import Logger
from tandem.sharing import Sharing

STATUS = {"state": "up", "in_step": True}


class Bench:
    """Sharing with fake parts; `calls`: what they were told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.lines: list[str] = []
        self.neighbours: dict[str, Any] = {}
        self.router: Any = SimpleNamespace(groups={"G": None}, neighbours=self.neighbours)
        sink: Any = SimpleNamespace(write=lambda _level, line: self.lines.append(line) or True)
        loop: Any = SimpleNamespace(now=lambda: 0, call_at=lambda *_: None)
        executor: Any = SimpleNamespace(take_connections=self.notes("connections"))
        nothing: Any = None
        self.sharing = Sharing(
            loop, Logger("info", sink), executor, nothing, nothing, self.router, nothing, nothing,
            dict, nothing, nothing, nothing,
        )  # fmt: skip

    def notes(self, what: str) -> Callable[..., None]:
        return lambda *given: self.calls.append((what, *given))

    def part(self, name: str, **facts: Any) -> Any:
        """Put a fake part in; each of its methods notes its calls."""
        methods = (
            "role",
            "stop",
            "release",
            "close",
            "tell",
            "changed",
            "check_gate",
            "device_gone",
            "status",
        )
        found = SimpleNamespace(**{method: self.notes(f"{name}.{method}") for method in methods} | facts)
        setattr(self.sharing, name, found)
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_shared_and_nothing_is_wrong(bench: Bench) -> None:
    sharing = bench.sharing
    assert sharing.health == {} and sharing.peers() == []
    sharing.told(Transition("I1", "MASTER", 100, ""))
    sharing.told(GroupTransition("G", "MASTER"))
    sharing.sources_changed()
    sharing.check_gate()
    sharing.network_changed("wan", {}, True)
    assert sharing.presence("r2") == (False, {}, 0, False)
    with pytest.raises(ValueError, match="not replicated: there is no conntrack_sync section"):
        sharing.replicating()


def test_roles_are_for_connections_leases_and_peers(bench: Bench) -> None:
    bench.part("replication")
    bench.part("dhcp")
    bench.part("_peer_roles")
    bench.sharing.told(Transition("I1", "MASTER", 100, ""))
    assert bench.calls == [("replication.role", "I1", "MASTER"), ("dhcp.role", "I1", "MASTER")], (
        "of an instance"
    )
    bench.calls.clear()
    bench.sharing.told(GroupTransition("G", "BACKUP"))
    assert bench.calls == [("_peer_roles.tell", "G", "BACKUP")]
    bench.router.groups["I1"] = None  # an instance that is a group of its own
    bench.sharing.told(Transition("I1", "MASTER", 100, ""))
    assert bench.calls[-1] == ("_peer_roles.tell", "I1", "MASTER")


def test_other_news_are_passed_on(bench: Bench) -> None:
    bench.part("replication")
    bench.part("heartbeats")
    bench.part("_vrrp_sources")
    bench.sharing.sources_changed()
    bench.sharing.check_gate()
    bench.sharing._device_gone()
    assert [call for call, *_ in bench.calls] == [
        "_vrrp_sources.tell", "heartbeats.changed", "replication.check_gate", "replication.device_gone",
    ]  # fmt: skip
    bench.part("following", status=bench.notes("status"))
    bench.sharing.network_changed("wan", {"up": True}, False)
    assert bench.calls[-1] == ("status", "wan", {"up": True}, False)


def test_health_names_each_part_that_is_troubled(bench: Bench) -> None:
    bench.part("replication", stale=[], unkept=[])
    bench.part("dhcp", trouble="")
    bench.part("following", trouble=[])
    assert bench.sharing.health == {}
    bench.part("replication", stale=["r2"], unkept=["no nft"])
    bench.part("dhcp", trouble="disk full")
    bench.part("following", trouble=["wan: no device"])
    bench.sharing._lacking = "no module"
    assert bench.sharing.health == {
        "replication_missing": ["no module"],
        "replication_stale": ["r2"],
        "guarantee": ["no nft"],
        "dhcp": ["disk full"],
        "follow": ["wan: no device"],
    }
    replication = bench.sharing.replication
    assert bench.sharing.replicating() is replication
    bench.sharing.replication = None
    with pytest.raises(ValueError, match="not replicated: no module"):
        bench.sharing.replicating()


def link(**settings: Any) -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(**{"heartbeat": 9, "insecure": False} | settings), status=lambda: STATUS
    )


def test_heartbeats_know_best_who_is_there(bench: Bench) -> None:
    bench.part("channel", links={"r2": link()})
    bench.neighbours["r2"] = SimpleNamespace(connected=True, states={"G": "MASTER"})
    assert bench.sharing.presence("r2") == (True, {"G": "MASTER"}, 9, True)
    bench.neighbours["r2"] = SimpleNamespace(connected=False, states=None)
    assert bench.sharing.presence("r2") == (False, {}, 9, False)
    assert bench.sharing.presence("r3") == (False, {}, 0, False)
    known: dict[str, Any] = {"r2": (True, {}, 1, False)}
    bench.part("heartbeats", presence=known.get)
    assert bench.sharing.presence("r2") == (True, {}, 1, False)
    bench.neighbours["r3"], bench.sharing.channel.links["r3"] = bench.neighbours["r2"], link()  # type: ignore[union-attr]
    assert bench.sharing.presence("r3") == (False, {}, 9, False), "it sends none: the session counts"


def test_what_is_known_of_the_peers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step", lambda status: "in step" if status["in_step"] else "behind")
    down = link()
    down.status = lambda: {"state": "down", "in_step": False}
    bench.part("channel", links={"r2": link(), "r3": down})
    for name in ("r2", "r3"):
        bench.neighbours[name] = SimpleNamespace(connected=True, states={"G": "BACKUP"})
    r2, r3 = bench.sharing.peers()
    assert r2 == {
        "name": "r2",
        "connected": True,
        "roles": {"G": "BACKUP"},
        "heartbeats": None,
        "connections": "off",
    }
    assert (r3["connected"], r3["roles"]) == (False, {}), "what it said before counts no more"
    bench.part("replication")
    bench.part("heartbeats", status=lambda name: f"beats of {name}")
    r2, r3 = bench.sharing.peers()
    assert (r2["connections"], r2["heartbeats"]) == ("in step", "beats of r2") and r3[
        "connections"
    ] == "behind"


@pytest.mark.parametrize(
    ("up", "obeys", "peer", "why"),
    [
        (True, True, "r9", "there is no channel to 'r9'"),
        (False, True, "r2", "r2 can't be reached"),
        (True, False, "r2", "r2 takes no orders: its `option allow_upgrade` is 0"),
    ],
)
def test_who_takes_no_order_of_an_upgrade(bench: Bench, up: bool, obeys: bool, peer: str, why: str) -> None:
    bench.part("channel", links={"r2": link()}, is_up=lambda _: up, obeys=lambda _: obeys)
    with pytest.raises(ValueError, match=why):
        bench.sharing.upgrade_peer(peer, "check:1", bench.notes("reply"))
    bench.sharing.channel = None
    with pytest.raises(ValueError, match="no channel"):
        bench.sharing.upgrade_peer("r2", "check:1", bench.notes("reply"))


def test_an_order_reaches_a_peer_and_only_the_first_loads_the_module(bench: Bench) -> None:
    made: list[Any] = []

    def make(send: Callable[[str, bytes], bool], permits: Callable[[str], bool]) -> Any:
        made.append((send, permits))
        return SimpleNamespace(ask=bench.notes("ask"))

    bench.sharing._make_upgrades = make
    channel = bench.part(
        "channel",
        links={"r2": link(upgrades=True), "r3": link(upgrades=False)},
        is_up=lambda _: True,
        obeys=lambda _: True,
        subscribe=lambda topic, _part: bench.calls.append(("subscribe", topic)),
        send=lambda peer, topic, data: bench.calls.append(("send", peer, topic, data)) or True,
    )
    reply = bench.notes("reply")
    for order in ("check:1", "install:2"):
        bench.sharing.upgrade_peer("r2", order, reply)
    assert bench.calls == [
        ("subscribe", "upgrade"), ("ask", "r2", "check:1", reply), ("ask", "r2", "install:2", reply),
    ]  # fmt: skip
    [(send, permits)] = made
    assert permits("r2") and not permits("r3") and send("r2", b"x")
    assert bench.calls[-1] == ("send", "r2", "upgrade", b"x") and channel.links


def test_sources_of_a_peer_without_a_secret_decide_nothing_about_strangers(bench: Bench) -> None:
    bench.router.peer_sources = bench.notes("sources")
    bench.part("channel", links={"r2": link(), "r3": link(insecure=True)})
    for name in ("r2", "r3"):
        bench.sharing._peer_sources(name, ((51, b"1234"),))
    assert [call[1:] for call in bench.calls] == [
        ("r2", ((51, b"1234"),), True),
        ("r3", ((51, b"1234"),), False),
    ]


# The end


def test_all_parts_have_ended_once_and_networks_come_last(bench: Bench) -> None:
    waits: list[Callable[[], None]] = []
    bench.sharing._dnsmasq = SimpleNamespace(finish=waits.append)  # type: ignore[assignment]
    bench.part("channel", close=bench.notes("channel.close"))
    bench.part("replication", stop=waits.append)
    bench.part("dhcp")
    bench.part("doctor")
    bench.part("heartbeats")
    bench.part("following")
    bench.sharing.stop(bench.notes("ended"))
    assert [call for call, *_ in bench.calls] == ["dhcp.stop", "doctor.close", "heartbeats.close"]
    bench.calls.clear()
    for wait in waits:
        assert ("ended",) not in bench.calls
        wait()
    assert [call for call, *_ in bench.calls] == ["channel.close", "following.stop", "ended"]


def test_without_connections_the_channel_closes_at_once(bench: Bench) -> None:
    bench.sharing._dnsmasq = SimpleNamespace(finish=lambda then: then())  # type: ignore[assignment]
    bench.part("channel", close=bench.notes("channel.close"))
    bench.sharing.stop(bench.notes("ended"))
    assert bench.calls == [("channel.close",), ("ended",)]
