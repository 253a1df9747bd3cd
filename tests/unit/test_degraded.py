# SPDX-License-Identifier: GPL-2.0-or-later
"""A router in fault keeps the role, or takes it, while no other router is better."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tandem.core.actions import Action, Beat, Degraded, HandOver, Install, Remove, SendAdvert
from tandem.core.events import (
    Company,
    EffectFailed,
    Failover,
    Partner,
    SourceChanged,
    Standby,
    Stop,
    Taken,
    Tick,
    TrackerChanged,
    Vacancy,
    Vacated,
)
from tandem.core.limits import FILL_LIMIT, OFFER_LIMIT
from tandem.core.offer import Stage
from tandem.core.settings import Group, Track
from tandem.core.standing import Entry, Post, Seat, Standings, matching, seats, standing_of
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import SECOND
from tests.unit.scenario import (
    HIGHER,
    LOWER,
    OURS,
    active,
    feed,
    heard,
    instance,
    of,
    run,
    started,
    sync_group,
)

WAN_DOWN, WAN_UP = TrackerChanged("interface", "wan", False), TrackerChanged("interface", "wan", True)
LAN_DOWN = TrackerChanged("interface", "lan", False)
SCRIPT_DOWN = TrackerChanged("script", "chk", False)


def other(faults: int | None, compares: bool = True) -> Company:
    """The other router has so many faults; None: it can't have the role."""
    return Company(takes=True, least=faults, compares=compares)


def pair(*, is_active: bool, priority: int = 100) -> SyncGroup:
    group = sync_group(
        instance("LAN", priority=priority),
        instance("WAN", priority=priority),
        tracks=(Track("script", "chk"),),
    )
    return active(group) if is_active else started(group)


@pytest.mark.parametrize(
    ("faults", "theirs", "degraded"),
    [
        ([WAN_DOWN], 0, False),  # the other one is better
        ([WAN_DOWN], 1, True),
        ([WAN_DOWN], 2, True),
        ([WAN_DOWN], None, True),  # it is dead, in standby, or has failed
        ([WAN_DOWN, SCRIPT_DOWN], 1, False),
        ([WAN_DOWN, SCRIPT_DOWN], 2, True),
        ([SCRIPT_DOWN], 1, True),
        ([SourceChanged("WAN", None)], 1, True),
        ([WAN_DOWN, LAN_DOWN], 3, False),  # no segment works
        ([WAN_DOWN, SourceChanged("LAN", None)], 3, False),
        ([WAN_DOWN, Standby()], 3, False),
        ([EffectFailed("WAN", "refused")], 3, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_active", [True, False])
def test_a_fault_counts_while_another_router_has_fewer(
    is_active: bool, faults: list[TrackerChanged], theirs: int | None, degraded: bool
) -> None:
    group = pair(is_active=is_active)
    feed(group, 0, other(theirs), *faults)
    assert group.degraded is degraded
    if not degraded:
        assert group.role is Role.INITIALIZE or group.offer.pending
        assert group.state in ("FAULT", "MASTER")
    else:
        assert group.role is (Role.ACTIVE if is_active else Role.BACKUP)


def test_without_heartbeats_and_with_the_policy_strict_a_fault_is_a_fault() -> None:
    for company in (Company(), other(1, compares=False)):
        group = pair(is_active=True)
        feed(group, 0, company, WAN_DOWN)
        assert group.state == "FAULT"


def test_both_lose_the_same_provider_and_the_role_moves_when_one_is_better() -> None:
    ours, theirs = pair(is_active=True), pair(is_active=False, priority=200)
    feed(ours, 0, other(0))
    feed(theirs, 0, other(0), WAN_DOWN)
    assert theirs.state == "FAULT"
    told = feed(ours, 0, other(1), WAN_DOWN)
    assert of(Degraded, told) == [Degraded("G", "interface wan down")] and not of(Remove, told)
    feed(theirs, 0, other(1))
    assert (ours.role, theirs.role) == (Role.ACTIVE, Role.BACKUP)
    for tenth in range(1, 100):  # it has the higher priority, and does not preempt
        adverts = [heard(100, LOWER, name) for name in ("LAN", "WAN")]
        feed(theirs, tenth * SECOND // 10, *adverts, Tick())
    assert theirs.role is Role.BACKUP and not of(Degraded, feed(theirs, 10 * SECOND, other(1), other(2)))
    # The provider is back, first at the other router.
    feed(theirs, 10 * SECOND, WAN_UP)
    gone = feed(ours, 10 * SECOND, other(0))
    assert of(Remove, gone) and ours.state == "FAULT"
    assert of(Install, feed(theirs, 10 * SECOND, Vacated(Vacancy.LEFT, ())))
    # And then here.
    feed(ours, 11 * SECOND, WAN_UP)
    assert ours.role is Role.BACKUP and not ours.degraded


def test_a_router_in_fault_takes_over_when_the_other_one_dies() -> None:
    group = pair(is_active=False)
    feed(group, 0, other(0), WAN_DOWN)
    assert group.state == "FAULT"
    feed(group, SECOND, other(None), Vacated(Vacancy.DIED, (("LAN", HIGHER),)))
    assert group.role is Role.ACTIVE


def test_a_promotion_that_fails_is_not_tried_again_before_something_changes() -> None:
    group = pair(is_active=True)
    feed(group, 0, other(None), WAN_DOWN)
    assert of(SendAdvert, group.handle(EffectFailed("WAN", "network is down"), 0))[-1].priority == 0
    run(group, 1000 * SECOND)
    assert group.state == "FAULT"
    feed(group, 1000 * SECOND, WAN_UP, WAN_DOWN)
    assert group.role is Role.BACKUP


# A better router that has just started lacks connections

FILLS = Partner(known=True, in_step=False, fills=True)
FILLED = Partner(known=True, in_step=True)
PATIENCE = 30 * SECOND


def alone(*faults: TrackerChanged, patience: int = PATIENCE) -> SyncGroup:
    """A router that is active in spite of these faults, and replicates connections."""
    group = pair(is_active=True)
    group.replicate(True, patience, 0)
    feed(group, 0, other(None), *faults)
    assert group.role is Role.ACTIVE and group.degraded is bool(faults)
    return group


@pytest.mark.parametrize("fault", [WAN_DOWN, SCRIPT_DOWN], ids=["a link", "a script"])
def test_a_router_in_fault_leaves_when_the_better_one_holds_its_connections(fault: TrackerChanged) -> None:
    group = alone(fault)
    actions = feed(group, SECOND, FILLS, other(0))
    assert group.offer.waits and group.role is Role.ACTIVE and not of(Remove, actions)
    for tenth in range(11, 31):  # adverts go on
        actions += feed(group, tenth * SECOND // 10, Tick(), FILLS, other(0))
    assert len(of(SendAdvert, actions)) >= 4 and not of(Remove, actions)
    actions = feed(group, 3 * SECOND, FILLED)
    if fault is WAN_DOWN:
        assert of(Remove, actions) and group.state == "FAULT"
    else:
        assert actions == [HandOver("G"), Beat("G")], "it forwards, and offers the role"
        assert of(Remove, feed(group, 3 * SECOND, Taken(True)))


def test_but_not_for_ever() -> None:
    for patience, limit in ((PATIENCE, FILL_LIMIT), (SECOND, SECOND)):
        group = alone(WAN_DOWN, patience=patience)
        feed(group, SECOND, FILLS, other(0))
        run(group, SECOND + limit - 1)
        assert group.offer.waits and group.role is Role.ACTIVE
        run(group, SECOND + limit)
        assert group.state == "FAULT"


def test_a_role_that_is_offered_after_the_wait_is_left_at_its_own_limit() -> None:
    group = alone(SCRIPT_DOWN)
    feed(group, SECOND, FILLS, other(0))
    run(group, SECOND + FILL_LIMIT)
    assert group.offer.stage is Stage.OFFERS and not feed(group, SECOND + FILL_LIMIT, FILLS)
    run(group, SECOND + FILL_LIMIT + OFFER_LIMIT)
    assert group.state == "FAULT"


def test_the_wait_ends_with_the_fault_and_with_the_better_router() -> None:
    for event in (WAN_UP, other(None), other(1)):
        group = alone(WAN_DOWN)
        feed(group, SECOND, FILLS, other(0))
        assert not of(Remove, feed(group, SECOND, event))
        assert group.offer.stage is Stage.KEEPS
        run(group, 100 * SECOND)
        assert group.role is Role.ACTIVE


@pytest.mark.parametrize(
    ("faults", "events"),
    [
        ([], [FILLS, other(0), WAN_DOWN]),  # a new outage
        ([WAN_DOWN], [FILLS, other(0), Stop(at_once=True)]),
        ([WAN_DOWN], [FILLS, other(0), LAN_DOWN]),  # no segment works
        ([WAN_DOWN], [FILLS, other(0), EffectFailed("WAN", "refused")]),
        ([WAN_DOWN], [FILLS, other(0), Failover()]),
        ([WAN_DOWN], [Partner(True, False), other(0)]),  # there is no session
        ([WAN_DOWN], [FILLED, other(0)]),
    ],
    ids=str,
)
def test_otherwise_it_leaves_at_once(faults: list[TrackerChanged], events: list[Action]) -> None:
    group = alone(*faults)
    actions = feed(group, SECOND, *events)
    if group.offer.pending:
        actions += feed(group, SECOND, Taken(True))
    assert of(Remove, actions) and group.role is not Role.ACTIVE


def test_without_replication_it_leaves_at_once() -> None:
    for restores, patience in ((False, PATIENCE), (True, 0)):
        group = alone(WAN_DOWN)
        group.replicate(restores, patience, 0)
        assert of(Remove, feed(group, SECOND, FILLS, other(0)))


# What heartbeats say


def seen(group: SyncGroup) -> Seat:
    """The seat that another router has, which is in this situation."""
    entries = [Entry(member.name, 51, 4, OURS) for member in group.members]
    said = b"".join(standing_of(group, member, True) for member in group.members)
    return seats([group], entries, matching(entries, entries), said)["G"]


@pytest.mark.parametrize(
    ("events", "faults"),
    [
        ([], 0),
        ([WAN_DOWN], 1),
        ([WAN_DOWN, SCRIPT_DOWN], 2),
        ([SourceChanged("WAN", None)], 1),
        ([Standby()], None),
        ([EffectFailed("WAN", "refused")], None),
    ],
)
def test_a_heartbeat_says_how_many_faults_there_are(events: list[TrackerChanged], faults: int | None) -> None:
    group = pair(is_active=False)
    feed(group, 0, *events)
    assert seen(group).faults == faults


def test_seven_faults_are_many() -> None:
    scripts = tuple(Track("script", f"chk{number}") for number in range(9))
    group = active(sync_group(instance("LAN"), instance("WAN"), tracks=scripts))
    feed(group, 0, *(TrackerChanged("script", track.name, False) for track in scripts))
    assert group.fault_state.count == 9 and seen(group).faults == 7


def test_an_older_release_says_no_number() -> None:
    entries = [Entry("LAN", 51, 4, OURS)]
    group = started(SyncGroup(Group("G", ("LAN",)), [instance()]))
    assert seats([group], entries, {"LAN": 0}, bytes((0, 100, 4)))["G"].faults == 1


@pytest.mark.parametrize(
    ("known", "least"),
    [
        ([], None),
        ([(Post.READY, 0)], 0),
        ([(Post.OUT, 1)], 1),
        ([(Post.OUT, 0)], None),  # it starts, or stops
        ([(Post.OUT, None)], None),
        ([(Post.DEAD, 0)], None),
        ([(Post.ACTIVE, 2), (Post.READY, 1)], 1),
    ],
)
def test_the_least_faults_of_the_neighbours(known: list[tuple[Post, int | None]], least: int | None) -> None:
    standings, groups = Standings(holds=True, compares=True), {"G": pair(is_active=False)}
    for number, (post, faults) in enumerate(known):
        standings.take(f"r{number}", {"G": Seat(post, (100, LOWER), faults=faults)}, True, groups, 0)
    found = standings.company("G")
    assert (found.least, found.compares) == (least, bool(known))


def test_a_neighbour_that_was_known_and_is_gone_is_no_better() -> None:
    standings, groups = Standings(holds=True, compares=True), {"G": pair(is_active=False)}
    standings.take("r1", {"G": Seat(Post.ACTIVE)}, True, groups, 0)
    told = [event for _, event in standings.forget("r1", groups)]
    assert Company(compares=True) in told


def test_a_router_in_fault_hears_that_nobody_is_better_before_it_hears_that_the_role_is_free() -> None:
    standings, group = Standings(holds=True, compares=True), pair(is_active=False)
    for post in (Post.ACTIVE, Post.DEAD):
        events = [event for _, event in standings.take("r1", {"G": Seat(post)}, True, {"G": group}, 0)]
        feed(group, 0, *events, WAN_DOWN)
    kinds = [type(event) for event in events]
    assert [(Company, Vacated)] == [both for both in pairwise(kinds) if both[1] is Vacated]
    assert group.role is Role.ACTIVE


@pytest.mark.parametrize(("ours", "takes"), [([], True), ([WAN_DOWN], False)])
def test_a_link_that_is_down_there_frees_no_role_while_one_is_down_here(
    ours: list[TrackerChanged], takes: bool
) -> None:
    standings, group = Standings(holds=True, compares=True), pair(is_active=False)
    feed(group, 0, *ours)
    standings.take("r1", {"G": Seat(Post.ACTIVE)}, True, {"G": group}, 0)
    found = standings.take("r1", {"G": Seat(Post.UNLINKED, faults=1)}, True, {"G": group}, 0)
    assert takes is any(isinstance(event, Vacated) for _, event in found)
