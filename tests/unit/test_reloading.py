# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload: a good plan is taken, any other leaves the old one, and everyone who asked is answered once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tandem.plan.result import PlanError
from tandem.reloading import Reloading

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = (
    SimpleNamespace(name=name, config=SimpleNamespace(globals=SimpleNamespace(enabled=True)))
    for name in ("old", "new")
)
OFF = SimpleNamespace(name="off", config=SimpleNamespace(globals=SimpleNamespace(enabled=False)))
REFUSED = {"ok": False, "error": "the configuration is not usable: the old one stays"}
STOPPING = {"ok": False, "error": "tandemd is stopping"}
DONE = {"ok": True, "result": "reloaded"}


class Bench:
    """A reload with a planner whose outcome the test gives, and parts that fail when the test says so."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.taken: list[tuple[str, str]] = []  # plan, runners
        self.bugs: list[Exception] = []
        self.answers: list[dict[str, object]] = []
        self.planned: list[Callable[[Any], None]] = []
        self.user_is_gone = False
        self.failures: list[Exception] = []  # of the next times that a plan is carried out
        self.timers: dict[str, int] = {}
        self.reloading = Reloading(
            SimpleNamespace(now=lambda: 5, call_at=lambda key, when, _then: self.timers.update({key: when})),  # type: ignore[arg-type]
            SimpleNamespace(error=self.lines.append, info=self.lines.append),  # type: ignore[arg-type]
            "/etc/config/tandem",
            SimpleNamespace(again=self.planned.append),  # type: ignore[arg-type]
            SimpleNamespace(plan=OLD),  # type: ignore[arg-type]
            SimpleNamespace(prepare=self._prepare, runners="old's"),  # type: ignore[arg-type]
            self._go_over,
            self.bugs.append,
        )

    def _prepare(self, config: object) -> str:
        if self.user_is_gone:
            raise OSError("no user maria")
        assert config is NEW.config
        return "new's"

    def _go_over(self, plan: Any, runners: Any) -> None:
        self.taken.append((plan.name, runners))
        if self.failures:
            raise self.failures.pop()

    def ask(self) -> None:
        self.reloading.reload(self.answers.append)

    def outcome(self, outcome: Any) -> None:
        self.planned[-1](outcome)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_good_plan_is_taken(bench: Bench) -> None:
    bench.ask()
    bench.ask()
    assert not bench.answers
    bench.outcome(NEW)
    assert bench.taken == [("new", "new's")]
    assert bench.answers == [DONE, DONE]
    assert bench.lines == ["/etc/config/tandem reloaded"]
    assert bench.timers == {"memory": 3_000_000_005}


def test_everyone_is_answered_once(bench: Bench) -> None:
    bench.ask()
    bench.outcome(NEW)
    bench.reloading.reload()  # by SIGHUP: nobody waits
    bench.outcome(NEW)
    assert bench.answers == [DONE]
    assert len(bench.taken) == 2


def test_a_bad_configuration_changes_nothing(bench: Bench) -> None:
    bench.ask()
    bench.outcome(PlanError(("line 3: no such option", "line 7: no address")))
    assert not bench.taken
    assert bench.answers == [REFUSED | {"errors": ["line 3: no such option", "line 7: no address"]}]
    assert bench.lines[:2] == ["line 3: no such option", "line 7: no address"]


def test_a_service_that_is_switched_off_has_to_be_stopped(bench: Bench) -> None:
    bench.ask()
    bench.outcome(OFF)
    assert not bench.taken
    assert bench.answers == [
        REFUSED | {"errors": ["/etc/config/tandem: option enabled is 0: stop the service"]}
    ]


def test_a_user_who_has_gone_is_found_before_anything_changes(bench: Bench) -> None:
    bench.user_is_gone = True
    bench.ask()
    bench.outcome(NEW)
    assert not bench.taken
    assert bench.answers == [REFUSED | {"errors": ["no user maria"]}]


@pytest.mark.parametrize(("error", "is_bug"), [(OSError("no buffer space"), False), (KeyError("lan"), True)])
def test_half_a_reload_is_taken_back(bench: Bench, error: Exception, is_bug: bool) -> None:
    bench.failures = [error]
    bench.ask()
    bench.outcome(NEW)
    assert bench.taken == [("new", "new's"), ("old", "old's")]
    assert bench.answers == [REFUSED | {"errors": [f"reload failed: {error}"]}]
    assert bench.bugs == ([error] if is_bug else [])
    assert not bench.timers


def test_a_daemon_that_stops_takes_no_plan(bench: Bench) -> None:
    bench.ask()
    bench.reloading.stop()
    bench.ask()
    assert len(bench.planned) == 1  # no planner is started for the second
    assert bench.answers == [STOPPING, STOPPING]
    bench.outcome(NEW)
    assert not bench.taken
