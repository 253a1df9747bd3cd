# SPDX-License-Identifier: GPL-2.0-or-later
"""Who hears of a change of role, of a rival, and of a service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tandem.control.history import History
from tandem.core.actions import Contested, Degraded, GroupTransition, Transition
from tandem.log import Logger
from tandem.telling import Telling

MASTER = Transition("I1", "MASTER", 150, "no active router")
GROUP = GroupTransition("G1", "MASTER")


class Bench:
    """Fakes around a `Telling`; `calls`: who has heard what, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.lines: list[tuple[str, str]] = []
        sink: Any = SimpleNamespace(write=lambda level, line: self.lines.append((level, line)) or True)
        loop: Any = SimpleNamespace(now=lambda: 0, call_at=lambda *_: None)
        router: Any = SimpleNamespace(course=lambda _action: ("G1", 0, 0), note=self.hears("router"))
        file: Any = SimpleNamespace(changed=lambda: self.calls.append(("file", None)))
        self.history = History()
        self.telling = Telling(
            loop,
            Logger("info", sink),
            self.history,
            file,
            router,
            (self.hears("sharing"), self.hears("services")),
            self.hears("contested"),
            lambda found: self.calls.append(("ubus", found["state"])),
        )

    def hears(self, who: str) -> Any:
        return lambda action: self.calls.append((who, action))


def test_a_role_is_remembered_first_and_then_followed_in_order() -> None:
    bench = Bench()
    bench.telling.told(MASTER)
    assert bench.calls == [
        ("file", None),
        ("ubus", "MASTER"),
        ("router", MASTER),
        ("sharing", MASTER),
        ("services", MASTER),
    ]
    [found] = bench.history.entries(0)
    assert (found["name"], found["group"], found["state"], found["priority"]) == ("I1", "G1", "MASTER", 150)
    assert bench.lines == [("info", "I1: MASTER (no active router), priority 150")]


def test_a_role_without_a_reason_has_none_in_the_log() -> None:
    bench = Bench()
    bench.telling.told(Transition("I1", "BACKUP", 100, ""))
    assert bench.lines == [("info", "I1: BACKUP, priority 100")]


def test_a_group_is_no_instance() -> None:
    bench = Bench()
    bench.telling.told(GROUP)
    assert [who for who, _ in bench.calls] == ["file", "ubus", "sharing", "services"] and not bench.lines
    assert [found["kind"] for found in bench.history.entries(0)] == ["group"]


def test_a_rival_is_for_the_scripts_and_no_change_of_role() -> None:
    bench = Bench()
    rival = Contested("I1", 150)
    bench.telling.told(rival)
    assert bench.calls == [("contested", rival)] and not bench.history.entries(0)
    [(level, line)] = bench.lines
    assert level == "info" and line.startswith("I1: a router of lower priority was active too")


def test_a_group_that_takes_part_in_spite_of_a_fault_is_a_warning() -> None:
    bench = Bench()
    bench.telling.told(Degraded("G1", "interface wan down"))
    assert not bench.calls and not bench.history.entries(0)
    [(level, line)] = bench.lines
    assert level == "warning" and line.startswith("G1: interface wan down, and no other router is better")


def test_a_service_has_an_entry_too() -> None:
    bench = Bench()
    bench.telling.service("nginx", "FAILED", "exit status 1")
    [found] = bench.history.entries(0)
    assert (found["kind"], found["name"], found["why"]) == ("service", "nginx", "exit status 1")
    assert bench.calls == [("file", None), ("ubus", "FAILED")] and not bench.lines
