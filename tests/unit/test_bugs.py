# SPDX-License-Identifier: GPL-2.0-or-later
"""An exception that nobody expected is told once, counted, and ends neither the loop nor the role."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tandem.bugs import LIMIT, PLACES_MAX, WITHIN, Bugs
from tandem.daemon import STOP_LIMIT
from tandem.effects.notify import TIMEOUT
from tandem.loop import Loop

MINUTE = 60 * 10**9


class Bench:
    """Bugs with a log, a clock, and a note of how often they gave up."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0
        self.given_up = 0
        self.bugs = Bugs(self.lines.append, lambda: self.now, self.give_up)

    def give_up(self) -> None:
        self.given_up += 1

    def fail(self, code: str = "1 / 0", file: str = "/usr/lib/tandem/router.py") -> None:
        try:
            exec(compile(code, file, "exec"))  # noqa: S102
        except Exception as error:  # noqa: BLE001
            self.bugs.caught(error)


def test_each_place_is_told_once_with_its_traceback_and_counted() -> None:
    bench = Bench()
    for _ in range(2):
        bench.fail()
    bench.fail("\n\nint('x')")
    assert [line for line in bench.lines if line.startswith("a bug")] == [
        "a bug, please report it: ZeroDivisionError: division by zero",
        "a bug, please report it: ValueError: invalid literal for int() with base 10: 'x'",
    ]
    assert '  File "/usr/lib/tandem/router.py", line 3, in <module>' in bench.lines
    assert bench.bugs.report == [
        "ZeroDivisionError: division by zero at router.py:1 (<module>), 2 times",
        "ValueError: invalid literal for int() with base 10: 'x' at router.py:3 (<module>)",
    ]
    assert bench.bugs.total == 3 and not bench.given_up


def test_three_within_a_minute_at_one_place_give_up_once() -> None:
    bench = Bench()
    for _ in range(LIMIT + 2):
        bench.fail()
    assert bench.given_up == 1
    assert sum("handing over" in line for line in bench.lines) == 1


def test_now_and_then_is_borne_for_ever() -> None:
    bench = Bench()
    for _ in range(50):
        bench.fail()
        bench.fail("\nint('x')")
        bench.now += WITHIN // (LIMIT - 1) + 1
    assert not bench.given_up


def test_places_are_bounded() -> None:
    bench = Bench()
    for line in range(10 * PLACES_MAX):
        bench.now += MINUTE
        bench.fail("\n" * line + "1 / 0")
    assert len(bench.bugs.report) == PLACES_MAX + 1 and bench.bugs.total == 10 * PLACES_MAX


def test_a_guard_lets_no_exception_out_but_an_exit() -> None:
    bench = Bench()
    with bench.bugs.guard():
        raise KeyError("x")
    assert bench.bugs.total == 1
    with pytest.raises(SystemExit), bench.bugs.guard():
        raise SystemExit


def fail(*_: Any) -> None:
    raise KeyError("a bug")


def test_the_loop_goes_on_and_a_failed_timer_comes_again() -> None:
    found: list[Exception] = []
    loop = Loop(found.append)
    called: list[str] = []
    loop.call_at("bad", loop.now(), fail)
    loop.call_at("good", loop.now() + 1, lambda _now: called.append("good"))
    while not called:
        loop.turn(limit=10**6)
    assert len(found) == 1
    loop.call_at("again", loop.now(), lambda _now: called.append("again"))
    while "again" not in called:
        loop.turn(limit=10**6)
    assert len(found) == 1, "not in every turn"
    assert loop._timers.keys() == {"bad"}
    loop.close()


def test_a_timer_that_has_set_itself_again_keeps_its_time() -> None:
    found: list[Exception] = []
    loop = Loop(found.append)

    def every_hour(now: int) -> None:
        loop.call_at("hour", now + 3600 * 10**9, every_hour)
        fail()

    loop.call_at("hour", loop.now(), every_hour)
    while not found:
        loop.turn(limit=10**6)
    assert loop._timers["hour"][0] > loop.now() + 3000 * 10**9
    loop.close()


def test_without_anybody_to_tell_an_exception_ends_the_loop() -> None:
    loop = Loop()
    loop.call_at("bad", loop.now(), fail)
    with pytest.raises(KeyError):
        loop.run()
    loop.close()


def test_the_scripts_of_the_stop_have_the_time_that_they_have_always() -> None:
    """The daemon gives it to them, and procd to the daemon."""
    init = (Path(__file__).parents[2] / "files/etc/init.d/tandem").read_text()
    found = re.search(r"term_timeout (\d+)", init)
    assert found and int(found[1]) * 10**9 > STOP_LIMIT > TIMEOUT == 60 * 10**9
