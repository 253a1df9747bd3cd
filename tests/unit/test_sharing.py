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


# What a plan asks for


class Plans(Bench):
    """A bench whose parts are made by stand-ins: `calls` has what begins and what ends."""

    def __init__(self) -> None:
        super().__init__()
        sharing: Any = self.sharing
        sharing._peers = lambda plan: list(plan.config.peers)
        sharing._make_channel = self.makes_channel
        sharing._replicate = self.makes_replication
        sharing._follow_dhcp = self.makes_dhcp
        sharing._follow_networks = lambda _plan: None
        sharing._take_orders = lambda _channel: self.calls.append(("orders",))
        self.broken = ""

    def makes_channel(self, _peers: object) -> Any:
        self.calls.append(("channel",))
        return self.part(
            "channel",
            start=self.notes("channel.start"),
            reload=lambda peers: self.calls.append(("channel.reload", len(peers))),
            leave=lambda _user: self.calls.append(("channel.leave",)),
        )

    def makes_replication(self, _plan: object, _channel: object) -> Any:
        if self.broken:
            raise OSError(self.broken)
        self.calls.append(("replication",))
        return self.part(
            "replication",
            reload=lambda _settings: self.calls.append(("replication.reload",)),
            stop=lambda then: (self.calls.append(("replication.stop",)), then()),
            stale=[],
            unkept=[],
        )

    def makes_dhcp(self, plan: Any) -> Any:
        if plan.leases is None:
            return None
        self.calls.append(("dhcp", plan.leases))
        return self.part("dhcp", trouble="")

    def plan(
        self, peers: int = 1, sync: bool = True, beats: int = 0, secret: bool = True, **more: Any
    ) -> Any:
        config = SimpleNamespace(
            peers=[SimpleNamespace(insecure=not secret)] * peers,
            conntrack_sync="settings" if sync else None,
            globals=SimpleNamespace(heartbeat_interval_ms=beats, allow_upgrade=more.get("orders", False)),
            dhcp_gateway=more.get("dhcp"),
        )
        return SimpleNamespace(config=config, leases=more.get("leases"))

    def goes(self, **settings: Any) -> list[str]:
        """Go over to a plan; return what has happened."""
        self.calls.clear()
        plan = self.plan(**settings)
        self.sharing.prepare(plan)
        self.sharing.settle(plan)
        return [call for call, *_ in self.calls]


def test_the_channel_and_replication_come_and_go() -> None:
    bench = Plans()
    assert bench.goes(peers=0) == []
    assert bench.goes(sync=False) == ["channel", "channel.start"], "without connections, too"
    assert bench.goes() == ["replication", "channel.reload", "replication.reload"]
    assert bench.goes(peers=2) == ["channel.reload", "replication.reload"]
    assert bench.goes(sync=False) == ["channel.reload", "connections", "replication.stop", "channel.leave"]
    assert bench.sharing.replication is None and bench.sharing.channel is not None
    bench.goes()
    bench.part("doctor")
    assert bench.goes(peers=0) == ["connections", "replication.stop", "channel.close", "doctor.close"]
    assert bench.sharing.channel is None and bench.sharing.doctor is None
    assert bench.goes(peers=0) == []


def test_a_start_is_the_same() -> None:
    bench = Plans()
    bench.sharing.start(bench.plan(dhcp="lan", leases="l"))
    assert [call for call, *_ in bench.calls] == ["channel", "replication", "channel.start", "dhcp"]


def test_what_the_kernel_refuses_is_tried_again_at_the_next_plan() -> None:
    bench = Plans()
    bench.broken = "no module nf_conntrack_netlink"
    assert bench.goes() == ["channel", "channel.start"]
    assert bench.sharing.health == {"replication_missing": [bench.broken]} and bench.broken in bench.lines[0]
    bench.broken = ""
    assert bench.goes() == ["replication", "channel.reload", "replication.reload"]
    assert bench.sharing.health == {}


def test_orders_are_taken_where_they_are_allowed() -> None:
    bench = Plans()
    assert "orders" not in bench.goes() and "orders" in bench.goes(orders=True)


def test_heartbeats_need_an_interval_and_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Plans()

    def heartbeats(*_parts: object) -> Any:
        bench.calls.append(("heartbeats",))
        return bench.part(
            "heartbeats", start=bench.notes("start"), reload=lambda _settings: bench.calls.append(("reload",))
        )

    bench.router.links = bench.sharing._interfaces = SimpleNamespace(links=None)  # type: ignore[assignment]
    monkeypatch.setattr("tandem.heartbeats.Heartbeats", heartbeats)
    assert "heartbeats" not in bench.goes(beats=0) and "heartbeats" not in bench.goes(beats=50, secret=False)
    assert bench.goes(beats=50)[-2:] == ["heartbeats", "start"]
    assert bench.goes(beats=60)[-1] == "reload"
    assert bench.goes(beats=0)[-1] == "heartbeats.close" and bench.sharing.heartbeats is None
    bench.goes(beats=50)
    assert "heartbeats.close" in bench.goes(peers=0)


def test_dhcp_begins_anew_only_when_its_settings_or_the_channel_change() -> None:
    bench = Plans()
    assert bench.goes(peers=0, dhcp="lan", leases="l") == ["dhcp"]
    assert bench.goes(peers=0, dhcp="lan", leases="l") == []
    assert bench.goes(peers=0, dhcp="lan", leases="m") == ["dhcp.stop", "dhcp"]
    assert bench.goes(peers=1, sync=False, dhcp="lan", leases="m")[-2:] == ["dhcp.stop", "dhcp"]
    assert bench.goes(peers=1, sync=False)[-1] == "dhcp.release" and bench.sharing.dhcp is None


def test_devices_of_now_reach_the_parts_that_run() -> None:
    bench = Plans()
    plan = bench.plan()
    bench.sharing.follow_devices(plan)
    assert bench.calls == []
    bench.goes()
    bench.part("following", settle_ports=bench.notes("ports"))
    bench.calls.clear()
    bench.sharing.follow_devices(plan)
    assert [call for call, *_ in bench.calls] == ["channel.reload", "ports", "replication.reload"]
    bench.calls.clear()
    bench.sharing.follow_devices(bench.plan(peers=0, sync=False))
    assert [call for call, *_ in bench.calls] == ["ports"]
