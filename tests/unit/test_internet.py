# SPDX-License-Identifier: GPL-2.0-or-later
"""A way out and its targets: the table row by row, and two routers whose provider has failed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.internet import TRANSITIONS, Cue, Internet, State
from tandem.core.timers import SECOND

IDLE, SETTLING, UP, DOWN, REMEMBERED = State
SETTLE, MEMORY = 10 * SECOND, 300 * SECOND


def made(every: bool = False) -> Internet:
    return Internet(("a", "b"), every, SETTLE, MEMORY)


def in_state(state: State) -> Internet:
    one = made()
    if state is not IDLE:
        one.begin(0)
    if state is not IDLE and state is not SETTLING:
        one.target("a", True, 0)
    if state in (DOWN, REMEMBERED):
        one.target("a", False, 0)
        one.target("b", False, 0)
    if state is REMEMBERED:
        one.end(0)
    assert one.state is state
    return one


def bad(one: Internet, now: int = 0) -> None:
    one.target("a", False, now)
    one.target("b", False, now)


def bad_until_the_end(one: Internet) -> None:
    bad(one)
    one.due(MEMORY)


EVENTS = {
    Cue.BEGIN: lambda one: one.begin(0),
    Cue.END: lambda one: one.end(0),
    Cue.GOOD: lambda one: one.target("b", True, 0),
    Cue.BAD: bad,
    Cue.TIMEOUT: lambda one: one.due(MEMORY),
    Cue.TIMEOUT_BAD: bad_until_the_end,
}
ROWS = {
    (IDLE, Cue.BEGIN): SETTLING,
    (SETTLING, Cue.GOOD): UP, (SETTLING, Cue.TIMEOUT): UP, (SETTLING, Cue.TIMEOUT_BAD): DOWN,
    (SETTLING, Cue.END): IDLE,
    (UP, Cue.BAD): DOWN, (UP, Cue.TIMEOUT_BAD): DOWN, (UP, Cue.END): IDLE,
    (DOWN, Cue.GOOD): UP, (DOWN, Cue.END): REMEMBERED,
    (REMEMBERED, Cue.BEGIN): DOWN, (REMEMBERED, Cue.TIMEOUT): IDLE, (REMEMBERED, Cue.TIMEOUT_BAD): IDLE,
}  # fmt: skip


@pytest.mark.parametrize(("state", "cue"), list(product(State, Cue)))
def test_every_event_in_every_state(state: State, cue: Cue) -> None:
    one = in_state(state)
    EVENTS[cue](one)
    assert one.state is ROWS.get((state, cue), state)
    assert one.up is (one.state not in (DOWN, REMEMBERED))
    assert (one.next_deadline() is not None) is (one.state in (SETTLING, REMEMBERED))


def test_the_table_has_these_rows_and_no_others() -> None:
    direct = {key: state for key, state in ROWS.items() if key != (UP, Cue.TIMEOUT_BAD)}  # BAD comes first
    assert direct == TRANSITIONS


@pytest.mark.parametrize(("every", "one_is_enough"), [(False, True), (True, False)])
def test_any_of_them_or_all(every: bool, one_is_enough: bool) -> None:
    one = made(every)
    one.begin(0)
    one.target("a", True, 0)
    one.target("b", True, 0)
    one.target("a", False, 1)
    assert one.up is one_is_enough and one.missed == ("a",)
    one.target("unknown", False, 1)
    assert one.missed == ("a",)


def test_a_way_out_that_comes_up_slowly_is_not_down() -> None:
    one = made()
    one.begin(0)
    bad(one)
    one.due(SETTLE - 1)
    assert one.up
    one.due(SETTLE)
    assert not one.up


def test_two_routers_whose_provider_has_failed_do_not_hand_the_role_to_and_fro() -> None:
    routers, now, active, moves = [made(), made()], 0, 0, 0
    routers[0].begin(0)
    for _ in range(1000):
        now += SECOND
        bad(routers[active], now)
        for one in routers:
            one.due(now)
        if not routers[active].up and routers[1 - active].up:
            routers[active].end(now)
            active, moves = 1 - active, moves + 1
            routers[active].begin(now)
    assert moves <= 2 + 1000 * SECOND // MEMORY


@given(st.lists(st.sampled_from([*EVENTS.values()]), max_size=30))
def test_a_state_that_waits_has_a_deadline(events: list[object]) -> None:
    one = made()
    for event in events:
        event(one)  # type: ignore[operator]
        assert (one.next_deadline() is not None) is (one.state in (SETTLING, REMEMBERED))
