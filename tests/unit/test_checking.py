# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking: the targets of a way out are tried where the role is, and a group hears whether it works."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tandem.checking import Checking
from tandem.config.load import load_text
from tandem.core.timers import SECOND
from tandem.health import prober_link
from tests.unit.test_config_internet import TEXT

FOLLOWED = TEXT.replace("\tlist track_internet", "\tlist follow 'wan'\n\tlist track_internet")


class World:
    """The loop, the prober and the groups of one router."""

    def __init__(self) -> None:
        self.time = 0
        self.timers: dict[Any, Any] = {}
        self.wanted: dict[Any, Any] = {}
        self.told: list[tuple[str, str, bool, str]] = []
        self.groups = {"lan": SimpleNamespace(state="BACKUP")}
        self.links = SimpleNamespace(device=lambda name: {"wan": "wan0"}.get(name, name))

    def now(self) -> int:
        return self.time

    def call_at(self, key: Any, when: int | None, callback: Any = None) -> None:
        self.timers.pop(key, None)
        if when is not None:
            self.timers[key] = when, callback

    def run(self, seconds: int) -> None:
        self.time += seconds * SECOND
        for key, (when, callback) in list(self.timers.items()):
            if when <= self.time:
                del self.timers[key]
                callback(self.time)

    def tracker_changed(self, *event: Any) -> None:
        if not self.told or self.told[-1] != event:
            self.told.append(event)

    def want(self, checks: Any) -> None:
        self.wanted = checks

    def __getattr__(self, _name: str) -> Any:  # the log
        return lambda *_words: None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(prober_link, "ProberLink", lambda *_parts: made)
    return made


def checking(world: World, text: str) -> Checking:
    anything: Any = world
    made = Checking(anything, anything, anything, lambda *_words: None, lambda *_words: None, set)
    plan: Any = SimpleNamespace(config=load_text(text, "f").config)
    made.follow(plan)
    return made


KEYS = [("internet uplink", "a"), ("internet uplink", "b")]


def test_a_followed_network_is_judged_on_the_active_router_only(world: World) -> None:
    groups, world.groups = world.groups, {}  # the daemon makes its parts before the groups start
    found = checking(world, FOLLOWED)
    world.groups = groups
    assert not world.wanted and world.told == [("internet", "uplink", True, "")]
    world.groups["lan"].state = "MASTER"
    found.roles()
    assert [*world.wanted] == KEYS
    assert {check.interface for check, _ in world.wanted.values()} == {"wan0"}
    found._changed(KEYS[0], False, "no answer")
    world.run(20)
    assert world.told[-1][2], "one target is enough"
    found._changed(KEYS[1], False, "no answer")
    assert world.told[-1] == ("internet", "uplink", False, "a and b not reached")
    world.groups["lan"].state = "BACKUP"
    found.roles()
    assert not world.wanted and not world.told[-1][2], "it remembers"
    world.run(300)
    assert world.told[-1][2]


def test_a_line_of_ones_own_is_judged_always(world: World) -> None:
    found = checking(world, TEXT)
    assert [*world.wanted] == KEYS
    found._changed(KEYS[0], True, "answered")
    assert world.timers == {} and world.told[-1][2]


def test_a_reload_begins_a_changed_one_anew(world: World) -> None:
    found = checking(world, TEXT)
    for text, anew in (
        (TEXT, False),
        (TEXT.replace("list check 'a b'", "list check 'a'"), True),
        (FOLLOWED, True),
    ):
        before = found._internets["uplink"]
        plan: Any = SimpleNamespace(config=load_text(text, "f").config)
        found.follow(plan)
        assert (found._internets["uplink"] is not before) is anew
    plan = SimpleNamespace(config=load_text(TEXT.partition("\tlist track_internet")[0], "f").config)
    found.follow(plan)
    assert not found._internets and not world.timers and not world.wanted
    found._changed(KEYS[0], False, "late")
