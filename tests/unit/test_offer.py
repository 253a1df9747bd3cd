# SPDX-License-Identifier: GPL-2.0-or-later
"""A router that is to leave its role keeps its addresses until another router serves."""

from __future__ import annotations

from itertools import product

import pytest

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Follow,
    HandOver,
    Install,
    RaiseMacs,
    Remove,
    Restore,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.events import (
    Company,
    Event,
    Failover,
    Moved,
    Restored,
    Resume,
    Standby,
    Stop,
    Synchronised,
    Taken,
    Tick,
    TrackerChanged,
    Vacancy,
    Vacated,
)
from tandem.core.limits import ENTER_LIMIT, FILL_LIMIT, OFFER_LIMIT, STREAM_LIMIT
from tandem.core.offer import (
    ENDED,
    ENTERS,
    GO,
    LACKS,
    LAST,
    LEAVE,
    LEAVES,
    OVERDUE,
    REFUSED,
    SERVES,
    STAYS,
    TABLE,
    TELL,
    Offer,
    Stage,
)
from tandem.core.settings import Group, Track
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND, SECOND
from tests.unit.scenario import HIGHER, LOWER, active, feed, heard, instance, of, run, started, sync_group

KEEPS, WAITS, OFFERS, YIELDS = Stage
EVENTS = (LACKS, LEAVES, ENTERS, SERVES, OVERDUE, REFUSED, STAYS, ENDED)
BEGINS, GOES, GOES_ON, NOTHING = (LAST, TELL), (LEAVE,), (TELL,), ()
ROWS = {
    KEEPS: (
        (WAITS, NOTHING), (OFFERS, BEGINS), (YIELDS, BEGINS), (KEEPS, NOTHING), (KEEPS, NOTHING),
        (KEEPS, NOTHING), (KEEPS, NOTHING), (KEEPS, NOTHING),
    ),
    WAITS: (
        (WAITS, NOTHING), (OFFERS, BEGINS), (YIELDS, BEGINS), (KEEPS, GOES), (KEEPS, (GO,)),
        (WAITS, NOTHING), (KEEPS, NOTHING), (KEEPS, NOTHING),
    ),
    OFFERS: (
        (OFFERS, NOTHING), (OFFERS, NOTHING), (OFFERS, NOTHING), (KEEPS, GOES), (KEEPS, GOES),
        (KEEPS, GOES), (KEEPS, GOES_ON), (KEEPS, NOTHING),
    ),
    YIELDS: (
        (YIELDS, NOTHING), (OFFERS, NOTHING), (YIELDS, NOTHING), (KEEPS, GOES), (KEEPS, GOES_ON),
        (KEEPS, GOES_ON), (YIELDS, NOTHING), (KEEPS, NOTHING),
    ),
}  # fmt: skip
TAKER = Company(takes=True)
GONE = [Remove(("LAN",)), Withdraw(("LAN",))]


@pytest.mark.parametrize(("stage", "event"), list(product(Stage, EVENTS)))
def test_each_row(stage: Stage, event: str) -> None:
    expected = ROWS[stage][EVENTS.index(event)]
    assert TABLE[stage, event] == expected
    offer = Offer()
    for first in {KEEPS: (), WAITS: (LACKS,), OFFERS: (LEAVES,), YIELDS: (ENTERS,)}[stage]:
        offer.handle(first, SECOND)
    assert (offer.handle(event, 2 * SECOND), offer.stage) == expected[::-1]
    assert offer.pending is (expected[0] in (OFFERS, YIELDS))
    began = 2 * SECOND if stage in (KEEPS, WAITS) or event == ENTERS else SECOND
    limit = ENTER_LIMIT if event == ENTERS or stage is YIELDS else OFFER_LIMIT
    if offer.stage is WAITS:
        began, limit = (SECOND if stage is WAITS else 2 * SECOND), FILL_LIMIT
    assert offer.deadline == (None if offer.stage is KEEPS else began + limit)


def test_the_table_has_a_row_for_everything() -> None:
    assert set(TABLE) == set(product(Stage, EVENTS))


def serving(*, restores: bool = False, company: Company = TAKER, **settings: object) -> SyncGroup:
    """An active router, at 0."""
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance(**settings)], restores)
    active(group)
    group.handle(Restored(), 0)
    group.handle(company, 0)
    assert group.role is Role.ACTIVE and not group.promotion.waiting
    return group


WISHES: dict[str, tuple[Event, Role]] = {
    "failover": (Failover(), Role.BACKUP),
    "standby": (Standby(), Role.INITIALIZE),
    "the daemon ends": (Stop(), Role.INITIALIZE),
    "a script fails": (TrackerChanged("script", "chk", False), Role.INITIALIZE),
}


@pytest.mark.parametrize("wish", WISHES)
def test_the_addresses_stay_until_a_neighbour_serves(wish: str) -> None:
    event, role = WISHES[wish]
    group = serving(restores=True, tracks=(Track("script", "chk"),))
    assert group.handle(event, SECOND // 2) == [HandOver("LAN"), Beat("LAN")]
    assert group.role is Role.ACTIVE and group.next_deadline() == SECOND // 2 + OFFER_LIMIT
    assert feed(group, SECOND // 2, Taken(False), Moved("LAN"), heard(50, LOWER), heard(200)) == []
    actions = group.handle(Taken(True), SECOND // 2 + MILLISECOND)
    assert group.role is role
    assert [action for action in actions if not isinstance(action, Transition)] == GONE, "without a goodbye"


def test_a_hand_over_ends_at_the_limit() -> None:
    group = serving()
    assert group.handle(Failover(), 0) == [Beat("LAN")]
    assert not of(Remove, group.handle(Tick(), OFFER_LIMIT - 1))
    assert of(SendAdvert, group.handle(Tick(), OFFER_LIMIT)) == [SendAdvert("LAN", 0)]
    assert group.role is Role.BACKUP and group.held


def test_who_takes_the_role_may_restore_for_longer_than_the_offer_lasts() -> None:
    """The router that leaves is well, and nobody else has the addresses."""
    group = serving(restores=True)
    group.handle(Stop(), 0)
    assert group.handle(Taken(False), MILLISECOND) == []
    assert not any(of(Remove, actions) for _, actions in run(group, 5 * SECOND))
    assert group.role is Role.ACTIVE
    actions = group.handle(Taken(True), 5 * SECOND)
    assert actions[:2] == GONE and group.role is Role.INITIALIZE


@pytest.mark.parametrize(
    "why",
    ["nobody takes it", "networks follow", "a link is down", "at once", "it restores itself"],
)
def test_without_an_offer_the_role_is_given_up_at_once(why: str) -> None:
    group = serving(company=Company() if why == "nobody takes it" else TAKER)
    event: Event = Failover()
    if why == "networks follow":
        group.settings = Group("LAN", ("LAN",), implicit=True, follow=("wan",))
    elif why == "a link is down":
        event = TrackerChanged("interface", "lan", False)
    elif why == "at once":
        event = Stop(at_once=True)
    elif why == "it restores itself":
        group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance()], restores=True)
        active(group).handle(TAKER, 0)
    assert of(SendAdvert, group.handle(event, 0)) == [SendAdvert("LAN", 0)]
    assert group.role is not Role.ACTIVE


def test_an_offer_that_nobody_takes_any_more_ends_at_once() -> None:
    group = serving()
    group.handle(Failover(), 0)
    assert of(SendAdvert, group.handle(Company(), MILLISECOND)) == [SendAdvert("LAN", 0)]


def test_the_end_of_the_daemon_does_not_wait_twice() -> None:
    group = serving()
    assert group.handle(Stop(), 0) == [Beat("LAN")]
    assert of(Remove, group.handle(Stop(at_once=True), 0))


def test_a_standby_that_is_taken_back_in_time_keeps_the_role() -> None:
    group = serving()
    group.handle(Standby(), 0)
    assert group.handle(Resume(), MILLISECOND) == [Beat("LAN")]
    assert group.role is Role.ACTIVE and not group.offer.pending
    assert group.next_deadline() == SECOND, "its next advert"


def test_a_fault_that_breaks_forwarding_does_not_wait() -> None:
    group = serving()
    group.handle(Standby(), 0)
    assert of(SendAdvert, group.handle(TrackerChanged("interface", "lan", False), 0)) == [
        SendAdvert("LAN", 0)
    ]


def test_a_better_router_enters_and_this_one_goes_on_until_it_serves() -> None:
    group = serving(restores=True)
    assert group.handle(Taken(False), 0) == [HandOver("LAN"), Beat("LAN")]
    actions = group.handle(Taken(True), MILLISECOND)
    assert actions[:2] == GONE and group.role is Role.BACKUP
    assert [transition.why for transition in of(Transition, actions)] == ["a better router is active"]


def test_a_better_router_that_does_not_come_leaves_the_role_here() -> None:
    group = serving()
    group.handle(Taken(False), 0)
    assert run(group, ENTER_LIMIT)[-1] == (ENTER_LIMIT, [Beat("LAN")])
    assert group.role is Role.ACTIVE and not group.offer.pending
    run(group, ENTER_LIMIT + 3 * SECOND)
    assert group.role is Role.ACTIVE


def test_a_router_with_followed_networks_offers_no_role_to_a_better_router() -> None:
    """Both would have the provider's MAC address: this router leaves first."""
    group = serving(restores=True)
    group.settings = Group("LAN", ("LAN",), implicit=True, follow=("wan",))
    assert group.handle(Taken(False), 0) == []
    assert group.role is Role.ACTIVE and not group.offer.pending


# The other side


def backup(*, restores: bool = True, **settings: object) -> SyncGroup:
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance(**settings)], restores)
    return started(group)


def names(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def test_an_offered_role_is_taken_before_anybody_hears_of_it() -> None:
    group = backup(use_vmac="vrrp.51")
    group.handle(heard(200), SECOND)
    offered = group.handle(Vacated(Vacancy.OFFERED, (("LAN", HIGHER),)), SECOND)
    assert offered == [Restore("LAN", True), Beat("LAN")]
    assert feed(group, SECOND, heard(200), heard(0)) == [], "the other one still has the role"
    served = group.handle(Restored(), SECOND + MILLISECOND)
    assert names(served) == [RaiseMacs, Install, Announce, Beat, SendAdvert, Transition]
    assert feed(group, SECOND + STREAM_LIMIT - 1, heard(200), heard(0)) == []
    group.handle(heard(200), SECOND + STREAM_LIMIT)
    assert group.role is Role.BACKUP, "it goes on: VRRP decides"


def test_without_replication_it_serves_in_one_step() -> None:
    group = backup(restores=False)
    group.handle(heard(200), SECOND)
    actions = group.handle(Vacated(Vacancy.OFFERED, (("LAN", HIGHER),)), SECOND)
    assert names(actions) == [Install, Announce, Beat, SendAdvert, Transition]


@pytest.mark.parametrize(("offers", "follow"), [(True, ()), (False, ()), (True, ("wan",))])
def test_a_better_router_preempts_in_agreement_with_one_that_knows_offers(
    offers: bool, follow: tuple[str, ...]
) -> None:
    """Where networks follow, routers share a MAC address: the other one leaves first."""
    group = backup(priority=200)
    group.settings = Group("LAN", ("LAN",), implicit=True, follow=follow)
    agreed = offers and not follow
    feed(group, 0, Synchronised(True), Company(offers=offers))
    while group.role is Role.BACKUP:
        due = group.next_deadline() or 0
        feed(group, due - 1, heard(100, LOWER))
        actions = group.handle(Tick(), due)
    assert names(actions) == ([Restore, Beat] if agreed else [SendAdvert, Restore])
    answer = feed(group, due + 20 * MILLISECOND, heard(100, LOWER))
    assert answer == ([] if agreed else [SendAdvert("LAN", 200)])
    served = names(feed(group, due + 21 * MILLISECOND, Restored()))
    if follow:
        assert served == [Beat]
        served = names(feed(group, due + 22 * MILLISECOND, Company(takes=True)))
    assert served[0] is Install and (Follow in served) is bool(follow)


def test_a_group_of_two_is_offered_as_a_whole() -> None:
    group = active(sync_group(instance(), instance("WAN")))
    group.handle(TAKER, 0)
    assert group.handle(Failover(), 0) == [Beat("G")]
    assert of(Remove, group.handle(Taken(True), 0)) == [Remove(("LAN", "WAN"))]
