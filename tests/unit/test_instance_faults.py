# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual router and its own machine: operator, faults, effects that fail, reloads. Times are in ns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Greet,
    Install,
    Remove,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.events import (
    EffectFailed,
    Event,
    Failover,
    Rebound,
    Resume,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Tick,
    TrackerChanged,
)
from tandem.core.reload import reconfigure
from tandem.core.settings import Instance, Track
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import (
    LOWER,
    OURS,
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

INITIALIZE, BACKUP, ACTIVE = Role.INITIALIZE, Role.BACKUP, Role.ACTIVE

COMES_UP = [Greet("LAN"), Transition("LAN", "BACKUP", 100, "started")]


# Operator -------------------------------------------------------------------------------------


def test_failover_holds_until_active_again() -> None:
    group = active(sync_group(instance()))
    group.handle(Failover(), 0)
    assert group.held
    group.handle(heard(50), 2_000_000)  # the peer took over; we do not preempt it
    assert group.next_deadline() == 3_611_375_000
    group.handle(Tick(), 3_611_375_000)  # it died
    assert (group.role, group.held) == (ACTIVE, False)


def test_failover_without_a_peer_ends_by_itself() -> None:
    group = active(sync_group(instance()))
    group.handle(Failover(), 0)
    assert run(group, 3_700_000_000)[0][0] == 3_609_375_000
    assert (group.role, group.held) == (ACTIVE, False)


def test_resume_lifts_the_hold() -> None:
    group = active(sync_group(instance()))
    feed(group, 0, Failover(), heard(50), Resume())
    assert not group.held
    group.handle(heard(50), 3_000_000_000)
    assert group.next_deadline() == 3_609_375_000


def test_failover_says_nothing_to_a_backup() -> None:
    group = started(sync_group(instance()))
    group.handle(Failover(), 0)
    assert not group.held


def test_standby_keeps_out_until_resume() -> None:
    group = active(sync_group(instance()))
    group.handle(Standby(), 0)
    assert group.handle(heard(0), 1_000_000_000) == []
    assert group.next_deadline() is None
    assert group.handle(Standby(), 2_000_000_000) == []
    assert group.handle(Resume(), 3_000_000_000) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]


def test_standby_before_the_start_keeps_out_too() -> None:
    group = ready(sync_group(instance()))
    group.handle(Standby(), 0)
    assert group.handle(Start(), 1) == [Transition("LAN", "FAULT", 100, "standby")]


@pytest.mark.parametrize(
    "event", [Start(), Resume(), Tick(), TrackerChanged("interface", "lan", True), heard(0)]
)
def test_nothing_follows_stop(event: Event) -> None:
    group = active(sync_group(instance()))
    group.handle(Stop(), 0)
    assert group.handle(event, 1) == []
    assert (group.role, group.state, group.next_deadline()) == (INITIALIZE, "STOP", None)


# Faults ---------------------------------------------------------------------------------------


def test_a_fault_that_heals_starts_the_election_again() -> None:
    group = active(sync_group(instance()))
    group.handle(TrackerChanged("interface", "lan", False), 0)
    assert group.handle(TrackerChanged("interface", "lan", True), 1_000_000_000) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]
    assert group.next_deadline() == 4_609_375_000


def test_what_was_learned_before_a_fault_is_forgotten() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, interval_cs=4095), 0)
    group.handle(TrackerChanged("interface", "lan", False), 1)
    assert group.members[0].peer is None
    group.handle(TrackerChanged("interface", "lan", True), 1_000_000_000)
    assert group.next_deadline() == 4_609_375_000


def test_every_fault_has_to_heal() -> None:
    group = active(sync_group(instance()))
    feed(group, 0, TrackerChanged("interface", "lan", False), SourceChanged("LAN", None))
    assert group.faults == ("interface lan down", "no address on lan")
    assert group.handle(TrackerChanged("interface", "lan", True), 1) == []
    assert group.handle(SourceChanged("LAN", OURS), 2) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]


def test_dont_track_primary_ignores_link_and_address() -> None:
    group = active(sync_group(instance(track_primary=False)))
    assert group.tracking.tracks == ()
    assert feed(group, 1, TrackerChanged("interface", "lan", False), SourceChanged("LAN", None)) == []


def test_a_weight_on_its_own_interface_replaces_the_fault() -> None:
    group = active(sync_group(instance(tracks=(Track("interface", "lan", -30),))))
    assert group.handle(TrackerChanged("interface", "lan", False), 1) == [SendAdvert("LAN", 70)]


def test_a_configured_source_address_is_needed_unless_nobody_tracks_it() -> None:
    """Neither option is the other one: `dont_track_primary` is about the interface and its first address."""
    for options, faults in (
        ({}, ("192.168.1.9 is not on lan",)),
        ({"track_primary": False}, ("192.168.1.9 is not on lan",)),
        ({"track_primary": False, "track_src_ip": False}, ()),
    ):
        group = active(sync_group(instance(mcast_src_ip="192.168.1.9", **options)))
        group.handle(SourceChanged("LAN", None), 1)
        assert group.faults == faults


def test_a_script_without_a_result_holds_the_election_back_but_is_no_fault() -> None:
    group = sync_group(instance(tracks=(Track("script", "chk"),)))
    feed(group, 0, TrackerChanged("interface", "lan", True), SourceChanged("LAN", OURS))
    assert group.handle(Start(), 0) == []
    assert (group.state, group.next_deadline()) == ("INIT", None)
    assert group.handle(TrackerChanged("script", "chk", True), 1_000_000_000) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]


def test_a_script_that_fails_first_is_a_fault() -> None:
    group = sync_group(instance(tracks=(Track("script", "chk"),)))
    feed(group, 0, TrackerChanged("interface", "lan", True), SourceChanged("LAN", OURS), Start())
    assert group.handle(TrackerChanged("script", "chk", False), 1) == [
        Transition("LAN", "FAULT", 100, "script chk down")
    ]


# Effects that fail ----------------------------------------------------------------------------


def test_effects_are_tried_again_ever_more_rarely() -> None:
    group = active(sync_group(instance()))
    now, waits = 0, []
    for _ in range(8):
        group.handle(EffectFailed("LAN", "refused"), now)
        again = group.next_deadline()
        assert again is not None
        waits.append((again - now) // 1_000_000_000)
        assert group.handle(Tick(), again) == COMES_UP
        now = again + 3_609_375_000
        group.handle(Tick(), now)
        assert group.role is ACTIVE
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_failure_long_after_the_last_is_the_first_again() -> None:
    group = active(sync_group(instance()))
    group.handle(EffectFailed("LAN", "refused"), 0)
    run(group, 100_000_000_000)
    assert group.role is ACTIVE
    group.handle(EffectFailed("LAN", "refused"), 100_000_000_000)
    assert group.next_deadline() == 110_000_000_000


def test_failures_in_one_breath_are_one() -> None:
    group = active(sync_group(instance()))
    feed(group, 0, EffectFailed("LAN", "address"), EffectFailed("LAN", "route"), EffectFailed("LAN", "rule"))
    assert group.faults == ("LAN: rule",)
    assert group.next_deadline() == 10_000_000_000


def test_a_link_that_comes_back_is_a_reason_to_try_at_once() -> None:
    group = active(sync_group(instance()))
    feed(group, 0, TrackerChanged("interface", "lan", False), EffectFailed("LAN", "no such device"))
    assert group.handle(TrackerChanged("interface", "lan", True), 2_000_000_000) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]
    assert group.next_deadline() == 5_609_375_000


def probation(group: SyncGroup) -> int:
    """An active group that has failed is backup again; the time."""
    group.handle(EffectFailed("LAN", "route refused"), 0)
    again = group.next_deadline()
    assert again is not None
    group.handle(Tick(), again)
    assert (group.role, group.fault_state.probation) == (BACKUP, "LAN: route refused")
    return again


def goes_on(group: SyncGroup, now: int) -> bool:
    """Whether a lesser router that is heard for 20 s stays active."""
    for second in range(20):
        group.handle(heard(50), now + second * 1_000_000_000)
        group.handle(Tick(), now + second * 1_000_000_000 + 900_000_000)
    return group.role is BACKUP


@pytest.mark.parametrize("priority", [100, 255])
def test_who_has_failed_does_not_preempt(priority: int) -> None:
    """Otherwise a router takes the role and fails for ever, and each time nobody is the gateway."""
    group = active(sync_group(instance(priority=priority)))
    assert goes_on(group, probation(group))


def test_who_has_failed_takes_over_from_nobody() -> None:
    group = active(sync_group(instance()))
    run(group, probation(group) + 4_000_000_000)
    assert group.role is ACTIVE


@pytest.mark.parametrize(
    "event", [TrackerChanged("interface", "lan", True), SourceChanged("LAN", LOWER), Resume(), Rebound("LAN")]
)
def test_what_has_changed_ends_probation(event: Event) -> None:
    group = active(sync_group(instance()))
    now = probation(group)
    group.handle(event, now)
    assert group.fault_state.probation == "" and not goes_on(group, now)


def test_a_reload_ends_probation() -> None:
    group = active(sync_group(instance()))
    now = probation(group)
    reload(group, now, instance())
    assert group.fault_state.probation == "" and not goes_on(group, now)


# Reload ---------------------------------------------------------------------------------------


def reload(group: SyncGroup, now: int, *instances: Instance, tracks: tuple[Track, ...] = ()) -> list[Action]:
    return reconfigure(group, replace(group.settings, tracks=tracks), instances, now)


def test_reload_keeps_the_role_and_states_what_is_wanted_once() -> None:
    group = active(sync_group(instance()))
    assert reload(group, 500_000_000, instance(advert_int_cs=300, priority=120)) == [
        SendAdvert("LAN", 120), Install(("LAN",)), Announce("LAN", 5),
    ]  # fmt: skip
    assert group.next_deadline() == 3_500_000_000


def test_reload_of_a_backup_does_nothing_to_be_seen() -> None:
    group = started(sync_group(instance()))
    group.handle(heard(200, interval_cs=10), 0)
    assert reload(group, 100_000_000, instance(priority=120)) == []
    assert group.next_deadline() == 360_937_500
    group.handle(heard(110, interval_cs=10), 200_000_000)
    assert group.next_deadline() == 360_937_500, "the new priority counts"


def test_reload_with_a_fault_installs_nothing_on_the_way_out() -> None:
    group = active(sync_group(instance()))
    group.handle(TrackerChanged("script", "chk", False), 0)
    actions = reload(group, 1, instance(track_primary=False, tracks=(Track("interface", "wan"),)))
    assert of(Install, actions)  # unknown is not down
    assert group.handle(TrackerChanged("interface", "wan", False), 2) == [
        Remove(("LAN",)), Beat("LAN"), SendAdvert("LAN", 0), Withdraw(("LAN",)),
        Transition("LAN", "FAULT", 100, "interface wan down"),
    ]  # fmt: skip
    group = active(sync_group(instance(tracks=(Track("script", "chk", -20),))))
    group.handle(TrackerChanged("script", "chk", False), 0)
    assert reload(group, 1, instance(tracks=(Track("script", "chk"),))) == [
        Remove(("LAN",)), Beat("LAN"), SendAdvert("LAN", 0), Withdraw(("LAN",)),
        Transition("LAN", "FAULT", 100, "script chk down"),
    ]  # fmt: skip


def test_reload_that_ends_the_refresh_ends_it() -> None:
    group = active(sync_group(instance(garp=replace(QUIET, refresh_ms=500))))
    reload(group, 100_000_000, instance())
    assert [actions for _, actions in run(group, 2_200_000_000)] == [[SendAdvert("LAN", 100)]] * 2


def test_reload_that_begins_a_refresh_begins_it() -> None:
    group = active(sync_group(instance()))
    reload(group, 100_000_000, instance(garp=replace(QUIET, refresh_ms=500)))
    assert run(group, 700_000_000) == [(600_000_000, [Announce("LAN", 1)])]


def test_reload_of_the_interval_in_backup_sets_the_timer_anew() -> None:
    group = started(sync_group(instance(version=2)))
    group.handle(heard(200, version=2), 0)
    reload(group, 1_000_000_000, instance(version=2, advert_int_cs=1000))
    assert group.next_deadline() == 31_609_375_000
    group.handle(heard(200, interval_cs=1000, version=2), 5_000_000_000)
    assert group.next_deadline() == 35_609_375_000


def test_reload_clears_the_faults_of_effects_and_their_retry() -> None:
    group = active(sync_group(instance()))
    group.handle(EffectFailed("LAN", "refused"), 0)
    assert reload(group, 1_000_000_000, instance()) == [
        Greet("LAN"),
        Transition("LAN", "BACKUP", 100, "started"),
    ]
    assert group.next_deadline() == 4_609_375_000
    run(group, 4_700_000_000)
    group.handle(EffectFailed("LAN", "refused"), 4_700_000_000)
    assert group.next_deadline() == 24_700_000_000, "the second failure in a short time waits longer"
