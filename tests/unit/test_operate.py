# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands about roles: which groups they reach, what they refuse, and what they write down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.control.operate import operate
from tandem.core.events import Event, Failover, Resume, Standby
from tandem.core.settings import Instance
from tandem.core.sync_group import SyncGroup
from tandem.log import Logger
from tests.lab.log import Lines
from tests.unit.scenario import active, instance, started, sync_group

SECOND = 1_000_000_000


class Neighbours:
    """Other routers, which refuse or would take over."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.asked: list[list[str]] = []

    def refusal(self, groups: list[str]) -> str | None:
        self.asked.append(groups)
        return self.reason


class Bench:
    """Groups LAN (active), WAN (in backup) and OWN (active, the owner of its addresses)."""

    def __init__(self, *owners: Instance) -> None:
        lan, own = active(sync_group(instance()), 9 * SECOND), sync_group(*owners or (owner("OWN"),))
        self.groups: dict[str, SyncGroup] = {
            "LAN": lan,
            "WAN": started(sync_group(instance("WAN"))),
            "OWN": active(own, 9 * SECOND),
        }
        self.neighbours, self.log = Neighbours(), Lines()
        self.events: list[tuple[str, type[Event]]] = []
        self.standby: list[tuple[Any, ...]] = []
        self.left: list[str] = []  # groups whose services were stopped first

    def dispatch(self, group: SyncGroup, event: Event) -> None:
        self.events.append((group.settings.name, type(event)))

    def leave(self, groups: list[SyncGroup], event: Event, then: Callable[[], None]) -> None:
        for group in groups:
            self.dispatch(group, event)
        then()

    def begin(self, groups: list[str], who: str, once: bool) -> None:
        self.standby.append(("begin", groups, who, once))

    def end(self, groups: list[str]) -> None:
        self.standby.append(("end", groups))

    def do(self, command: str, **more: str) -> dict[str, object]:
        router: Any = SimpleNamespace(groups=self.groups, neighbours=self.neighbours, leave=self.leave)
        standby: Any = SimpleNamespace(begin=self.begin, end=self.end)
        answers: list[dict[str, object]] = []

        def leave(groups: list[str], then: Callable[[], None]) -> None:
            self.left += groups
            then()

        request = {"command": command, **more}
        operate(router, Logger("info", self.log), standby, request, leave, answers.append)
        [answer] = answers
        return answer


def owner(name: str) -> Instance:
    return instance(name, priority=255)


def test_failover_of_one_group() -> None:
    bench = Bench()
    assert bench.do("failover", group="LAN", by="root") == {"groups": {"LAN": "MASTER"}}
    assert bench.events == [("LAN", Failover)] and bench.standby == []
    assert bench.log.lines == ["info LAN: failover asked for by root"]
    assert bench.neighbours.asked == [["LAN"]]


def test_failover_of_all_groups_means_the_active_ones() -> None:
    bench = Bench()
    del bench.groups["OWN"]
    assert bench.do("failover") == {"groups": {"LAN": "MASTER"}}
    assert bench.log.lines == ["info LAN: failover asked for"]


def test_failover_where_nothing_is_active() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=r"^not MASTER here: run failover on the router that is$"):
        bench.do("failover", group="WAN", force="1")
    assert bench.events == []


def test_the_owner_of_its_addresses_does_not_fail_over() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=r"^OWN owns its addresses \(priority 255\): use standby$"):
        bench.do("failover", group="OWN", force="1")
    assert bench.events == []


def test_the_owner_of_some_addresses_does() -> None:
    bench = Bench(owner("OWN"), instance("OTHER", virtual_router_id=52))
    bench.do("failover", group="OWN")
    assert bench.events == [("G", Failover)]


@pytest.mark.parametrize("command", ["failover", "standby"])
def test_nobody_who_would_take_over(command: str) -> None:
    bench = Bench()
    bench.neighbours.reason = "no peer is connected"
    text = r"^nobody would take over \(no peer is connected\); --force hands over all the same$"
    with pytest.raises(ValueError, match=text):
        bench.do(command, group="LAN")
    assert bench.events == [] and bench.standby == []
    bench.do(command, group="LAN", force="1")
    assert [name for name, _ in bench.events] == ["LAN"]


def test_a_backup_goes_into_standby_whoever_is_there() -> None:
    bench = Bench()
    bench.neighbours.reason = "no peer is connected"
    assert bench.do("standby", group="WAN", by="ann") == {"groups": {"WAN": "BACKUP"}}
    assert bench.events == [("WAN", Standby)] and bench.neighbours.asked == []
    assert bench.standby == [("begin", ["WAN"], "ann", False)]


def test_standby_of_all_groups_once() -> None:
    bench = Bench()
    bench.do("standby", once="1")
    assert bench.events == [(name, Standby) for name in ("LAN", "WAN", "OWN")]
    assert bench.neighbours.asked == [["LAN", "OWN"]]
    assert bench.standby == [("begin", ["LAN", "WAN", "OWN"], "", True)]


def test_resume_asks_nobody() -> None:
    bench = Bench()
    bench.neighbours.reason = "no peer is connected"
    bench.do("resume", group="LAN")
    assert bench.events == [("LAN", Resume)] and bench.standby == [("end", ["LAN"])]
    assert bench.neighbours.asked == []


def test_a_group_that_is_not_there() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match=r"^no group 'X'; known: LAN, WAN, OWN$"):
        bench.do("resume", group="X")
    bench.groups.clear()
    with pytest.raises(ValueError, match=r"^no group 'X'; known: none$"):
        bench.do("resume", group="X")


def test_services_stop_before_an_active_group_gives_its_role_up() -> None:
    for command in ("failover", "standby"):
        bench = Bench()
        for group in bench.groups.values():
            group.settings = replace(group.settings, services=True)
        bench.do(command, group="LAN")
        assert bench.left == ["LAN"]
    bench.left.clear()
    bench.do("standby", group="WAN")
    bench.do("resume", group="LAN")
    assert bench.left == [], "a backup has none, and nobody gives up anything"
