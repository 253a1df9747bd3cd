# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of the running groups: start, takeover, news of every kind, reload, end. Effects are a list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.load import load_text
from tandem.core.actions import Action, Announce, GroupTransition, Install, Remove, SendAdvert, Transition
from tandem.core.events import EffectFailed, Partner, Reunited, Standby
from tandem.core.neighbour import HOLDS_OURS, WE_HOLD
from tandem.core.state import Role
from tandem.core.timers import SECOND
from tandem.effects.vrrp_socket import pack
from tandem.log import Logger
from tandem.router import START_GRACE, Router

LAN = """
config vrrp_instance 'LAN'
	option name 'LAN'
	option interface 'br-lan'
	option virtual_router_id '51'
	option priority '{priority}'
	option garp_master_delay '0'
	list virtual_ipaddress '192.168.1.4/24'
"""
WAN = LAN.replace("LAN", "WAN").replace("br-lan", "eth0").replace("192.168.1", "192.168.0")
DMZ = LAN.replace("LAN", "DMZ").replace("br-lan", "eth2").replace("192.168.1", "192.168.2")
BOTH = """
config vrrp_sync_group
	option name 'G'
	list group 'LAN'
	list group 'WAN'
"""
GLOBALS = "config globals 'globals'\n\toption enabled '1'\n\toption address_lifetime '9'\n"
PAIR = GLOBALS + LAN.format(priority=100) + WAN.format(priority=100) + BOTH
IDENTITY = ("interface", "virtual_router_id", "family", "version")
OURS = pack("192.168.1.2")


def plan(text: str, **templates: tuple[str, ...]) -> Any:
    """A plan whose instances remove these templates when they leave their role."""
    config = load_text(text, "test").config
    assert config is not None
    instances = {one.name: SimpleNamespace(down=templates.get(one.name, ())) for one in config.instances}
    return SimpleNamespace(config=config, identity=IDENTITY, instances=instances)


class Bench:
    """A router whose effects are a list, and whose time passes when the test says so."""

    def __init__(self, text: str = PAIR, **templates: tuple[str, ...]) -> None:
        self.now = SECOND
        self.done: list[Action] = []
        self.calls: list[Any] = []
        self.timers: dict[Any, tuple[int, Any]] = {}
        self.lines: list[str] = []
        self.down: set[str] = set()
        self.failures: list[EffectFailed] = []
        self.scripts: dict[str, bool] = {}
        executor: Any = SimpleNamespace(
            endpoints={},
            execute=self.execute,
            take_plan=lambda _plan, stale: self.calls.append(("stale", stale)),
            reinstall=lambda name: self.calls.append(("reinstall", name)) or self.failed(),
            refresh=lambda: self.calls.append(("refresh",)) or self.failed(),
            restore_tables=lambda: (["table ip tandem"], self.failed()),
        )
        links: Any = SimpleNamespace(device=lambda name: name)
        interfaces: Any = SimpleNamespace(
            serve=lambda endpoints, _packets: self.serve(endpoints),
            hear=lambda _wanted: None,
            links=links,
            usable=lambda name: name not in self.down,
            take_plan=lambda _plan: None,
        )
        loop: Any = SimpleNamespace(now=lambda: self.now, call_at=self.call_at)
        scripts: Any = SimpleNamespace(state=self.scripts.get)
        sink: Any = SimpleNamespace(write=lambda _level, line: self.lines.append(line) or True)
        self.router = Router(
            loop, plan(text, **templates), executor, interfaces, scripts, Logger("info", sink), self.caught,
            lambda: self.calls.append(("sources",)), lambda: self.calls.append(("acted",)),
        )  # fmt: skip

    def caught(self, error: Exception) -> None:
        raise error

    def serve(self, endpoints: Any) -> None:
        for endpoint in endpoints:
            endpoint.source = OURS

    def failed(self) -> list[EffectFailed]:
        found, self.failures = self.failures, []
        return found

    def execute(self, actions: list[Action], _until: int | None = None) -> list[EffectFailed]:
        self.done += actions
        for action in actions:
            if isinstance(action, Install | Remove):
                for name in action.instances:
                    self.router.endpoints[name].installed = isinstance(action, Install)
        return self.failed() if any(isinstance(action, Install) for action in actions) else []

    def call_at(self, key: Any, when: int | None, what: Any = None, _slack: int = 0) -> None:
        self.timers.pop(key, None)
        if when is not None:
            self.timers[key] = when, what

    def runs(self, seconds: float) -> None:
        """Let so much time pass, with every timer at its time."""
        end = self.now + int(seconds * SECOND)
        while self.timers:
            key = min(self.timers, key=lambda one: self.timers[one][0])
            when, what = self.timers[key]
            if when > end:
                break
            del self.timers[key]
            self.now = max(self.now, when)
            what(self.now)
        self.now = end

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the actions of a kind since the last call, and forget all."""
        found, self.done = [action for action in self.done if isinstance(action, kind)], []
        return found

    @property
    def states(self) -> dict[str, str]:
        return {name: group.state for name, group in self.router.groups.items()}


@pytest.fixture
def bench() -> Bench:
    """A router that is active in one group of two members."""
    found = Bench()
    found.router.start(replicated=False, standby=())
    found.runs(5)
    assert found.states == {"G": "MASTER"}
    found.of(Action)  # type: ignore[arg-type]
    found.calls.clear()
    return found


# Start and end


def test_a_router_without_others_becomes_active_and_keeps_its_addresses_alive() -> None:
    bench = Bench()
    bench.router.start(replicated=False, standby=())
    assert bench.states == {"G": "BACKUP"} and ("sources",) in bench.calls
    assert bench.router.groups["G"].members[0].source == OURS
    bench.runs(3.4)
    assert bench.states == {"G": "BACKUP"}
    bench.runs(0.3)
    assert bench.of(Install) == [Install(("LAN", "WAN"))] and bench.states == {"G": "MASTER"}
    bench.calls.clear()
    bench.runs(9)
    assert bench.calls.count(("refresh",)) == 3, "three times in a lifetime"
    assert len(bench.of(SendAdvert)) == 2 * 9


def test_a_group_in_standby_stays_out(bench: Bench) -> None:
    bench = Bench()
    bench.router.start(replicated=False, standby={"G"})
    bench.runs(10)
    assert bench.states == {"G": "FAULT"} and not bench.of(Install)


def test_a_boot_waits_for_interfaces() -> None:
    bench = Bench()
    bench.down.add("eth0")
    bench.router.start(replicated=False, standby=())
    bench.runs(START_GRACE / SECOND - 1)
    assert bench.states == {"G": "INIT"}
    bench.runs(2)
    assert bench.states == {"G": "FAULT"}
    bench.down.clear()
    bench.router.interfaces_changed()
    bench.runs(5)
    assert bench.states == {"G": "MASTER"}


def test_the_end_takes_everything_away_and_resigns(bench: Bench) -> None:
    bench.router.stop()
    kinds = [type(action) for action in bench.done]
    assert kinds.index(Remove) < kinds.index(SendAdvert)
    assert [action.priority for action in bench.of(SendAdvert)] == [0, 0]
    assert not bench.router.groups and not bench.router.endpoints
    assert not {key for key in bench.timers if key in ("lifetime", ("group", "G"))}
    bench.runs(60)
    assert not bench.done, "nothing happens any more"


# Effects that fail


def test_an_effect_that_fails_gives_the_role_up_for_the_first_reason() -> None:
    bench = Bench()
    bench.router.start(replicated=False, standby=())
    bench.failures = [EffectFailed("LAN", "no memory"), EffectFailed("WAN", "no route")]
    bench.runs(5)
    assert bench.states == {"G": "BACKUP"} or bench.states == {"G": "FAULT"}
    assert "LAN: no memory" in bench.lines and "WAN: no route" in bench.lines
    why = [action.why for action in bench.of(Transition) if action.state != "BACKUP" or "no" in action.why]
    assert any("no memory" in one for one in why) and not any("no route" in one for one in why)


@pytest.mark.parametrize("how", ["reinstall", "refresh", "tables"])
def test_a_failure_later_on_counts_as_well(bench: Bench, how: str) -> None:
    bench.failures = [EffectFailed("WAN", "no memory")]
    if how == "reinstall":
        bench.router.reinstall("WAN")
    elif how == "refresh":
        bench.runs(4)
    else:
        assert bench.router.restore_tables() == ["table ip tandem"]
    assert bench.states != {"G": "MASTER"} and "WAN: no memory" in bench.lines


# News


def test_a_link_that_goes_down_is_a_fault_and_comes_back(bench: Bench) -> None:
    bench.down.add("br-lan")
    bench.router.interfaces_changed()
    assert bench.states == {"G": "FAULT"} and bench.of(Remove)
    assert ("sources",) in bench.calls
    bench.down.clear()
    bench.router.interfaces_changed()
    bench.runs(5)
    assert bench.states == {"G": "MASTER"}


def test_only_groups_that_track_an_object_hear_of_it() -> None:
    track = "\tlist track_check 'web'\n"
    check = "config check 'web'\n\toption kind 'tcp'\n\toption host '192.0.2.1'\n\toption port '80'\n"
    bench = Bench(GLOBALS + check + LAN.format(priority=100) + WAN.format(priority=100) + track)
    bench.router.start(replicated=False, standby=())
    bench.router.tracker_changed("check", "web", True)
    bench.runs(10)
    assert bench.states == {"LAN": "MASTER", "WAN": "MASTER"}
    bench.router.tracker_changed("check", "web", False, "refused")
    assert bench.states == {"LAN": "MASTER", "WAN": "FAULT"}
    assert any("check web refused" in action.why for action in bench.of(Transition))


def test_what_was_deleted_is_put_back_only_while_it_should_be_there(bench: Bench) -> None:
    bench.router.restore("LAN")
    assert bench.calls == [("reinstall", "LAN")]
    assert bench.router.endpoints["LAN"].counters == {"restored": 1}
    bench.router.dispatch(bench.router.groups["G"], Standby())
    bench.calls.clear()
    bench.router.restore("LAN")
    bench.router.restore("unknown")
    assert ("reinstall", "LAN") not in bench.calls
    assert not bench.router.is_installed("LAN") and not bench.router.is_installed("unknown")


def test_another_mac_address_is_announced(bench: Bench) -> None:
    bench.router.moved("WAN")
    assert [action.instance for action in bench.of(Announce)] == ["WAN"]


def test_who_slept_too_long_puts_nothing_back(bench: Bench) -> None:
    bench.now += 60 * SECOND
    bench.router.reinstall("LAN")
    assert bench.states == {"G": "BACKUP"}


def test_a_role_that_changes_is_noted(bench: Bench) -> None:
    bench.router.note(Transition("LAN", "MASTER", 100, ""))
    bench.now += SECOND
    bench.router.note(Transition("LAN", "BACKUP", 100, ""))
    assert bench.router.transitions == {"LAN": 2} and bench.router.changed == {"LAN": bench.now}
    bench.router.endpoints["LAN"].installed_at, bench.router.endpoints["LAN"].announced_at = 3, 4
    assert bench.router.course(Transition("LAN", "MASTER", 100, "")) == ("G", 3, 4)
    assert bench.router.course(GroupTransition("G", "MASTER")) == ("G", 0, 0)


# Connections of the peers


SYNC = """
config peer 'r2'
	list address '192.168.1.3'
	option secret 'Zr4uJ8w2bQ0nTe9LkVx3yHs7'
config conntrack_sync
	option enabled '1'
"""


def test_a_takeover_waits_until_the_connections_are_there() -> None:
    bench = Bench(PAIR + SYNC)
    bench.router.start(replicated=True, standby=())
    bench.router.neighbour("r2", WE_HOLD)
    bench.router.neighbour("unknown", WE_HOLD)
    bench.router.synchronised(True)
    bench.runs(3.7)
    assert not bench.of(Install)
    bench.router.restored("unknown", 1)
    assert not bench.of(Install)
    bench.router.restored("G", 7)
    assert bench.of(Install) == [Install(("LAN", "WAN"))]


def test_the_groups_hear_once_that_the_peer_s_connections_are_known() -> None:
    bench = Bench(PAIR + SYNC)
    bench.router.start(replicated=True, standby=())
    heard: list[Any] = []
    bench.router.dispatch = lambda _group, event: heard.append(event)  # type: ignore[method-assign]
    bench.router.neighbour("r2", HOLDS_OURS)
    assert not heard, "when no role is changing"
    bench.runs(0)
    assert heard == [Partner(True, True, frozenset({pack("192.168.1.3")}))]
    bench.router.neighbour("r2", WE_HOLD)
    bench.runs(0)
    assert len(heard) == 1, "the same news is no news"
    bench.router.reunited("other")
    assert len(heard) == 1
    bench.router.reunited("G")
    bench.router.reunited(None)
    assert heard[1:] == [Reunited(), Reunited()]


# Reload


def test_a_reload_that_changes_nothing_puts_everything_back(bench: Bench) -> None:
    group = bench.router.groups["G"]
    bench.router.reload(plan(PAIR), replicated=False)
    assert bench.router.groups == {"G": group} and bench.states == {"G": "MASTER"}
    assert [call for call in bench.calls if call[0] == "reinstall"] == [
        ("reinstall", "LAN"),
        ("reinstall", "WAN"),
    ]
    assert not bench.of(Transition)


def test_a_reload_with_another_priority_keeps_the_role_and_says_it(bench: Bench) -> None:
    text = GLOBALS + LAN.format(priority=120) + WAN.format(priority=120) + BOTH
    bench.router.reload(plan(text), replicated=False)
    assert bench.states == {"G": "MASTER"}
    adverts = bench.of(SendAdvert)
    assert adverts and {action.priority for action in adverts} == {120}


def test_what_a_reload_no_longer_installs_is_taken_away() -> None:
    bench = Bench(PAIR, LAN=("address", "route"), WAN=("rule",))
    bench.router.start(replicated=False, standby=())
    bench.runs(5)
    bench.router.reload(plan(PAIR, LAN=("address",), WAN=("rule",)), replicated=False)
    assert ("stale", ["route"]) in bench.calls
    backup = Bench(PAIR, LAN=("address", "route"))
    backup.router.start(replicated=False, standby=())
    backup.router.reload(plan(PAIR), replicated=False)
    assert ("stale", []) in backup.calls, "nothing was installed"


def test_a_new_group_starts_from_the_beginning_and_a_removed_one_ends(bench: Bench) -> None:
    bench.router.reload(plan(GLOBALS + DMZ.format(priority=100)), replicated=False)
    assert bench.states == {"DMZ": "BACKUP"} and set(bench.router.endpoints) == {"DMZ"}
    assert GroupTransition("G", "STOP") in bench.done and bench.of(Remove)
    assert ("group", "G") not in bench.timers
    bench.runs(5)
    assert bench.states == {"DMZ": "MASTER"}


def test_a_member_that_leaves_takes_only_itself_away(bench: Bench) -> None:
    bench.router.reload(plan(GLOBALS + LAN.format(priority=100)), replicated=False)
    assert bench.states == {"LAN": "MASTER"}
    assert [action.instances for action in bench.done if isinstance(action, Remove)] == [("WAN",)]
    assert set(bench.router.endpoints) == {"LAN"} and bench.router.groups["LAN"].role is Role.ACTIVE
    bench.runs(3)
    assert {action.instance for action in bench.of(SendAdvert) if action.priority} == {"LAN"}
