# SPDX-License-Identifier: GPL-2.0-or-later
"""The heartbeats of a neighbour: what is heard, what is silent, and when the neighbour is dead."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from tandem.core import heartbeats as h
from tandem.core.heartbeats import LIVES, Beats, Life, Pace
from tandem.core.timers import MILLISECOND, SECOND

UNHEARD, ALIVE, DEAD = Life
INTERVAL = 50 * MILLISECOND
LIMIT = 3 * INTERVAL

LEADS: dict[str, tuple[tuple[Life, str], ...]] = {  # in UNHEARD, ALIVE and DEAD: the state, and the action
    h.HEARD: ((ALIVE, h.BEGINS), (ALIVE, ""), (ALIVE, h.BEGINS)),
    h.SILENT: ((UNHEARD, ""), (DEAD, h.DIES), (DEAD, "")),
    h.GOODBYE: ((UNHEARD, ""), (UNHEARD, h.ENDS), (UNHEARD, h.ENDS)),
}


def test_the_table_has_a_row_for_everything() -> None:
    assert set(LIVES) == set(product(Life, LEADS))


@pytest.mark.parametrize(("life", "event"), LIVES)
def test_each_row(life: Life, event: str) -> None:
    beats = Beats(3)
    if life is not UNHEARD:
        beats.heard("lan", 1, INTERVAL, 0, 0)
    now = SECOND if life is DEAD else INTERVAL
    beats.due(now)
    assert beats.life is life
    if event == h.HEARD:
        actions = beats.heard("lan", 2, INTERVAL, 0, now) or ()
    else:
        actions = beats.due(2 * SECOND) if event == h.SILENT else beats.goodbye()
    after, action = LEADS[event][list(Life).index(life)]
    assert (beats.life, actions) == (after, (action,) * bool(action))


def test_dead_when_every_path_is_silent() -> None:
    beats = Beats(3)
    beats.heard("lan", 1, INTERVAL, 0, 0)
    beats.heard("wan", 1, INTERVAL, 0, 1)
    beats.heard("wan", 2, INTERVAL, 0, INTERVAL)
    assert beats.deadline == INTERVAL + LIMIT
    assert beats.due(LIMIT) == ()
    assert (beats.life, beats.last_failure) == (ALIVE, ("lan", LIMIT))
    assert beats.due(INTERVAL + LIMIT) == (h.DIES,)
    assert beats.last_failure == ("wan", INTERVAL + LIMIT)
    assert beats.deadline is None


def test_dead_when_the_path_by_which_it_was_heard_is_used_no_more() -> None:
    """Another path takes its place, and the neighbour dies before it is heard there: it never died."""
    beats = Beats(3)
    beats.heard("192.168.1.3", 1, INTERVAL, 0, 5)
    beats.due(6)
    beats.lose("192.168.1.3")
    assert beats.due(5 + LIMIT - 1) == () and beats.deadline == 5 + LIMIT
    assert beats.due(5 + LIMIT) == (h.DIES,) and beats.silent == 5 + LIMIT
    assert beats.deadline is None and beats.due(SECOND) == ()


def test_a_path_that_is_used_no_more_ends_no_other() -> None:
    beats = Beats(3)
    beats.heard("lan", 1, INTERVAL, 0, 0)
    beats.heard("wan", 2, INTERVAL, 0, INTERVAL)
    beats.lose("lan")
    assert beats.due(LIMIT) == () and beats.deadline == INTERVAL + LIMIT
    beats.heard("wan", 3, INTERVAL, 0, LIMIT)
    assert beats.due(INTERVAL + LIMIT) == () and beats.life is ALIVE
    beats.lose("lan")
    beats.lose("wan")
    assert beats.goodbye() == (h.ENDS,)
    assert beats.due(SECOND) == () and beats.deadline is None


def test_what_was_sent_before_the_death_does_not_revive_the_neighbour_by_another_path() -> None:
    beats = Beats(3)
    beats.heard("lan", 5, INTERVAL, 0, 0)
    beats.due(LIMIT)
    assert beats.heard("wan", 5, INTERVAL, 0, LIMIT) is None
    assert beats.heard("wan", 6, INTERVAL, 0, LIMIT) == (h.BEGINS,)


def test_a_heartbeat_counts_once_on_each_path() -> None:
    beats = Beats(3)
    assert beats.heard("lan", 5, INTERVAL, 0, 0) == (h.BEGINS,)
    assert beats.heard("wan", 5, INTERVAL, 0, 0) == ()
    assert beats.heard("lan", 5, INTERVAL, 0, 7) is None
    assert beats.heard("lan", 4, INTERVAL, 0, 7) is None
    assert (beats.refused, beats.paths["lan"].heard) == (2, 0)
    assert beats.heard("lan", 8, INTERVAL, 0, 7) == ()
    assert (beats.paths["lan"].lost, beats.newest) == (2, 8)


def test_a_goodbye_that_comes_first_refuses_nothing() -> None:
    """The neighbour said goodbye to somebody else, or before it had sent anything."""
    beats = Beats(3)
    assert beats.goodbye() == ()
    assert beats.heard("lan", 1, INTERVAL, 0, 0) == (h.BEGINS,)
    beats.heard("lan", 2, INTERVAL, 0, 1)
    assert (beats.paths["lan"].received, beats.newest) == (2, 2)


def test_a_repetition_does_not_revive_the_dead() -> None:
    beats = Beats(3)
    beats.heard("lan", 5, INTERVAL, 0, 0)
    beats.due(LIMIT)
    assert beats.heard("lan", 5, INTERVAL, 0, LIMIT) is None
    assert beats.life is DEAD


def test_nothing_that_was_sent_before_a_goodbye_revives_the_neighbour() -> None:
    """The goodbye comes by every path, and a heartbeat may be on its way by a slower one."""
    beats = Beats(3)
    beats.heard("lan", 4, INTERVAL, 0, 0)
    beats.heard("wan", 3, INTERVAL, 0, 0)
    beats.heard("lan", 5, INTERVAL, 0, 0)
    assert beats.goodbye() == (h.ENDS,)
    for number, path in ((4, "wan"), (5, "wan"), (5, "cable")):
        assert beats.heard(path, number, INTERVAL, 0, 0) is None
    assert beats.refused == 3
    assert beats.due(SECOND) == () and beats.deadline is None
    assert beats.heard("wan", 6, INTERVAL, 0, 0) == (h.BEGINS,)


def test_the_neighbours_own_lateness_is_allowed_for() -> None:
    beats = Beats(3)
    beats.heard("lan", 1, INTERVAL, 40 * MILLISECOND, 0)
    assert beats.deadline == LIMIT + 40 * MILLISECOND
    beats.heard("lan", 2, INTERVAL, 60 * SECOND, 0)
    assert beats.deadline == LIMIT + h.LATENESS_MAX


def test_a_router_that_was_late_itself_gives_one_more_interval() -> None:
    beats = Beats(3)
    beats.heard("lan", 1, INTERVAL, 0, 0)
    now = LIMIT + 5 * MILLISECOND
    beats.spare(now + INTERVAL)
    assert beats.due(now) == ()
    assert beats.deadline == now + INTERVAL
    assert beats.due(now + INTERVAL) == (h.DIES,)


def test_after_a_router_has_stood_still_a_silence_counts_later() -> None:
    beats, woke = Beats(3), SECOND
    assert not beats.overslept(0, woke), "nobody was heard"
    beats.heard("lan", 1, INTERVAL, 0, 0)
    assert not beats.overslept(woke - LIMIT, woke)
    assert beats.overslept(woke - LIMIT - 1, woke)
    beats.heard("lan", 2, INTERVAL, 0, woke)
    assert beats.due(woke + LIMIT) == ()
    until = woke + LIMIT + h.DOUBT
    assert beats.due(until - 1) == () and beats.deadline == until
    assert beats.due(until) == (h.DIES,) and beats.silent == woke + LIMIT


def test_the_doubts_do_not_grow_with_the_neighbours_lateness() -> None:
    """Both have stood still, and then the active one dies: there was no gateway for 11.5 s."""
    beats, woke = Beats(3), SECOND
    beats.heard("lan", 1, INTERVAL, h.LATENESS_MAX, 0)
    assert beats.overslept(woke - 2 * SECOND, woke)
    beats.heard("lan", 2, INTERVAL, h.LATENESS_MAX, woke)
    beats.due(woke)
    assert beats.deadline is not None and beats.deadline < woke + 3 * SECOND


@pytest.mark.parametrize("asleep", [False, True])
def test_a_router_that_is_always_late_finds_the_death_all_the_same(asleep: bool) -> None:
    beats = Beats(3)
    beats.heard("lan", 1, INTERVAL, 0, 0)
    now = 0
    while beats.life is ALIVE:
        now += 2 * INTERVAL
        beats.spare(now + INTERVAL)
        assert not asleep or beats.overslept(now - 2 * LIMIT, now)
        beats.due(now)
        assert now < 2 * INTERVAL + (LIMIT + h.DOUBT if asleep else 2 * LIMIT)


@pytest.mark.parametrize("phase", [1, INTERVAL // 8, INTERVAL // 2, INTERVAL * 7 // 8])
def test_one_router_beats_and_the_other_answers(phase: int) -> None:
    """Whatever their phases: in each interval only one of the two is woken by its own timer."""
    under_way = MILLISECOND // 5
    paces = [Pace(INTERVAL, 0), Pace(INTERVAL, phase)]
    woken: list[int] = []
    sent: list[list[int]] = [[], []]
    while len(woken) < 100:
        first = min((0, 1), key=lambda number: paces[number].due)
        other, now = 1 - first, paces[first].due
        paces[first].beat(now)
        sent[first].append(now)
        woken.append(first)
        while paces[other].answers(now + under_way) and (now := now + under_way):
            paces[other].beat(now, answer=True)
            sent[other].append(now)
            first, other = other, first
    assert len(set(woken[10:])) == 1
    for times in sent:
        assert all(INTERVAL // 4 <= b - a <= INTERVAL * 9 // 8 for a, b in pairwise(times))
    assert abs(len(sent[0]) - len(sent[1])) <= 2


def test_a_peer_that_is_silent_or_fast_changes_no_pace() -> None:
    pace = Pace(INTERVAL, 0)
    pace.beat(0)
    pace.beat(INTERVAL - 1, answer=True)
    assert pace.due == INTERVAL - 1 + INTERVAL * 17 // 16  # its own timer, when no other heartbeat comes
    fast = [
        now
        for now in range(0, 20 * INTERVAL, INTERVAL // 50)
        if pace.answers(now) and not pace.beat(now, True)
    ]
    assert len(fast) < 20 * 3.5


def test_a_heartbeat_that_is_due_within_three_quarters_of_an_interval_is_sent_as_an_answer() -> None:
    """See docs/protocol.md. Otherwise one that follows waits for the next one of the router that leads."""
    pace = Pace(INTERVAL, 0)
    pace.beat(0)
    assert not pace.answers(INTERVAL // 4) and pace.answers(INTERVAL // 4 + 1)
    pace.lead(False, follows=True)
    for now, due in ((INTERVAL // 8, INTERVAL * 19 // 16), (INTERVAL // 4, INTERVAL * 21 // 16)):
        assert not pace.answers(now) and pace.due == due
    assert not pace.answers(INTERVAL // 2) and pace.due == INTERVAL * 21 // 16, "no later than that"


def test_the_pace_stays_in_phase_and_knows_its_lateness() -> None:
    pace = Pace(INTERVAL, 0)
    assert pace.beat(0) is None
    assert pace.due == INTERVAL
    pace.beat(INTERVAL + 9 * MILLISECOND)
    assert (pace.due, pace.late) == (2 * INTERVAL, 9 * MILLISECOND)
    pace.beat(9 * INTERVAL + 1)  # what was missed is not made up for
    assert pace.due == 10 * INTERVAL + 1
    assert pace.late == 7 * INTERVAL + 1
    now = pace.due
    for _ in range(3):
        now += Pace.PERIOD
        pace.due = now
        pace.beat(now)
    assert pace.late == 0, "what is long ago does not count"


def test_two_slow_routers_are_not_dead_to_each_other_while_they_start() -> None:
    """Their loops have had turns of 200 ms. They stand still for longer before they know their lateness."""
    pace, beats = Pace(INTERVAL, 0), Beats(3)
    pace.begin(SECOND, 200 * MILLISECOND)
    now, number = pace.due, 0
    for number, stall in enumerate((0, 700 * MILLISECOND, 30 * MILLISECOND, 790 * MILLISECOND), 1):
        now = pace.due + stall
        assert beats.due(now - 1) == ()
        pace.beat(now)
        beats.heard("lan", number, INTERVAL, pace.told, now)
    while now < 2 * SECOND + 2 * Pace.PERIOD + Pace.FIRST_PERIOD:
        now = pace.due + MILLISECOND
        pace.beat(now)
        number += 1
        beats.heard("lan", number, INTERVAL, pace.told, now)
        if now > 2 * SECOND + Pace.FIRST_PERIOD:
            assert pace.told == pace.late, "then it tells what it has measured"
    assert (pace.late, beats.limit) == (MILLISECOND, LIMIT + MILLISECOND)


@pytest.mark.parametrize(("longest", "told"), [(5 * MILLISECOND, 20 * MILLISECOND), (SECOND, h.LATENESS_MAX)])
def test_a_quick_router_that_dies_while_it_is_young_is_missed_soon(longest: int, told: int) -> None:
    pace = Pace(INTERVAL, 0)
    pace.begin(0, longest)
    pace.beat(0)
    assert pace.told == told


def test_a_router_whom_a_quota_stops_for_the_first_time_is_not_dead() -> None:
    """A quota of 5 ms in 100 ms stopped it for 95 ms, when it had never been late before."""
    pause = 95 * MILLISECOND
    pace, beats = Pace(INTERVAL, 0), Beats(3)
    pace.begin(0, 5 * MILLISECOND)
    pace.allow(pause)
    now, number = 0, 0
    while now < Pace.FIRST_PERIOD + 3 * Pace.PERIOD:
        now, number = pace.due, number + 1
        pace.beat(now)
        beats.heard("lan", number, INTERVAL, pace.told, now)
    assert (pace.late, pace.told) == (pause, pause), "also after periods without any lateness"
    pace.allow(pause - 1)
    assert pace.told == pause
    assert beats.due(now + 2 * INTERVAL + pause) == (), "two heartbeats were lost, and the third one is late"
    assert beats.due(now + LIMIT + pause) != ()
    pace.allow(3 * pause)  # work that took three periods
    beats.heard("lan", number + 1, INTERVAL, pace.told, now)
    assert beats.limit == LIMIT + 3 * pause
    pace.allow(10 * h.LATENESS_MAX)
    assert (pace.late, pace.told) == (h.LATENESS_MAX, h.LATENESS_MAX)


@pytest.mark.parametrize("phase", [1, INTERVAL // 8, INTERVAL // 3, INTERVAL * 7 // 8])
def test_a_router_that_leads_wakes_once_an_interval_and_so_does_the_one_that_answers(phase: int) -> None:
    """The leader goes with its adverts, of every second interval; the other one only answers."""
    under_way, end = MILLISECOND // 5, 20 * SECOND
    leader, other = Pace(INTERVAL, 0), Pace(INTERVAL, 0)
    leader.lead(True)
    other.lead(False, follows=True)
    wakes: list[tuple[int, bool, bool]] = []  # when, with an advert, by a timer of the other one
    sent: list[int] = []
    advert, now = phase, 0
    while now < end:
        now = min(advert, leader.due, other.due)
        early = leader.due - leader.slack <= now
        wakes.append((now, now == advert, now == other.due))
        if now == other.due:
            other.beat(now)
        if now == advert:
            advert += 2 * INTERVAL
        if early:
            leader.beat(now)
            sent.append(now)
            if other.answers(now + under_way):
                other.beat(now + under_way, answer=True)
    settled = [wake for wake in wakes if wake[0] > 3 * SECOND]
    assert not any(own for _, _, own in settled), "the other one is woken by what comes"
    assert abs(len(settled) - (end - 3 * SECOND) // INTERVAL) <= 4, "no wake for adverts or heartbeats alone"
    assert all(INTERVAL * 7 // 8 <= b - a <= INTERVAL * 17 // 16 for a, b in pairwise(sent))


def test_who_has_answered_too_early_answers_the_next_one() -> None:
    """Otherwise its own timer would wake it shortly before each heartbeat of the leader."""
    pace = Pace(INTERVAL, 0)
    pace.lead(False, follows=True)
    pace.beat(0)
    assert not pace.answers(INTERVAL // 8)
    assert pace.due > INTERVAL // 8 + INTERVAL
    assert pace.answers(INTERVAL // 8 + INTERVAL)
