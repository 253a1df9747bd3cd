# SPDX-License-Identifier: GPL-2.0-or-later
"""The quorum: each row of its table, its arithmetic, and that a split never has two active routers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import Install, SendAdvert, Transition
from tandem.core.events import UNCOUNTED, Ballot, Tick, Vacancy, Vacated
from tandem.core.quorum import (
    ADVISORY,
    GRACE,
    MARGIN,
    REQUIRED,
    VOTES,
    Question,
    Quorum,
    Rules,
    Standing,
    Vote,
)
from tandem.core.state import Role
from tandem.core.timers import MILLISECOND, SECOND
from tests.unit.scenario import of
from tests.unit.test_sync_group_transitions import DOWN, LATER, group_of, resigned

YES, NO, VETO = Vote.YES, Vote.NO, Vote.VETO
NOW = 1000 * SECOND
PAIR = Rules(REQUIRED, ("r2",))
WITNESSED = replace(PAIR, witness="w")
THREE = replace(PAIR, peers=("r2", "r3"))
PROMISE = SECOND + GRACE + MARGIN

ROWS = {  # HOLD, TAKE, SUCCEED
    Standing.PASSIVE: (YES, YES, YES),
    Standing.DEAF: (NO, NO, NO),
    Standing.ACTIVE: (NO, VETO, YES),
    Standing.PROMISED: (NO, VETO, VETO),
    Standing.AWAY: (NO, NO, NO),
}


def test_the_table() -> None:
    assert {
        (standing, question): vote
        for standing, votes in ROWS.items()
        for question, vote in zip(Question, votes, strict=True)
    } == VOTES


def pair(standing: Standing, rules: Rules = PAIR) -> Quorum:
    """A quorum whose peer r2 stands so for the group G at NOW."""
    quorum = Quorum(rules)
    active = {"G": "MASTER"}
    match standing:
        case Standing.PASSIVE:
            quorum.peer("r2", (True, {"G": "BACKUP"}, SECOND, True), NOW)
        case Standing.DEAF:
            quorum.peer("r2", (True, {"G": "BACKUP"}, SECOND, False), NOW)
        case Standing.ACTIVE:
            quorum.peer("r2", (True, active, SECOND, True), NOW)
        case Standing.PROMISED:
            quorum.peer("r2", (True, active, SECOND, True), NOW - SECOND)
            quorum.peer("r2", (False, {}, SECOND, False), NOW - PROMISE + 1)
        case Standing.AWAY:
            quorum.peer("r2", (True, active, SECOND, True), NOW - 10 * SECOND)
            quorum.peer("r2", (False, {}, SECOND, False), NOW - PROMISE)
    return quorum


@pytest.mark.parametrize("leased", [False, True])
@pytest.mark.parametrize("standing", Standing)
def test_rows(standing: Standing, leased: bool) -> None:
    quorum = pair(standing, WITNESSED)
    if leased:
        quorum.leased("G", NOW + SECOND)
    expected = [vote is YES or (leased and vote is NO) for vote in ROWS[standing]]
    ballot = quorum.ballot("G", True, NOW)
    later = quorum.ballot("G", True, NOW + GRACE)
    assert [ballot.hold or not expected[0], ballot.take, ballot.succeed] == [True, *expected[1:]]
    assert later.hold is expected[0] or standing is Standing.PROMISED, "an active router has a while"
    assert quorum.ballot("other", False, NOW + 10 * SECOND).take is (
        standing in (Standing.PASSIVE, Standing.ACTIVE)
    )


@pytest.mark.parametrize(
    ("rules", "expected", "needed"),
    [
        (Rules(REQUIRED, ()), 1, 1),
        (Rules(REQUIRED, (), "w"), 2, 2),
        (PAIR, 2, 2),
        (replace(PAIR, two_node=True), 2, 1),
        (WITNESSED, 3, 2),
        (replace(WITNESSED, two_node=True), 3, 2),
        (THREE, 3, 2),
        (replace(THREE, witness="w"), 4, 3),
    ],
)
def test_the_arithmetic_is_that_of_votequorum(rules: Rules, expected: int, needed: int) -> None:
    assert (rules.expected, rules.needed) == (expected, needed)


def test_an_isolated_router_takes_nothing() -> None:
    ballot = Quorum(WITNESSED).ballot("G", False, NOW)
    assert ballot == Ballot(True, False, False, "1 of 3 votes, 2 are needed; missing: w, r2")
    assert Quorum(replace(WITNESSED, policy=ADVISORY)).ballot("G", False, NOW) == Ballot(
        True, True, True, ballot.why
    )


def test_two_of_three_routers_are_a_quorum() -> None:
    quorum = Quorum(THREE)
    quorum.peer("r2", (True, {"G": "BACKUP"}, SECOND, True), NOW)
    assert quorum.ballot("G", False, NOW).take
    quorum.peer("r2", (False, {}, SECOND, False), NOW)
    assert not quorum.ballot("G", False, NOW).take


def test_a_lease_ends() -> None:
    quorum = Quorum(WITNESSED)
    quorum.leased("G", NOW + SECOND)
    assert quorum.ballot("G", True, NOW).hold and quorum.next_deadline(NOW) == NOW + SECOND
    quorum.ballot("G", True, NOW + SECOND)
    assert not quorum.ballot("G", True, NOW + SECOND + GRACE).hold
    quorum.leased("G", NOW + 9 * SECOND)
    quorum.refused("G")
    assert not quorum.ballot("G", False, NOW).take


def test_a_promise_ends_although_the_peer_stays_away() -> None:
    """Each look says again that the peer is away."""
    quorum = pair(Standing.PROMISED, WITNESSED)
    quorum.leased("G", NOW + 9 * SECOND)
    for now, takes in ((NOW, False), (NOW + 1, True)):
        quorum.peer("r2", (False, {}, SECOND, False), now)
        assert quorum.ballot("G", False, now).take is takes


@pytest.mark.parametrize("policy", [REQUIRED, ADVISORY])
def test_a_time_that_is_over_is_no_deadline(policy: str) -> None:
    """The peer is gone with its promise, and a group goes on without its quorum."""
    quorum = pair(Standing.PROMISED, replace(WITNESSED, policy=policy))
    quorum.leased("G", NOW + 1)
    assert quorum.next_deadline(NOW - 1) == NOW + 1, "the promise and the lease"
    later = NOW + SECOND
    quorum.ballot("G", True, later)
    assert quorum.next_deadline(later) == later + GRACE
    assert quorum.next_deadline(later + GRACE) is None


def test_wait_for_all() -> None:
    quorum = Quorum(replace(WITNESSED, wait_for_all=True))
    quorum.leased("G", NOW + 100 * SECOND)
    assert quorum.ballot("G", False, NOW).why == "wait_for_all: r2 not seen since the start"
    quorum.peer("r2", (True, {}, SECOND, True), NOW)
    quorum.peer("r2", (False, {}, SECOND, False), NOW)
    assert quorum.ballot("G", False, NOW).take


def test_without_a_host_that_answers_there_is_no_quorum() -> None:
    quorum = pair(Standing.PASSIVE)
    quorum.hosts(False)
    assert quorum.ballot("G", False, NOW).why == "no witness host answers"
    quorum.hosts(True)
    assert quorum.ballot("G", False, NOW).take


def test_each_loss_of_the_quorum_has_its_own_grace() -> None:
    """Also that of a group that had its quorum again before it gave up."""
    quorum = pair(Standing.PASSIVE)
    for begin in (NOW, NOW + 10 * GRACE):
        assert quorum.ballot("G", True, begin).hold
        quorum.hosts(False)
        assert quorum.ballot("G", True, begin).hold
        assert quorum.next_deadline(begin) == begin + GRACE
        assert quorum.ballot("G", True, begin + GRACE - 1).hold
        quorum.hosts(True)
        assert quorum.ballot("G", True, begin + GRACE).hold
    quorum.hosts(False)
    assert quorum.ballot("G", True, begin + 2 * GRACE).hold
    assert not quorum.ballot("G", True, begin + 3 * GRACE).hold


# The group


def test_a_group_without_a_quorum_takes_no_role_until_it_has_one() -> None:
    group = group_of(Role.BACKUP)
    group.handle(Ballot(False, False, True, "why"), LATER)
    assert not group.claims
    due = group.next_deadline()
    while due is not None and due <= LATER + 2 * DOWN:
        group.handle(Tick(), due)
        before, due = due, group.next_deadline()
        assert due is None or due > before, "a busy loop"
    assert group.role is Role.BACKUP and group.claims
    group.handle(Ballot(True, True, True), LATER + 3 * DOWN)
    assert group.role is Role.ACTIVE


def test_a_resignation_needs_the_other_answer() -> None:
    group = group_of(Role.BACKUP)
    group.handle(UNCOUNTED, LATER)
    resigned(group)
    assert group.role is Role.BACKUP and group.claims
    group.handle(Ballot(True, False, True), LATER + 40 * MILLISECOND)
    assert group.role is Role.ACTIVE


@pytest.mark.parametrize(
    ("vacancy", "ballot", "follows"),
    [
        (Vacancy.DIED, Ballot(True, False, True), False),
        (Vacancy.DIED, Ballot(True, True, False), True),
        (Vacancy.LEFT, Ballot(True, True, False), False),
        (Vacancy.LEFT, Ballot(True, False, True), True),
        (Vacancy.UNLINKED, Ballot(True, True, False), False),
    ],
)
def test_heartbeats_need_a_quorum_as_well(vacancy: Vacancy, ballot: Ballot, follows: bool) -> None:
    group = group_of(Role.BACKUP)
    group.handle(ballot, LATER)
    group.handle(Vacated(vacancy), LATER)
    assert (group.role is Role.ACTIVE) is follows


def test_an_active_group_without_a_quorum_resigns() -> None:
    group = group_of(Role.ACTIVE)
    group.promotion.skip(group, LATER)
    actions = group.handle(Ballot(False, True, True, "why"), LATER)
    assert group.role is Role.BACKUP
    assert {one.priority for one in of(SendAdvert, actions)} == {0}
    assert {(one.why, one.seen) for one in of(Transition, actions)} == {("no quorum", "quorum")}
    assert not of(Install, actions)
