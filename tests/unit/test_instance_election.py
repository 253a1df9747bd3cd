# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual router among others: rhythm, resignation, preemption, two actives. Times are literals in ns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem.core.actions import Announce, Beat, Contested, Greet, Remove, SendAdvert, Transition, Withdraw
from tandem.core.events import (
    Company,
    Failover,
    Start,
    Tick,
    TrackerChanged,
)
from tandem.core.settings import Garp, Group, Track
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import SECOND
from tandem.core.virtual_router import DEAF
from tests.unit.scenario import (
    HIGHER,
    LOWER,
    QUIET,
    active,
    feed,
    heard,
    instance,
    of,
    ready,
    run,
    started,
    sync_group,
)

BACKUP, ACTIVE = Role.BACKUP, Role.ACTIVE


# Timers of the active -------------------------------------------------------------------------


def test_adverts_keep_their_rhythm_when_the_loop_is_late() -> None:
    group = active(sync_group(instance()))
    assert group.handle(Tick(), 1_000_300_000) == [SendAdvert("LAN", 100)]
    assert group.next_deadline() == 2_000_000_000
    # a whole interval and more missed: one advert, and a new rhythm
    assert group.handle(Tick(), 3_900_000_000) == [SendAdvert("LAN", 100)]
    assert group.next_deadline() == 4_900_000_000


def test_announcements_are_repeated_after_delay_and_then_refreshed() -> None:
    garp = Garp(delay_ms=5000, repeat=4, refresh_ms=7000, refresh_repeat=2)
    group = active(sync_group(instance(advert_int_cs=4000, garp=garp)))
    assert run(group, 30_000_000_000) == [
        (10_000_000, [Announce("LAN", 1)]),  # the loser may have spoken last
        (100_000_000, [Announce("LAN", 1)]),
        (1_000_000_000, [Announce("LAN", 1)]),
        (5_000_000_000, [Announce("LAN", 4)]),
        (7_000_000_000, [Announce("LAN", 2)]),
        (14_000_000_000, [Announce("LAN", 2)]),
        (21_000_000_000, [Announce("LAN", 2)]),
        (28_000_000_000, [Announce("LAN", 2)]),
    ]


def test_a_late_loop_announces_once_for_all_that_was_due() -> None:
    group = active(sync_group(instance(advert_int_cs=4000, garp=Garp(delay_ms=5000, repeat=4))))
    assert group.handle(Tick(), 500_000_000) == [Announce("LAN", 1)]
    assert group.next_deadline() == 1_000_000_000


def test_announcements_end_with_the_role() -> None:
    group = active(sync_group(instance(garp=Garp(delay_ms=5000, refresh_ms=7000))))
    group.handle(heard(200), 1)
    assert all(not of(Announce, actions) or at >= 3_609_375_001 for at, actions in run(group, 9_000_000_000))
    assert group.role is ACTIVE


def test_a_lesser_router_that_speaks_up_is_answered_with_announcements() -> None:
    garp = replace(QUIET, lower_prio_repeat=3, lower_prio_delay_ms=5000)
    group = active(sync_group(instance(garp=garp)))
    told = [SendAdvert("LAN", 100), Announce("LAN", 3), Contested("LAN", 100)]
    assert group.handle(heard(50), 500_000_000) == told
    # its next adverts are answered, but the LAN is not flooded with announcements
    assert group.handle(heard(50), 1_000_000_000) == [SendAdvert("LAN", 100)]
    announced = [(at, actions) for at, actions in run(group, 20_000_000_000) if of(Announce, actions)]
    assert announced == [(5_500_000_000, [Announce("LAN", 3)])]
    assert group.handle(heard(50), 20_500_000_000) == told


def test_without_garp_lower_prio_delay_there_is_no_second_announcement() -> None:
    garp = replace(QUIET, lower_prio_repeat=3, lower_prio_delay_ms=0)
    group = active(sync_group(instance(garp=garp)))
    assert of(Announce, group.handle(heard(50), 500_000_000)) == [Announce("LAN", 3)]
    assert not [actions for _, actions in run(group, 20_000_000_000) if of(Announce, actions)]


def test_a_goodbye_is_answered_without_announcements() -> None:
    group = active(sync_group(instance(garp=replace(QUIET, lower_prio_repeat=3))))
    assert group.handle(heard(0), 500_000_000) == [SendAdvert("LAN", 100)]


def test_a_flood_of_lesser_adverts_is_answered_every_10_ms_at_most() -> None:
    group = active(sync_group(instance(garp=Garp(delay_ms=0))))
    answers = [
        feed(group, at, Tick(), heard(1 + at // 100_000 % 99)) for at in range(0, 100_000_000, 100_000)
    ]  # 1000 in 100 ms
    assert len([actions for actions in answers if of(SendAdvert, actions)]) == 10
    assert len([actions for actions in answers if of(Announce, actions)]) == 1


def test_every_goodbye_is_answered_within_10_ms() -> None:
    group = active(sync_group(instance()))
    assert group.handle(heard(0), 500_000_000) == [SendAdvert("LAN", 100)]
    assert group.handle(heard(0), 501_000_000) == []
    assert group.next_deadline() == 510_000_000
    assert group.handle(Tick(), 510_000_000) == [SendAdvert("LAN", 100)]
    assert group.next_deadline() == 1_510_000_000


def test_a_changed_weight_is_said_at_once_and_only_when_it_changes_the_priority() -> None:
    group = active(sync_group(instance(tracks=(Track("script", "chk", 20), Track("script", "min", 254)))))
    assert group.handle(TrackerChanged("script", "chk", True), 300_000_000) == [SendAdvert("LAN", 120)]
    assert group.next_deadline() == 1_300_000_000
    assert group.handle(TrackerChanged("script", "chk", True), 400_000_000) == []
    assert group.handle(TrackerChanged("script", "min", True), 500_000_000) == [SendAdvert("LAN", 254)]
    assert group.handle(TrackerChanged("script", "chk", False), 600_000_000) == []


# Timers of the backup -------------------------------------------------------------------------


def test_version_3_learns_the_interval_of_the_active() -> None:
    group = started(sync_group(instance(advert_int_cs=100)))
    group.handle(heard(200, interval_cs=10), 1_000_000_000)
    assert group.next_deadline() == 1_360_937_500
    group.handle(heard(200, interval_cs=1000), 1_100_000_000)
    assert group.next_deadline() == 37_193_750_000


def test_version_2_keeps_its_own_interval() -> None:
    group = started(sync_group(instance(version=2)))
    group.handle(heard(200, interval_cs=1000, version=2), 1_000_000_000)
    assert group.next_deadline() == 4_609_375_000


def test_an_interval_is_not_learned_from_an_active_that_is_to_be_preempted() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(50, interval_cs=4095), 1_000_000_000)
    assert group.next_deadline() == 3_609_375_000


def test_an_interval_once_learned_is_forgotten_with_the_router_that_taught_it() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, interval_cs=4095), 0)
    group.handle(Tick(), 147_803_906_250)
    assert group.role is ACTIVE
    group.handle(Failover(), 150_000_000_000)
    assert group.next_deadline() == 153_609_375_000


def test_backup_keeps_reading_the_followed_router_as_peer() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, HIGHER, interval_cs=10), 123)
    peer = group.members[0].peer
    assert peer is not None
    assert (peer.source, peer.priority, peer.interval_cs, peer.heard) == (HIGHER, 200, 10, 123)


def test_a_new_priority_of_the_backup_counts_from_the_next_advert_on() -> None:
    group = started(sync_group(instance(tracks=(Track("script", "chk", -20),))))
    group.handle(TrackerChanged("script", "chk", False), 0)
    group.handle(heard(90), 1_000_000_000)
    assert group.next_deadline() == 4_687_500_000  # 3 s + 176/256 s
    group.handle(TrackerChanged("script", "chk", True), 2_000_000_000)
    group.handle(heard(90), 2_500_000_000)
    assert group.next_deadline() == 4_687_500_000, "90 is less than 100 again"


# Resignation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("priority", "wait"), [(100, 780_000), (254, 10_000), (1, 1_275_000)])
def test_goodbye_of_the_active_is_answered_after_the_short_skew(priority: int, wait: int) -> None:
    group = started(sync_group(instance(priority=priority)))
    group.handle(heard(255), 0)
    assert group.handle(heard(0), 500_000_000) == []
    assert group.next_deadline() == 500_000_000 + wait
    assert group.handle(Tick(), 500_000_000 + wait)[-1] == Transition(
        "LAN", "MASTER", priority, "the active router resigned"
    )


def test_goodbye_said_twice_does_not_make_us_wait_twice() -> None:
    group = started(sync_group(instance()))
    feed(group, 0, heard(200))
    feed(group, 500_000_000, heard(0))
    feed(group, 500_700_000, heard(0))
    assert group.next_deadline() == 500_780_000


def test_goodbye_before_anyone_was_heard_is_from_the_active() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(0), 500_000_000)
    assert group.next_deadline() == 500_780_000


def test_an_advert_after_the_goodbye_calls_the_election_off() -> None:
    group = started(sync_group(instance()))
    feed(group, 0, heard(200), heard(0))
    group.handle(heard(150, LOWER), 500_000)
    assert group.next_deadline() == 3_609_875_000


def test_a_lesser_router_that_answers_the_goodbye_first_is_preempted() -> None:
    group = started(sync_group(instance()))
    feed(group, 0, heard(200), heard(0))
    group.handle(heard(50, LOWER), 500_000)
    assert group.next_deadline() == 780_000
    group.handle(Tick(), 780_000)
    assert group.role is ACTIVE


def test_goodbye_of_another_shortens_the_wait_until_the_active_speaks() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, HIGHER), 0)
    group.handle(heard(0, LOWER), 100_000_000)
    assert group.next_deadline() == 709_375_000
    group.handle(heard(200, HIGHER), 500_000_000)
    assert group.next_deadline() == 4_109_375_000


def test_goodbye_of_another_with_an_active_that_is_dead_is_silence_not_preemption() -> None:
    group = started(sync_group(instance()))
    feed(group, 0, heard(200, HIGHER), heard(0, LOWER))
    why = "no advertisement from an active router"
    assert group.handle(Tick(), 609_375_000)[-1] == Transition("LAN", "MASTER", 100, why)


def test_goodbye_of_a_lesser_router_beside_the_active_leaves_no_gap() -> None:
    group = started(sync_group(instance()))
    feed(group, 0, heard(200, HIGHER), heard(50, LOWER))
    group.handle(heard(0, LOWER), 100_000_000)
    assert group.next_deadline() == 709_375_000  # as for any other stranger: the skew time


def test_goodbye_of_another_never_lengthens_the_wait() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, HIGHER), 0)
    group.handle(heard(0, LOWER), 3_500_000_000)
    assert group.next_deadline() == 3_609_375_000


# Preemption -----------------------------------------------------------------------------------


def test_preempt_waits_for_the_timer_and_then_takes_over() -> None:
    group = started(sync_group(instance()))
    for at in range(0, 3_600_000_000, 1_000_000_000):
        assert group.handle(heard(50), at) == []
    actions = group.handle(Tick(), 3_609_375_000)
    assert actions[0] == SendAdvert("LAN", 100)
    assert actions[-1] == Transition("LAN", "MASTER", 100, "preempts a router of lower priority")


def test_nopreempt_follows_a_lesser_router_and_replaces_it_when_it_dies() -> None:
    group = started(sync_group(instance(preempt=False)))
    group.handle(heard(50), 3_000_000_000)
    assert group.next_deadline() == 6_609_375_000
    group.handle(heard(0), 4_000_000_000)
    assert group.next_deadline() == 4_000_780_000


def test_nopreempt_does_not_matter_to_an_active() -> None:
    group = active(sync_group(instance(preempt=False)))
    run(group, DEAF)
    assert group.handle(heard(50), DEAF + 1)[0] == SendAdvert("LAN", 100)
    assert group.role is ACTIVE
    group.handle(heard(150), DEAF + 20_000_000)
    assert group.role is BACKUP


def test_down_timer_adverts_are_those_that_may_be_missed() -> None:
    group = started(sync_group(instance(down_timer_adverts=5)))
    group.handle(heard(150), 1_000_000_000)
    assert group.next_deadline() == 6_609_375_000


@pytest.mark.parametrize(
    ("settings", "patience"),
    [({"preempt": False}, DEAF), ({"preempt_delay_ms": 60_000}, 60_000_000_000)],
)
def test_a_router_that_was_deaf_gives_way_to_one_that_was_active(
    settings: dict[str, Any], patience: int
) -> None:
    """Its switch port forwarded nothing at first: it became active beside another router, unheard."""
    came_up = -3_609_375_000
    group = active(sync_group(instance(**settings)))
    run(group, came_up + patience - 1)
    why = "another router was active before"
    assert group.handle(heard(50), came_up + patience - 1) == [
        Remove(("LAN",)), Beat("LAN"), SendAdvert("LAN", 0), Withdraw(("LAN",)),
        Transition("LAN", "BACKUP", 100, why),
    ]  # fmt: skip
    assert run(group, came_up + patience + 3 * SECOND) == []
    late = active(sync_group(instance(**settings)))
    run(late, came_up + patience)
    late.handle(heard(50), came_up + patience)
    assert late.role is ACTIVE


def test_a_router_that_may_preempt_gives_way_to_no_lesser_one() -> None:
    for settings in ({}, {"preempt": False, "priority": 255}):
        group = active(sync_group(instance(**settings)))
        group.handle(heard(50), 1)
        assert group.role is ACTIVE


def test_a_router_that_has_heard_another_one_is_not_deaf() -> None:
    group = started(sync_group(instance(preempt=False)))
    group.handle(heard(50), 0)
    run(group, 4_000_000_000)
    assert group.role is ACTIVE
    group.handle(heard(50, LOWER), 4_100_000_000)
    assert group.role is ACTIVE


def test_a_router_whose_neighbour_is_ready_is_not_deaf() -> None:
    group = active(sync_group(instance(preempt=False)))
    group.handle(Company(takes=True), 1)
    group.handle(heard(50), 2)
    assert group.role is ACTIVE


def test_a_better_router_that_gives_way_is_not_yielded_to() -> None:
    """Otherwise both would leave the role: the better one to the earlier, and the earlier to the better."""
    group = active(sync_group(instance()))
    group.handle(Company(give_way=frozenset((HIGHER,))), 1)
    assert of(SendAdvert, group.handle(heard(150), 2)), "it says that it goes on"
    assert group.role is ACTIVE
    group.handle(Company(), 3)
    group.handle(heard(150), 4)
    assert group.role is BACKUP


@pytest.mark.parametrize(("priority", "role"), [(50, ACTIVE), (150, BACKUP)], ids=["lesser", "better"])
def test_of_two_deaf_routers_the_better_one_stays(priority: int, role: Role) -> None:
    group = active(sync_group(instance(preempt=False)))
    group.handle(Company(give_way=frozenset((HIGHER,))), 1)
    group.handle(heard(priority), 2)
    assert group.role is role


def test_a_link_that_returns_makes_deaf_again() -> None:
    group = active(sync_group(instance(preempt=False)))
    run(group, 2 * DEAF)
    feed(group, 2 * DEAF, TrackerChanged("interface", "lan", False), TrackerChanged("interface", "lan", True))
    run(group, 2 * DEAF + 4 * SECOND)
    assert group.role is ACTIVE
    group.handle(heard(50), 2 * DEAF + 5 * SECOND)
    assert group.role is BACKUP


def test_a_unicast_peer_may_have_to_resolve_us_first() -> None:
    """A tenth of a second between adverts, but a second between two questions of ARP."""
    group = ready(sync_group(instance(advert_int_cs=10, unicast_peers=("192.168.1.3",))))
    assert of(Greet, group.handle(Start(), 0)) == [Greet("LAN")]
    assert group.next_deadline() == SECOND
    group.handle(heard(200, interval_cs=10), SECOND - 1)
    assert group.next_deadline() == SECOND - 1 + 360_937_500


def test_who_yields_says_so_once() -> None:
    """The better router, which may not know of this one, tells hosts where the addresses are."""
    group = active(sync_group(instance()))
    assert group.handle(heard(200), 1)[:2] == [Remove(("LAN",)), SendAdvert("LAN", 100)]
    silent = active(sync_group(instance(higher_prio_send_advert=False)))
    assert not of(SendAdvert, silent.handle(heard(200), 1))


def preempting(group: SyncGroup) -> int:
    """Preempt the router of priority 50; return when this became active, ns."""
    group = started(group)
    for at in range(SECOND, 4 * SECOND, SECOND):
        run(group, at)
        group.handle(heard(50), at)
    run(group, 3_609_375_000)
    assert group.role is ACTIVE
    return 3_609_375_000


def test_the_last_words_of_a_preempted_router_are_no_contest() -> None:
    group = sync_group(instance(garp=Garp()))
    now = preempting(group)
    assert group.handle(heard(50), now + 1_000_000) == [SendAdvert("LAN", 100)]
    # another router, or the same one when it goes on: it does not hear us
    told = group.handle(heard(50, LOWER), now + 20_000_000)
    assert of(Announce, told) and of(Contested, told)
    now = preempting(deaf := sync_group(instance(garp=Garp())))
    run(deaf, now + SECOND - 1)
    assert not of(Contested, deaf.handle(heard(50), now + SECOND - 1))
    run(deaf, now + SECOND)
    assert of(Contested, deaf.handle(heard(50), now + SECOND))


def test_every_heal_is_announced() -> None:
    """Another partition within garp_lower_prio_delay of the last one."""
    group = active(sync_group(instance(garp=Garp())))
    for heal in (10, 14, 18, 22):
        run(group, heal * SECOND - 1)
        assert of(Announce, group.handle(heard(50), heal * SECOND))


def test_preempt_delay_counts_from_the_first_lesser_advert() -> None:
    group = started(sync_group(instance(preempt_delay_ms=10_000)))
    for at in range(1_000_000_000, 11_000_000_000, 1_000_000_000):  # 1 .. 10 s: followed
        group.handle(heard(50), at)
        assert group.next_deadline() == at + 3_609_375_000
    group.handle(heard(50), 11_000_000_000)  # not any more
    assert group.next_deadline() == 13_609_375_000


def test_preempt_delay_does_not_delay_the_replacement_of_a_dead_router() -> None:
    group = started(sync_group(instance(preempt_delay_ms=1_000_000)))
    group.handle(heard(50), 1_000_000_000)
    group.handle(Tick(), 4_609_375_000)
    assert group.role is ACTIVE


def test_preempt_delay_starts_again_after_a_better_router_was_there() -> None:
    group = started(sync_group(instance(preempt_delay_ms=2_000)))
    feed(group, 0, heard(50))
    feed(group, 1_000_000_000, heard(150, LOWER))
    feed(group, 3_000_000_000, heard(50))
    assert group.next_deadline() == 6_609_375_000


# Two actives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priority", "source", "yields"),
    [(99, HIGHER, False), (100, LOWER, False), (100, HIGHER, True), (101, LOWER, True)],
)
def test_of_two_actives_the_higher_priority_and_then_the_higher_address_stays(
    priority: int, source: bytes, yields: bool
) -> None:
    group = active(sync_group(instance()))
    group.handle(heard(priority, source), 1)
    assert group.role is (BACKUP if yields else ACTIVE)


def test_ipv6_link_local_addresses_compare_as_numbers() -> None:
    ours, less = bytes.fromhex("fe80" + 12 * "00" + "0100"), bytes.fromhex("fe80" + 12 * "00" + "00ff")
    group = active(sync_group(instance(family=6)), source=ours)
    group.handle(heard(100, less), 1)
    assert group.role is ACTIVE


def test_without_an_address_of_our_own_a_tie_is_lost() -> None:
    vi = instance(track_primary=False)
    group = SyncGroup(Group("LAN", ("LAN",), implicit=True), [vi])
    group.handle(Start(), 0)
    group.handle(Tick(), 3_609_375_000)
    assert group.role is ACTIVE
    group.handle(heard(100, LOWER), 4_000_000_000)
    assert group.role is BACKUP


def test_a_resignation_was_forged_when_its_router_goes_on_at_once() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200), 0)
    group.handle(heard(0), SECOND)
    group.handle(Tick(), 2 * SECOND)
    [member] = group.members
    assert member.role is ACTIVE
    advert, farewell = heard(200).advert, heard(0).advert
    assert member.was_deceived(advert, HIGHER, 3 * SECOND - 1)
    assert not member.was_deceived(farewell, HIGHER, 3 * SECOND - 1), "it says goodbye once more"
    assert not member.was_deceived(advert, LOWER, 3 * SECOND - 1), "another router"
    assert not member.was_deceived(advert, HIGHER, 3 * SECOND), "it has listened, and is active again"
    group.handle(heard(200), 3 * SECOND - 1)
    assert member.role is BACKUP and not member.was_deceived(advert, HIGHER, 3 * SECOND - 1)
