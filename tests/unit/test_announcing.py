# SPDX-License-Identifier: GPL-2.0-or-later
"""When an active router announces its addresses (core/announcing.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import Announce
from tandem.core.announcing import ANNOUNCE_AGAIN, Announcing
from tandem.core.settings import Garp
from tandem.core.timers import MILLISECOND, SECOND

T0 = 1000 * SECOND
QUIET = Garp(delay_ms=0, repeat=5, lower_prio_delay_ms=0, lower_prio_repeat=0)


def said(announcing: Announcing, garp: Garp, until: int) -> list[tuple[int, int]]:
    """When each burst comes, in ms since T0, and how many packets it has."""
    found = []
    while announcing.at is not None and announcing.at <= until:
        now = announcing.at
        for action in announcing.due(garp, now):
            assert isinstance(action, Announce) and action.instance == "I1"
            found.append(((now - T0) // MILLISECOND, action.repeat))
        assert announcing.at is None or announcing.at > now, "a deadline that has passed comes no more"
    return found


def test_after_the_takeover_again_and_after_the_delay() -> None:
    announcing = Announcing("I1")
    assert announcing.at is None
    announcing.begin(replace(QUIET, delay_ms=5000), T0)
    assert said(announcing, QUIET, T0 + 3600 * SECOND) == [(10, 1), (100, 1), (1000, 1), (5000, 5)]


def test_without_a_delay_nothing_follows() -> None:
    announcing = Announcing("I1")
    announcing.begin(QUIET, T0)
    assert announcing.at is None


def test_a_late_loop_says_once_what_it_has_missed() -> None:
    announcing = Announcing("I1")
    announcing.begin(replace(QUIET, delay_ms=5000), T0)
    assert announcing.due(QUIET, T0 + 2 * SECOND) == [Announce("I1", 1)]
    assert announcing.at == T0 + 5 * SECOND


def test_the_refresh_comes_again_and_again() -> None:
    often = replace(QUIET, refresh_ms=60_000, refresh_repeat=2)
    announcing = Announcing("I1")
    announcing.begin(often, T0)
    assert said(announcing, often, T0 + 130 * SECOND) == [(60_000, 2), (120_000, 2)]
    announcing.begin(QUIET, T0 + 130 * SECOND)  # by a reload
    assert announcing.at is None


def test_another_mac_address_is_announced_now_and_again() -> None:
    announcing = Announcing("I1")
    assert announcing.now_and_again(QUIET, T0) == [Announce("I1", 5)]
    expected = [(wait // MILLISECOND, 1) for wait in ANNOUNCE_AGAIN]
    assert said(announcing, QUIET, T0 + 3600 * SECOND) == expected


@pytest.mark.parametrize(
    ("delay_ms", "repeat", "first", "later"),
    [
        (5000, 3, [3], [(5000, 3)]),  # a burst at once, and one after the delay
        (200, 3, [3], [(1000, 3)]),  # at most one a second
        (0, 3, [3], []),
        (5000, 0, [], []),
    ],
)
def test_a_lesser_router_is_answered(
    delay_ms: int, repeat: int, first: list[int], later: list[tuple[int, int]]
) -> None:
    garp = replace(QUIET, lower_prio_delay_ms=delay_ms, lower_prio_repeat=repeat)
    announcing = Announcing("I1")
    assert announcing.answer(garp, False, T0) == [Announce("I1", count) for count in first]
    assert announcing.answer(garp, False, T0 + MILLISECOND) == []  # not every advert of a flood
    assert said(announcing, garp, T0 + 3600 * SECOND) == later


def test_a_contest_that_begins_is_always_answered() -> None:
    """With lower_prio_repeat 0, too, and within the second of an earlier answer."""
    announcing = Announcing("I1")
    assert announcing.answer(QUIET, True, T0) == [Announce("I1", 1)]
    assert announcing.answer(QUIET, False, T0 + 1) == []
    assert announcing.answer(QUIET, True, T0 + 2) == [Announce("I1", 1)]
    assert announcing.at == T0 + 2 + SECOND


def test_a_router_that_is_not_active_announces_nothing() -> None:
    announcing = Announcing("I1")
    announcing.begin(replace(QUIET, delay_ms=5000, refresh_ms=60_000), T0)
    announcing.answer(QUIET, True, T0)
    announcing.stop()
    assert announcing.at is None and announcing.due(QUIET, T0 + 3600 * SECOND) == []
