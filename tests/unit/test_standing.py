# SPDX-License-Identifier: GPL-2.0-or-later
"""The posts of neighbours: when a role is free, who takes it, and who holds back."""

from __future__ import annotations

from itertools import product

import pytest

from tandem.core.events import (
    AdvertReceived,
    Ballot,
    Claimed,
    Company,
    EffectFailed,
    Event,
    Failover,
    SourceChanged,
    Standby,
    Taken,
    Tick,
    TrackerChanged,
    Unheard,
    Vacancy,
    Vacated,
)
from tandem.core.settings import Group, Track
from tandem.core.standing import ACTIVE as IS_ACTIVE
from tandem.core.standing import (
    BACKUP,
    COUNT_SHIFT,
    GIVES_WAY,
    INITIALIZE,
    INTERFACE,
    LINK,
    POSTS,
    SCRIPT,
    TAKES,
    Entry,
    Post,
    Seat,
    Standings,
    leadership,
    leads,
    matching,
    seats,
    standing_of,
)
from tandem.core.standing import ENTERING as IS_ENTERING
from tandem.core.standing import OFFERING as IS_OFFERING
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import SECOND
from tests.unit.scenario import HIGHER, LOWER, OURS, active, feed, heard, instance, started, sync_group

UNKNOWN, ACTIVE, UNLINKED, OFFERING, ENTERING, READY, OUT, DEAD = Post
LEFT, DIED, NO_LINK, OFFERED = (Vacancy.LEFT,), (Vacancy.DIED,), (Vacancy.UNLINKED,), (Vacancy.OFFERED,)
SERVES, ENTERS = (Taken(True),), (Taken(False),)

# To UNKNOWN, ACTIVE, UNLINKED, OFFERING, ENTERING, READY, OUT and DEAD
NEWS: dict[Post, tuple[tuple[Vacancy | Taken, ...], ...]] = {
    UNKNOWN: ((), SERVES, SERVES, OFFERED, ENTERS, (), (), ()),
    ACTIVE: ((), (), NO_LINK, OFFERED, (), LEFT, LEFT, DIED),
    UNLINKED: ((), (), (), OFFERED, (), LEFT, LEFT, DIED),
    OFFERING: ((), SERVES, SERVES, (), (), LEFT, LEFT, DIED),
    ENTERING: ((), SERVES, SERVES, OFFERED, (), LEFT, LEFT, DIED),
    READY: ((), SERVES, SERVES, OFFERED, ENTERS, (), (), ()),
    OUT: ((), SERVES, SERVES, OFFERED, ENTERS, (), (), ()),
    DEAD: ((), SERVES, SERVES, OFFERED, ENTERS, (), (), ()),
}


def group(priority: int = 100) -> SyncGroup:
    return started(sync_group(instance(priority=priority)))


def seat(post: Post, priority: int = 200, source: bytes = HIGHER) -> Seat:
    return Seat(post, (priority, source), (("LAN", source),))


def take(standings: Standings, of: SyncGroup, name: str, post: Post, priority: int = 200) -> list[Event]:
    found = standings.take(name, {"LAN": seat(post, priority)}, True, {"LAN": of}, 0)
    return [event for _, event in found]


def test_an_offer_says_where_its_adverts_come_from() -> None:
    """Also of a neighbour that has said nothing before."""
    offered = take(Standings(holds=False), group(), "r2", OFFERING)
    assert offered == [Vacated(Vacancy.OFFERED, (("LAN", HIGHER),))]


def test_the_table_has_a_row_for_everything() -> None:
    assert set(POSTS) == set(product(Post, Post))


@pytest.mark.parametrize(("before", "after"), POSTS)
def test_each_row(before: Post, after: Post) -> None:
    expected = NEWS[before][list(Post).index(after)]
    assert POSTS[before, after] == (after, expected)
    sources = (("LAN", HIGHER),)
    for of in (
        group(),
        active(sync_group(instance())),
    ):  # a backup hears that the role is free, an active one who takes it
        standings = Standings(holds=True)
        take(standings, of, "r2", before)
        told = [
            event
            for event in take(standings, of, "r2", after)
            if not isinstance(event, Company | Claimed | Unheard)
        ]
        vacated = [Vacated(news, sources) for news in expected if isinstance(news, Vacancy)]
        taken = [news for news in expected if isinstance(news, Taken) and of.role is Role.ACTIVE]
        assert told == vacated + taken


def test_a_lesser_router_that_becomes_active_is_no_successor() -> None:
    standings, of = Standings(holds=True), active(sync_group(instance()))
    assert Taken(False) not in take(standings, of, "r2", ENTERING, 50)
    assert Taken(True) in take(standings, of, "r2", ACTIVE, 50)
    take(standings, of, "r2", READY, 50)
    feed(of, 0, Company(takes=True), Failover())
    assert of.offer.pending
    assert Taken(False) in take(standings, of, "r2", ENTERING, 50), "it takes what is offered"


def test_under_split_a_better_router_is_heard_by_its_adverts() -> None:
    """Heartbeats come by other paths too: each half of a divided LAN keeps its gateway."""
    standings, of = Standings(holds=False), active(sync_group(instance()))
    assert take(standings, of, "r2", ENTERING) == []


@pytest.mark.parametrize(
    ("posts", "company"),
    [
        ([(READY, 100, True)], Company(takes=True)),
        ([(READY, 100, False)], Company()),  # an older release
        ([(READY, 100, True), (READY, 90, False)], Company(takes=True)),
        ([(READY, 100, False), (READY, 90, True)], Company()),  # the best one would be asked
        ([(OUT, 100, True)], Company()),
        ([(DEAD, 100, True)], Company()),
        ([(ENTERING, 100, True)], Company(takes=True)),
        ([(ACTIVE, 100, True)], Company(offers=True)),
        ([(ACTIVE, 100, False)], Company()),
        ([(OFFERING, 100, True), (READY, 100, True)], Company(takes=True, offers=True)),
        ([(UNLINKED, 100, True), (READY, 100, True)], Company()),
    ],
)
def test_who_would_take_the_role_and_who_would_offer_it(
    posts: list[tuple[Post, int, bool]], company: Company
) -> None:
    standings, of = Standings(holds=False), group()
    for number, (post, priority, takes) in enumerate(posts):
        found = Seat(post, (priority, LOWER), (), takes)
        standings.take(f"r{number}", {"LAN": found}, True, {"LAN": of}, 0)
    assert standings.company("LAN") == company


def test_a_heartbeat_says_that_a_router_gives_way() -> None:
    deaf, entries = active(sync_group(instance(preempt=False))), [Entry("LAN", 51, 4, HIGHER)]
    standing = standing_of(deaf, deaf.members[0], True)
    assert standing[0] == IS_ACTIVE | LINK | TAKES | GIVES_WAY
    standings, of = Standings(holds=False), group()
    found = seats([of], entries, {"LAN": 0}, standing)
    assert (
        Company(offers=True, give_way=frozenset((HIGHER,)))
        == dict(standings.take("r2", found, True, {"LAN": of}, 0))["LAN"]
    )
    deaf.handle(Company(takes=True), 0)
    assert standing_of(deaf, deaf.members[0], True)[0] == IS_ACTIVE | LINK | TAKES


def test_a_heartbeat_says_what_a_group_does_with_its_role() -> None:
    of = group()
    assert standing_of(of, of.members[0], True)[0] == BACKUP | LINK | TAKES
    of.handle(Ballot(True, True, False), 0)
    assert standing_of(of, of.members[0], False)[0] == BACKUP
    of = active(sync_group(instance()))
    assert standing_of(of, of.members[0], True)[0] == IS_ACTIVE | LINK | TAKES
    of.handle(Company(takes=True), 0)
    of.handle(Failover(), 0)
    assert standing_of(of, of.members[0], True)[0] == IS_OFFERING | LINK | TAKES
    of = SyncGroup(Group("LAN", ("LAN",), implicit=True), [instance()], restores=True)
    active(of)
    assert standing_of(of, of.members[0], True)[0] == IS_ENTERING | LINK | TAKES


def test_the_best_of_those_that_are_left_takes_the_role() -> None:
    for other, post, takes in ((99, READY, True), (101, READY, False), (101, OUT, True), (99, ACTIVE, False)):
        standings, of = Standings(holds=False), group()
        take(standings, of, "r1", ACTIVE)
        take(standings, of, "r3", post, other)
        found = standings.died("r1", {"LAN": of}, 0, 0)
        assert bool(found) is takes, (other, post)
    standings = Standings(holds=False)
    take(standings, of, "r1", ACTIVE)
    standings.take("r3", {"LAN": seat(READY, 100, HIGHER)}, True, {"LAN": of}, 0)
    assert not standings.died("r1", {"LAN": of}, 0, 0), "equal priorities: the greater address"


@pytest.mark.parametrize(("at", "dead"), [(SECOND, True), (SECOND + 1, False)])
def test_who_still_advertises_is_not_dead(at: int, dead: bool) -> None:
    standings, of = Standings(holds=True), group()
    take(standings, of, "r1", ACTIVE)
    of.handle(heard(200, HIGHER), at)
    events = standings.died("r1", {"LAN": of}, 2 * SECOND, SECOND)
    vacated = Vacated(Vacancy.DIED, (("LAN", HIGHER),))
    assert events == [("LAN", vacated)] * dead + [("LAN", Claimed(False))]
    assert standings.seat("r1", "LAN").post is (DEAD if dead else UNKNOWN)


def test_a_role_is_taken_only_from_the_router_that_had_it() -> None:
    of = group()
    of.handle(heard(150, LOWER), SECOND)
    of.handle(Vacated(Vacancy.DIED, (("LAN", HIGHER),)), 2 * SECOND)
    assert of.role is Role.BACKUP, "another router is active"
    of.handle(Vacated(Vacancy.DIED, (("LAN", LOWER),)), 2 * SECOND)
    assert of.role is Role.ACTIVE


def test_the_backup_holds_while_the_neighbour_is_active() -> None:
    standings, of = Standings(holds=True), group()
    assert take(standings, of, "r2", ACTIVE) == [Claimed(True)]
    of.handle(Claimed(True), 0)
    feed(of, 10 * SECOND)
    of.handle(Tick(), 10 * SECOND)
    assert of.role is Role.BACKUP
    assert of.next_deadline() == 10 * SECOND + 3_609_375_000, "and waits as long once more"
    found = take(standings, of, "r2", UNLINKED)
    assert found == [Vacated(Vacancy.UNLINKED, (("LAN", HIGHER),)), Claimed(False)]
    of.handle(found[0], 11 * SECOND)
    assert of.role is Role.ACTIVE


def test_split_is_plain_vrrp() -> None:
    standings, of = Standings(holds=False), group()
    assert take(standings, of, "r2", ACTIVE) == []
    assert standings.take("r2", {"LAN": seat(ACTIVE)}, False, {"LAN": of}, 0) == []
    assert standings.lasting({"LAN": active(of)}, SECOND, 9 * SECOND) == []


def test_who_is_not_heard_yields_and_does_not_preempt() -> None:
    standings, of = Standings(holds=True), active(sync_group(instance(priority=200)))
    found = standings.take("r2", {"LAN": seat(ACTIVE, 50)}, False, {"LAN": of}, 0)
    found += standings.take("r2", {"LAN": seat(ACTIVE, 50)}, False, {"LAN": of}, SECOND // 2)
    assert not standings.lasting({"LAN": of}, SECOND, SECOND - 1), "it may have started just now"
    found += standings.lasting({"LAN": of}, SECOND, SECOND)
    assert [event for _, event in found] == [Taken(True), Claimed(True), Unheard(True)]
    for _, event in found:
        of.handle(event, SECOND)
    assert of.role is Role.BACKUP
    for second in range(1, 10):
        feed(of, second * SECOND, heard(50, LOWER))
    assert of.role is Role.BACKUP
    found = standings.take("r2", {"LAN": seat(ACTIVE, 50)}, True, {"LAN": of}, 9 * SECOND)
    assert found == [("LAN", Unheard(False))]
    of.handle(found[0][1], 9 * SECOND)
    for tenth in range(100, 150):
        feed(of, tenth * SECOND // 10, heard(50, LOWER))
    of.handle(Tick(), 15 * SECOND)
    assert of.role is Role.ACTIVE


def test_two_active_routers_compare_themselves_by_heartbeats() -> None:
    """Only when that lasts: an ordinary change of the role has two for a moment."""
    standings, of = Standings(holds=True), active(sync_group(instance()))
    groups = {"LAN": of}
    take(standings, of, "r2", ACTIVE, 150)
    assert not standings.lasting(groups, SECOND, 0)
    [(name, event)] = standings.lasting(groups, SECOND, SECOND)
    assert isinstance(event, AdvertReceived)
    assert (name, event.source, event.advert.priority) == ("LAN", HIGHER, 150)
    of.handle(event, 5 * SECOND)
    assert of.role is Role.BACKUP
    assert not standings.lasting(groups, SECOND, 9 * SECOND)


def test_names_decide_where_a_vrid_is_on_several_lans() -> None:
    own = [Entry("LAN", 51, 4, OURS), Entry("WAN", 51, 4, OURS), Entry("V6", 51, 6, bytes(16))]
    theirs = [Entry("WAN", 51, 4, LOWER), Entry("LAN", 51, 4, LOWER), Entry("other", 51, 6, bytes(16))]
    assert matching(own, theirs) == {"LAN": 1, "WAN": 0, "V6": 2}
    assert matching(own[:2], [Entry("x", 51, 4, LOWER)]) == {}
    assert matching(own, [Entry("LAN", 9, 4, LOWER)]) == {}


@pytest.mark.parametrize(
    ("track", "said"),
    [
        (Track("interface", "eth9"), INTERFACE),
        (Track("script", "chk"), SCRIPT),
        (Track("service", "web"), SCRIPT),
    ],
)
def test_a_standing_says_what_is_wrong(track: Track, said: int) -> None:
    of = started(sync_group(instance(tracks=(track,))))
    of.handle(TrackerChanged(track.kind, track.name, False), 0)
    assert standing_of(of, of.members[0], True) == bytes((INITIALIZE | LINK, 100, 1 << COUNT_SHIFT | said))
    assert standing_of(of, of.members[0], False)[0] == INITIALIZE


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Standby(), 1),
        (TrackerChanged("interface", "eth9", False), 2),
        (TrackerChanged("script", "chk", False), 4),
        (SourceChanged("LAN", None), 8),
        (EffectFailed("LAN", "route: refused"), 16),
    ],
)
def test_the_faults_of_a_standing_have_these_bits(event: Event, said: int) -> None:
    """Routers of different releases read them."""
    of = started(sync_group(instance(tracks=(Track("interface", "eth9"), Track("script", "chk")))))
    of.handle(event, 0)
    assert standing_of(of, of.members[0], True)[2] & 0x1F == said


def test_who_takes_over_from_a_neighbour_that_had_just_started_keeps_the_role() -> None:
    """The neighbour died before it could say that it hears this router, which held that against itself."""
    standings, of = Standings(holds=True), group()
    groups = {"LAN": of}
    found = standings.take("r2", {"LAN": seat(ACTIVE)}, False, groups, 0)
    found += standings.lasting(groups, SECOND, SECOND)
    assert ("LAN", Unheard(True)) in found
    found += standings.died("r2", groups, SECOND + 1, SECOND)
    for _, event in found:
        of.handle(event, SECOND + 1)
    assert of.role is Role.ACTIVE


def test_a_seat_in_a_group_of_one() -> None:
    ours = started(sync_group(instance("LAN")))
    entries = [Entry("other", 9, 4, LOWER), Entry("LAN", 51, 4, HIGHER)]
    said = bytes((1, 1, 0)) + standing_of(active(sync_group(instance("LAN"))), ours.members[0], True)
    found = seats([ours], entries, matching([Entry("LAN", 51, 4, OURS)], entries), said)
    assert found["LAN"].post is ACTIVE and found["LAN"].rank == (100, HIGHER)


def test_a_neighbour_that_came_back_is_deaf_anew() -> None:
    """It has just started, and hears nothing yet: nobody yields for that."""
    standings, of = Standings(holds=True), active(sync_group(instance(priority=200)))
    groups = {"LAN": of}
    standings.take("r2", {"LAN": seat(ACTIVE, 50)}, False, groups, 0)
    standings.forget("r2", groups)
    standings.take("r2", {"LAN": seat(ACTIVE, 50)}, False, groups, 5 * SECOND)
    assert ("LAN", Unheard(True)) not in standings.lasting(groups, SECOND, 5 * SECOND)
    assert ("LAN", Unheard(True)) in standings.lasting(groups, SECOND, 6 * SECOND)


def test_a_seat_is_made_of_the_members_standings() -> None:
    members = [instance("LAN", priority=150), instance("WAN", priority=150)]
    theirs = active(SyncGroup(Group("H", ("LAN", "WAN")), members))
    ours = started(SyncGroup(Group("G", ("LAN", "WAN")), members))
    entries = [Entry(name, 51, 4, OURS) for name in ("LAN", "WAN")]
    matched = matching(entries, entries)
    for links, post in (((True, True), ACTIVE), ((True, False), UNLINKED)):
        said = b"".join(standing_of(theirs, *each) for each in zip(theirs.members, links, strict=True))
        found = seats([ours], entries, matched, said)
        assert found == {"G": Seat(post, (150, OURS), (("LAN", OURS), ("WAN", OURS)), takes=True)}
    said = b"".join(standing_of(ours, member, True) for member in ours.members)
    assert seats([ours], entries, matched, said)["G"].post is READY
    assert seats([ours], entries, {}, said) == {}


@pytest.mark.parametrize(
    ("own", "theirs", "leads_it"),
    [
        ((IS_ACTIVE,), (BACKUP,), True),
        ((IS_ACTIVE | LINK, IS_ACTIVE | TAKES), (INITIALIZE, BACKUP | LINK), True),
        ((IS_ACTIVE,), (), True),
        ((BACKUP,), (BACKUP,), False),
        ((IS_ACTIVE, BACKUP), (BACKUP, IS_ACTIVE), False),  # they share the groups
        ((IS_OFFERING,), (BACKUP,), False),
        ((IS_ACTIVE,), (IS_ENTERING,), False),
        ((IS_ENTERING,), (BACKUP,), False),
    ],
)
def test_an_active_router_leads_who_is_active_for_nothing(
    own: tuple[int, ...], theirs: tuple[int, ...], leads_it: bool
) -> None:
    said = [b"".join(bytes((state, 100, 0)) for state in states) for states in (own, theirs)]
    assert leads(*said) is leads_it


@pytest.mark.parametrize(
    ("peers", "leads_all", "follows_one"),
    [
        ([], True, False),
        ([((BACKUP,), True), ((INITIALIZE,), True)], True, False),
        ([((BACKUP,), True), ((IS_ENTERING,), True)], False, False),
        ([((BACKUP,), True), ((BACKUP,), False)], False, False),  # dead, or does not hear this router
        ([((BACKUP,), True), (None, True)], False, False),
    ],
)
def test_a_router_leads_when_it_leads_every_peer(
    peers: list[tuple[tuple[int, ...] | None, bool]], leads_all: bool, follows_one: bool
) -> None:
    said = [(None if states is None else bytes((states[0], 100, 0)), hears) for states, hears in peers]
    assert leadership(bytes((IS_ACTIVE, 100, 0)), said) == (leads_all, follows_one)


def test_a_router_follows_when_one_peer_leads_it() -> None:
    active, backup = bytes((IS_ACTIVE, 100, 0)), bytes((BACKUP, 100, 0))
    for hears in (True, False):
        assert leadership(backup, [(backup, True), (active, hears), (None, False)]) == (False, True)
    assert leadership(backup, [(backup, True)]) == (False, False)
