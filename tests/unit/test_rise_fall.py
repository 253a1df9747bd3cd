# SPDX-License-Identifier: GPL-2.0-or-later
"""Rise and fall: every row of the table, and what counters make of results."""

from __future__ import annotations

import pytest

from tandem.core.rise_fall import TRANSITIONS, Level, RiseFall, Seen

UNKNOWN, UP, FALLING, DOWN, RISING = Level


def states(counter: RiseFall, results: str) -> str:
    """The state after each result: results are + and -, states u(p), d(own)."""
    return "".join("u" if (counter.result(result == "+"), counter.up)[1] else "d" for result in results)


@pytest.mark.parametrize(
    ("rise", "fall", "up", "results", "expected"),
    [
        (1, 1, None, "+-+", "udu"),
        (3, 3, None, "+--+--" + "-" + "++-+++", "uuuuuu" + "d" + "dddddu"),  # the first result decides alone
        (3, 3, None, "-++-+++", "ddddddu"),
        (2, 1, False, "+-++-", "dddud"),  # init_fail: `rise` successes from the start
        (1, 2, True, "-+--", "uuud"),
    ],
)
def test_rise_and_fall(rise: int, fall: int, up: bool | None, results: str, expected: str) -> None:
    assert states(RiseFall(rise, fall, up), results) == expected


def test_only_changes_are_reported() -> None:
    counter = RiseFall(2, 2)
    assert [counter.result(ok) for ok in (True, True, False, False, False, True, True, True)] == [
        True, False, False, True, False, False, True, False,
    ]  # fmt: skip
    assert RiseFall(1, 1, False).result(False) is False


ROWS = [
    (UNKNOWN, None, 9, 9, "+", Seen.RISEN),
    (UNKNOWN, None, 9, 9, "-", Seen.FALLEN),
    (UP, True, 2, 2, "-", Seen.BAD),
    (UP, True, 2, 1, "-", Seen.FALLEN),
    (FALLING, True, 2, 2, "-+", Seen.GOOD),
    (FALLING, True, 2, 2, "--", Seen.FALLEN),
    (DOWN, False, 2, 2, "+", Seen.GOOD),
    (DOWN, False, 1, 2, "+", Seen.RISEN),
    (RISING, False, 2, 2, "+-", Seen.BAD),
    (RISING, False, 2, 2, "++", Seen.RISEN),
]


@pytest.mark.parametrize(("before", "up", "rise", "fall", "results", "row"), ROWS)
def test_every_row(before: Level, up: bool | None, rise: int, fall: int, results: str, row: Seen) -> None:
    counter = RiseFall(rise, fall, up)
    states(counter, results[:-1])
    assert counter.level is before
    states(counter, results[-1:])
    assert counter.level is TRANSITIONS[before, row]


def test_no_row_is_left_out() -> None:
    assert {(row[0], row[5]) for row in ROWS} == set(TRANSITIONS)
