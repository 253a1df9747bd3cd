# SPDX-License-Identifier: GPL-2.0-or-later
"""The exchange of connections by two active routers: when tables are merged, and which groups are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.limits import EXCHANGE_LIMIT
from tandem.core.timers import SECOND
from tandem.replication.reunion import (
    ALL_HELD,
    BEGIN,
    HANDED_OVER,
    LOOK,
    MERGE,
    MERGE_LAST,
    OVERDUE,
    PAUSE,
    SEEK,
    STOP,
    STREAM_ENDED,
    TABLE,
    TELL_ALL,
    Exchange,
    State,
)

CLOSED, LOOKING, OPEN = State
AT = 100 * SECOND
LAST = (CLOSED, (MERGE_LAST,))

ROWS: dict[str, tuple[tuple[State, tuple[str, ...]], ...]] = {  # in CLOSED, LOOKING and OPEN
    BEGIN: ((LOOKING, (SEEK,)), (LOOKING, (SEEK,)), (LOOKING, (SEEK,))),
    ALL_HELD: ((CLOSED, ()), (OPEN, (MERGE,)), (OPEN, ())),
    STREAM_ENDED: (LAST, LAST, LAST),
    HANDED_OVER: ((CLOSED, ()), LAST, LAST),
    OVERDUE: ((CLOSED, ()), LAST, LAST),
    STOP: ((CLOSED, ()), (CLOSED, ()), (CLOSED, ())),
}


def brought(state: State) -> Exchange:
    """An exchange in this state since AT."""
    exchange = Exchange()
    if state is not CLOSED:
        assert exchange.begin("G", AT) == (SEEK,)
    if state is OPEN:
        assert exchange.handle(ALL_HELD, AT) == (MERGE,)
    assert exchange.state is state
    return exchange


def test_the_table_has_a_row_for_everything() -> None:
    assert set(TABLE) == {(state, event) for event in ROWS for state in State}


@pytest.mark.parametrize(("state", "event"), TABLE)
def test_each_row(state: State, event: str) -> None:
    exchange = brought(state)
    actions = exchange.handle(event, AT + 5)
    assert (exchange.state, actions) == ROWS[event][list(State).index(state)]
    assert (exchange.deadline is None) == (exchange.state is CLOSED)


def test_it_looks_until_all_is_held() -> None:
    exchange = Exchange()
    exchange.begin("G", AT)
    assert exchange.deadline == AT + LOOK
    assert exchange.due(True, AT + LOOK - 1) == ()
    assert exchange.due(False, AT + LOOK) == () and exchange.deadline == AT + 2 * LOOK
    assert exchange.due(True, AT + 2 * LOOK) == (MERGE,)
    assert exchange.deadline == AT + 2 * LOOK + EXCHANGE_LIMIT
    exchange.begin("H", AT + SECOND)
    exchange.begin("G", AT + SECOND)
    assert exchange.deadline == AT + SECOND + LOOK
    assert exchange.merged(last=False, now=AT + SECOND) == ["G", "H"]
    assert exchange.merged(last=False, now=AT + SECOND) == []


@pytest.mark.parametrize("state", [LOOKING, OPEN])
def test_the_wait_is_bounded(state: State) -> None:
    """A peer may never say that it has ended its stream, and another may never come."""
    exchange = brought(state)
    now = AT
    while now < AT + EXCHANGE_LIMIT:
        assert exchange.due(False, now) == ()
        assert exchange.deadline is not None and exchange.deadline > now, "a busy loop"
        now = exchange.deadline
    assert exchange.due(False, now) == (MERGE_LAST,)
    assert now == AT + EXCHANGE_LIMIT and exchange.deadline is None


def test_all_groups_are_told_at_the_end_but_not_too_often() -> None:
    exchange = brought(OPEN)
    exchange.handle(STREAM_ENDED, AT)
    assert exchange.merged(last=True, now=AT) == [] and exchange.deadline == AT
    assert exchange.due(False, AT) == (TELL_ALL,) and exchange.deadline is None
    exchange.handle(STREAM_ENDED, AT + 5)
    assert exchange.merged(last=True, now=AT + 5) == [] and exchange.deadline == AT + PAUSE
    assert exchange.due(False, AT + PAUSE - 1) == () and exchange.due(False, AT + PAUSE) == (TELL_ALL,)


def test_a_role_that_ends_ends_all_waits() -> None:
    exchange = brought(OPEN)
    exchange.handle(STREAM_ENDED, AT)
    exchange.merged(last=True, now=AT)
    exchange.begin("G", AT)
    assert exchange.handle(STOP, AT) == () and exchange.deadline is None
    assert exchange.merged(last=False, now=AT) == []


STEPS = st.tuples(st.integers(0, 9 * SECOND), st.sampled_from([*ROWS, "look", "look held"]))


@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_a_group_that_waits_is_told(orders: list[tuple[int, str]]) -> None:
    """Merging takes no time here."""
    exchange, now, waits = Exchange(), AT, False

    def obey(actions: tuple[str, ...]) -> None:
        nonlocal waits
        for action in actions:
            if action in (MERGE, MERGE_LAST):
                waits &= not exchange.merged(action == MERGE_LAST, now)
            waits &= action != TELL_ALL

    for later, what in orders:
        while exchange.deadline is not None and exchange.deadline <= now + later:
            later -= exchange.deadline - now
            now = exchange.deadline
            obey(exchange.due(False, now))
        now += later
        if what == BEGIN:
            waits = True
            obey(exchange.begin("G", now))
        elif what in ROWS:
            obey(exchange.handle(what, now))
            waits &= what != STOP
        else:
            obey(exchange.due(what == "look held", now))
    until = now + EXCHANGE_LIMIT + PAUSE
    while exchange.deadline is not None and exchange.deadline <= until:
        now = exchange.deadline
        obey(exchange.due(False, now))
    assert not waits and exchange.deadline is None
