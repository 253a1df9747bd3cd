# SPDX-License-Identifier: GPL-2.0-or-later
"""Two active routers: the lesser one goes on until its connections are known to the better one."""

from __future__ import annotations

import pytest

from tandem.core.actions import Action, Announce, Beat, Contested, HandOver, Remove, Reunite, SendAdvert
from tandem.core.events import Failover, Partner, Restored, Reunited, Start, Synchronised, Taken, Tick
from tandem.core.limits import ANNOUNCE_LIMIT, MEETING_LIMIT, REUNION_LIMIT
from tandem.core.reload import sibling
from tandem.core.reunion import (
    ANNOUNCE,
    BETTER,
    CONTESTED,
    EARLIER,
    ENDED,
    EXCHANGE,
    GIVE_WAY,
    IN_STEP,
    LESSER,
    OVERDUE,
    REUNITED,
    TABLE,
    YIELD,
    Reunion,
    Stage,
)
from tandem.core.settings import Garp, Group
from tandem.core.standing import GIVES_WAY, standing_of
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import LOWER, heard, instance, of, ready, run

SECOND = 1_000_000_000
PATIENCE = 30 * SECOND
APART, TOGETHER, ALONE = Partner(True, False), Partner(True, True), Partner(False, False)
MET = Partner(False, False, fills=True)
TELLS = Garp(delay_ms=0, repeat=5, refresh_ms=0, lower_prio_repeat=3)
BETTER_ADVERT, LESSER_ADVERT = heard(200), heard(50, LOWER)


def active(
    partner: Partner = APART, patience: int = PATIENCE, restores: bool = True, preempt: bool = True
) -> SyncGroup:
    """A router alone in its group, ACTIVE since before 10 s, that has had a peer."""
    settings = instance(garp=TELLS, preempt=preempt)
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [settings], restores, patience)
    ready(group)
    group.handle(Start(), 0)
    while (due := group.next_deadline()) is not None and due < 10 * SECOND:
        group.handle(Tick(), due)
        group.handle(Restored(), due)
    assert group.role is Role.ACTIVE
    group.handle(partner, 10 * SECOND)
    return group


def test_the_lesser_one_goes_on_until_the_better_one_knows_its_connections() -> None:
    group = active()
    assert group.handle(BETTER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    assert group.handle(BETTER_ADVERT, 11 * SECOND) == []
    assert group.handle(Tick(), 11 * SECOND) == [SendAdvert("LAN", 100)]
    assert group.handle(TOGETHER, 12 * SECOND) == []
    yields = [Remove(("LAN",)), HandOver("LAN"), SendAdvert("LAN", 100)]
    assert group.handle(BETTER_ADVERT, 12 * SECOND)[:3] == yields
    assert group.role is Role.BACKUP


def test_meanwhile_it_offers_the_role_to_nobody() -> None:
    """The reunion decides when the role moves: an offer would tell the last of the connections too early."""
    group = active()
    group.handle(BETTER_ADVERT, 10 * SECOND)
    assert group.handle(Taken(False), 10 * SECOND) == []
    assert group.role is Role.ACTIVE and not group.offer.pending


def test_but_not_for_ever() -> None:
    group = active()
    group.handle(BETTER_ADVERT, 10 * SECOND)
    run(group, 10 * SECOND + REUNION_LIMIT - 1)
    assert group.handle(BETTER_ADVERT, 10 * SECOND + REUNION_LIMIT - 1) == []
    run(group, 10 * SECOND + REUNION_LIMIT)
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND + REUNION_LIMIT)


def test_that_another_one_knows_them_is_not_enough() -> None:
    group = active(Partner(True, False, in_step_with=frozenset([LOWER])))
    assert group.handle(BETTER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    group = active(Partner(True, False, in_step_with=frozenset([BETTER_ADVERT.source])))
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND)


@pytest.mark.parametrize(
    "group",
    [active(TOGETHER), active(patience=0), active(restores=False)],
    ids=["in step", "no patience", "no replication"],
)
def test_else_it_gives_way_at_once(group: SyncGroup) -> None:
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND)


def test_one_that_has_restarted_meanwhile_waits_for_a_session_first() -> None:
    """It knows no peer, and the better router may be a stranger."""
    group = active(ALONE)
    assert group.handle(BETTER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    run(group, 10 * SECOND + MEETING_LIMIT - 1)
    assert group.handle(BETTER_ADVERT, 10 * SECOND + MEETING_LIMIT - 1) == []
    run(group, 10 * SECOND + MEETING_LIMIT)
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND + MEETING_LIMIT)


@pytest.mark.parametrize("early", [True, False], ids=["a session before", "a session then"])
def test_and_then_as_long_as_others_for_its_connections(early: bool) -> None:
    group = active(MET if early else ALONE)
    assert group.handle(BETTER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    group.handle(MET, 10 * SECOND + MEETING_LIMIT - 1)
    run(group, 10 * SECOND + REUNION_LIMIT - 1)
    assert group.handle(BETTER_ADVERT, 10 * SECOND + REUNION_LIMIT - 1) == []
    group.handle(TOGETHER, 10 * SECOND + REUNION_LIMIT - 1)
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND + REUNION_LIMIT - 1)


def test_no_wait_is_longer_than_preemption_waits() -> None:
    group = active(ALONE, patience=SECOND // 2)
    group.handle(BETTER_ADVERT, 10 * SECOND)
    group.handle(MET, 10 * SECOND)
    run(group, 10 * SECOND + SECOND // 2)
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND + SECOND // 2)


def test_the_better_one_that_has_restarted_tells_hosts_when_it_knows_the_connections() -> None:
    group = active(ALONE)
    assert group.handle(LESSER_ADVERT, 10 * SECOND) == [Reunite("LAN"), SendAdvert("LAN", 100)]
    group.handle(MET, 10 * SECOND)
    run(group, 10 * SECOND + ANNOUNCE_LIMIT - 1)
    assert group.handle(Reunited(), 10 * SECOND + ANNOUNCE_LIMIT - 1)[0] == Announce("LAN", 5)
    stranger = active(ALONE)
    stranger.handle(LESSER_ADVERT, 10 * SECOND)
    limit = 10 * SECOND + ANNOUNCE_LIMIT - REUNION_LIMIT + MEETING_LIMIT
    later = run(stranger, limit)
    assert (limit, Announce("LAN", 5)) in [(when, action) for when, actions in later for action in actions]


@pytest.mark.parametrize("ends", ["in step", "limit"])
def test_one_that_leaves_the_role_to_an_earlier_router_tells_its_connections_first(ends: str) -> None:
    """It is the better one, and was active on its own side of a partition after its restart."""
    group = active(ALONE, preempt=False)
    assert group.handle(LESSER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    if ends == "in step":
        group.handle(MET, 10 * SECOND)
        group.handle(Partner(True, False, fills=True), 10 * SECOND)
        assert of(Announce, group.handle(LESSER_ADVERT, 12 * SECOND)) == [] and group.role is Role.ACTIVE
        actions = group.handle(TOGETHER, 12 * SECOND)
    else:
        actions = [one for _, done in run(group, 10 * SECOND + MEETING_LIMIT) for one in done]
    assert of(HandOver, actions) and SendAdvert("LAN", 0) in actions
    assert group.role is Role.BACKUP


def test_one_that_has_just_become_active_gives_way_at_once() -> None:
    """The better one was late by a little, and both hold the addresses now."""
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance(garp=TELLS)], True, PATIENCE)
    ready(group)
    group.handle(Start(), 0)
    group.handle(APART, 0)
    due = group.next_deadline()
    assert due is not None
    group.handle(Tick(), due)
    group.handle(Restored(), due)
    assert group.role is Role.ACTIVE
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, due + SECOND // 10)


def test_the_better_one_tells_hosts_when_it_knows_the_connections_of_the_lesser_one() -> None:
    group = active()
    assert group.handle(LESSER_ADVERT, 10 * SECOND) == [Reunite("LAN"), SendAdvert("LAN", 100)]
    assert group.handle(LESSER_ADVERT, 11 * SECOND) == [SendAdvert("LAN", 100)]
    assert group.handle(Reunited(), 12 * SECOND) == [Announce("LAN", 5), Contested("LAN", 100)]
    assert group.handle(LESSER_ADVERT, 12 * SECOND) == [SendAdvert("LAN", 100), Announce("LAN", 3)]
    assert Reunite("LAN") not in group.handle(LESSER_ADVERT, 13 * SECOND)


def test_or_when_it_has_waited_long_enough() -> None:
    group = active()
    group.handle(LESSER_ADVERT, 10 * SECOND)
    later = run(group, 10 * SECOND + ANNOUNCE_LIMIT)
    assert (10 * SECOND + ANNOUNCE_LIMIT, Announce("LAN", 5)) in [
        (when, action) for when, actions in later for action in actions
    ]


@pytest.mark.parametrize(
    "group",
    [active(patience=0), active(restores=False)],
    ids=["no patience", "no replication"],
)
def test_else_it_tells_them_at_once(group: SyncGroup) -> None:
    told = [SendAdvert("LAN", 100), Announce("LAN", 3), Contested("LAN", 100)]
    assert group.handle(LESSER_ADVERT, 10 * SECOND) == told


def test_hosts_are_told_nothing_before_the_addresses_are_there() -> None:
    """A lesser router speaks while connections are restored: a packet that came now would end its own."""
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance(garp=TELLS)], True, PATIENCE)
    ready(group)
    group.handle(Start(), 0)
    due = group.next_deadline()
    assert due is not None
    group.handle(Tick(), due)
    assert group.role is Role.ACTIVE
    assert group.handle(LESSER_ADVERT, due + 1) == [SendAdvert("LAN", 100)]
    assert of(Announce, group.handle(Restored(), due + 2))


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_deaf_router_gives_way_to_the_peer_whose_connections_it_follows(synchronised: bool) -> None:
    """Replication has a link of its own, while the port to the LAN forwards nothing after the start."""
    settings = instance(garp=TELLS, preempt=False)
    group = ready(SyncGroup(Group("LAN", ("LAN",), implicit=True), [settings], True, PATIENCE))
    group.handle(Start(), 0)
    group.handle(Synchronised(synchronised), SECOND)
    group.handle(TOGETHER, SECOND)
    while (due := group.next_deadline()) is not None and due < 10 * SECOND:
        group.handle(Tick(), due)
        group.handle(Restored(), due)
    group.handle(Synchronised(False), 10 * SECOND)
    said = standing_of(group, group.members[0], True)[0]
    assert bool(said & GIVES_WAY) is synchronised, "what it says is what it does: else both stay active"
    told = group.handle(LESSER_ADVERT, 10 * SECOND)
    gone = [Remove(("LAN",)), HandOver("LAN"), Beat("LAN"), SendAdvert("LAN", 0)]
    assert (told[:4] == gone) is synchronised
    assert (group.role is Role.BACKUP) is synchronised


def test_a_deaf_router_that_gives_way_says_so_until_it_does() -> None:
    """Half way through the exchange the peer is known; the other one must not yield meanwhile."""
    group = active(ALONE, preempt=False)
    assert group.handle(LESSER_ADVERT, 10 * SECOND) == [Reunite("LAN")]
    group.handle(APART, 11 * SECOND)
    assert standing_of(group, group.members[0], True)[0] & GIVES_WAY
    assert Remove(("LAN",)) in group.handle(TOGETHER, 12 * SECOND)
    assert group.role is Role.BACKUP


# How to bring a reunion to each stage, and what each event does there: the next stage and the actions.
ALONE_, HOLDS_OUT, TIRED, GATHERS, DEFERS = Stage
WAYS = {
    ALONE_: (), HOLDS_OUT: (BETTER,), TIRED: (BETTER, OVERDUE), GATHERS: (LESSER,), DEFERS: (EARLIER,)
}  # fmt: skip
ROWS: dict[str, dict[Stage, tuple[Stage, tuple[str, ...]]]] = {
    BETTER: {
        ALONE_: (HOLDS_OUT, (EXCHANGE,)), HOLDS_OUT: (HOLDS_OUT, ()),
        TIRED: (ALONE_, (YIELD,)), GATHERS: (HOLDS_OUT, (EXCHANGE,)), DEFERS: (DEFERS, ()),
    },
    LESSER: {
        ALONE_: (GATHERS, (EXCHANGE,)), HOLDS_OUT: (HOLDS_OUT, ()),
        TIRED: (TIRED, ()), GATHERS: (GATHERS, ()), DEFERS: (DEFERS, ()),
    },
    EARLIER: {
        ALONE_: (DEFERS, (EXCHANGE,)), HOLDS_OUT: (DEFERS, ()),
        TIRED: (ALONE_, (GIVE_WAY,)), GATHERS: (DEFERS, ()), DEFERS: (DEFERS, ()),
    },
    IN_STEP: {
        ALONE_: (ALONE_, ()), HOLDS_OUT: (ALONE_, ()), TIRED: (ALONE_, ()),
        GATHERS: (GATHERS, ()), DEFERS: (ALONE_, (GIVE_WAY,)),
    },
    REUNITED: {
        ALONE_: (ALONE_, (ANNOUNCE,)), HOLDS_OUT: (HOLDS_OUT, (ANNOUNCE,)),
        TIRED: (TIRED, (ANNOUNCE,)), GATHERS: (ALONE_, (ANNOUNCE, CONTESTED)), DEFERS: (DEFERS, ()),
    },
    OVERDUE: {
        ALONE_: (ALONE_, ()), HOLDS_OUT: (TIRED, ()),
        TIRED: (TIRED, ()), GATHERS: (ALONE_, (ANNOUNCE, CONTESTED)), DEFERS: (ALONE_, (GIVE_WAY,)),
    },
    ENDED: dict.fromkeys(Stage, (ALONE_, ())),
}  # fmt: skip


def test_the_table_has_a_row_for_everything() -> None:
    assert set(TABLE) == {(stage, event) for event, row in ROWS.items() for stage in row}


@pytest.mark.parametrize(("stage", "event"), TABLE)
def test_each_row(stage: Stage, event: str) -> None:
    reunion = Reunion()
    for step in WAYS[stage]:
        reunion.handle(step, 0, PATIENCE)
    assert reunion.stage is stage
    assert (reunion.handle(event, SECOND, PATIENCE), reunion.stage) == ROWS[event][stage][::-1]
    waits = {HOLDS_OUT: REUNION_LIMIT, GATHERS: ANNOUNCE_LIMIT, DEFERS: REUNION_LIMIT}
    began = 0 if reunion.stage is stage else SECOND
    limit = waits.get(reunion.stage)
    assert reunion.deadline == (None if limit is None else began + limit)


def test_no_wait_is_longer_than_the_patience() -> None:
    reunion = Reunion()
    reunion.handle(LESSER, 10 * SECOND, 2 * SECOND)
    assert reunion.deadline == 12 * SECOND


def test_groups_that_were_one_have_reunions_of_their_own() -> None:
    group = active()
    group.handle(BETTER_ADVERT, 10 * SECOND)
    other = sibling(group)
    other.handle(TOGETHER, 11 * SECOND)
    assert group.handle(BETTER_ADVERT, 11 * SECOND) == [], "it goes on waiting"


def test_a_late_loop_does_not_make_the_wait_longer() -> None:
    """The advert comes before the tick that was due."""
    group = active()
    group.handle(BETTER_ADVERT, 10 * SECOND)
    run(group, 10 * SECOND + REUNION_LIMIT - 1)
    assert Remove(("LAN",)) in group.handle(BETTER_ADVERT, 10 * SECOND + REUNION_LIMIT)


def test_a_reunion_ends_with_the_role() -> None:
    """A router that is active again later does not say that it was contested before."""
    group = active()
    assert Reunite("LAN") in group.handle(LESSER_ADVERT, 10 * SECOND)
    group.handle(Failover(), 11 * SECOND)
    assert group.role is Role.BACKUP
    done: list[Action] = []
    while (due := group.next_deadline()) is not None and due < 10 * SECOND + 2 * ANNOUNCE_LIMIT:
        done += group.handle(Tick(), due) + group.handle(Restored(), due)
    assert group.role is Role.ACTIVE and not of(Contested, done)
