# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual router in no sync group: the transition table of RFC 9568 section 6.4, and what hangs on it.

Every time is a literal in ns. In the table adverts are 2 s apart, so that the skew of version 2
(156/256 of a second) and that of version 3 (156/256 of the interval) differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, get_args

import pytest

from tandem.config.schema import Garp, Group, Instance, Track
from tandem.core.actions import Action, Announce, Install, Remove, SendAdvert, Transition
from tandem.core.events import (
    AdvertReceived,
    EffectFailed,
    Event,
    Failover,
    Restored,
    Resume,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Synchronised,
    Tick,
    TrackerChanged,
)
from tandem.core.state import Role, user_state
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import (
    HIGHER,
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

# The table -----------------------------------------------------------------------------------

# Literals for priority 100 and an interval of 2 s: what the deadlines of the table are made of
DOWN = {2: 6_609_375_000, 3: 7_218_750_000}  # Active_Down_Interval
LEARNED = {2: 6_609_375_000, 3: 3_609_375_000}  # the same after an advert that says 1 s: v3 learns it
SKEW = {2: 609_375_000, 3: 1_218_750_000}  # Skew_Time
ADVERT = 2_000_000_000
RESIGNED = 780_000  # (256 - 100) * 5 us
RETRY = 10_000_000_000

ANOTHER = {4: bytes((192, 168, 1, 9)), 6: bytes.fromhex("fe800000000000000000000000000009")}
FOLLOWED = {4: bytes((192, 168, 1, 200)), 6: bytes.fromhex("fe800000000000000000000000000200")}
OWN = {4: bytes((192, 168, 1, 100)), 6: bytes.fromhex("fe800000000000000000000000000100")}
LESS = {4: bytes((192, 168, 1, 99)), 6: bytes.fromhex("fe8000000000000000000000000000ff")}


def _advert(version: int, family: int, priority: int, source: dict[int, bytes]) -> AdvertReceived:
    return heard(priority, source[family], "VI", 200 if version == 2 else 100, version)


# Everything that can happen: a name for the table, and the event for a version and a family
EVENTS: dict[str, Callable[[int, int], Event]] = {
    "start": lambda v, f: Start(),
    "start in 1 s": lambda v, f: Start(1_000_000_000),
    "nothing due": lambda v, f: Tick(),
    "timer": lambda v, f: Tick(),  # Active_Down_Timer in BACKUP, Adver_Timer in ACTIVE
    "priority 0 of the active": lambda v, f: _advert(v, f, 0, FOLLOWED),
    "priority 0 of another": lambda v, f: _advert(v, f, 0, ANOTHER),
    "lower priority": lambda v, f: _advert(v, f, 99, FOLLOWED),
    "equal, lower address": lambda v, f: _advert(v, f, 100, LESS),
    "equal, higher address": lambda v, f: _advert(v, f, 100, FOLLOWED),
    "higher priority": lambda v, f: _advert(v, f, 101, ANOTHER),
    "owner": lambda v, f: _advert(v, f, 255, ANOTHER),
    "link down": lambda v, f: TrackerChanged("interface", "vi", False),
    "link up": lambda v, f: TrackerChanged("interface", "vi", True),
    "weight -20 counts": lambda v, f: TrackerChanged("script", "chk", False),
    "not tracked": lambda v, f: TrackerChanged("script", "other", False),
    "address lost": lambda v, f: SourceChanged("VI", None),
    "address changed": lambda v, f: SourceChanged("VI", ANOTHER[f]),
    "effect failed": lambda v, f: EffectFailed("VI", "no such device"),
    "failover": lambda v, f: Failover(),
    "restored": lambda v, f: Restored(),
    "synchronised": lambda v, f: Synchronised(True),
    "standby": lambda v, f: Standby(),
    "resume": lambda v, f: Resume(),
    "stop": lambda v, f: Stop(),
}


class Row(NamedTuple):
    """What follows: the new role, the actions, and the next deadline in ns after the event."""

    role: Role
    actions: list[Action]
    deadline: dict[int, int] | int | None


def _to(state: str, why: str, priority: int = 100) -> Transition:
    return Transition("VI", state, priority, why)


def _says(priority: int) -> SendAdvert:
    return SendAdvert("VI", priority)


NOTHING = Row(INITIALIZE, [], None)
WAIT = Row(BACKUP, [], {2: DOWN[2] - ADVERT, 3: DOWN[3] - ADVERT})  # events come 2 s after the last advert
RESET = Row(BACKUP, [], LEARNED)
GO_ON = Row(ACTIVE, [], 1_000_000_000)  # and 1 s after our own
ASSERT = Row(ACTIVE, [_says(100)], ADVERT)
TO_BACKUP = Row(BACKUP, [Remove("VI"), _to("BACKUP", "a better router is active")], LEARNED)
TO_ACTIVE: list[Action] = [_says(100), Install("VI"), Announce("VI", 5)]

TABLE: dict[Role, dict[str, Row]] = {
    INITIALIZE: {  # 6.4.1
        "start": Row(BACKUP, [_to("BACKUP", "started")], DOWN),
        "start in 1 s": Row(INITIALIZE, [], 1_000_000_000),
        "nothing due": NOTHING,
        "timer": NOTHING,
        "priority 0 of the active": NOTHING,
        "priority 0 of another": NOTHING,
        "lower priority": NOTHING,
        "equal, lower address": NOTHING,
        "equal, higher address": NOTHING,
        "higher priority": NOTHING,
        "owner": NOTHING,
        "link down": NOTHING,  # not reported before the start
        "link up": NOTHING,
        "weight -20 counts": NOTHING,
        "not tracked": NOTHING,
        "address lost": NOTHING,
        "address changed": NOTHING,
        "effect failed": Row(INITIALIZE, [], RETRY),
        "failover": NOTHING,
        "restored": NOTHING,
        "synchronised": NOTHING,
        "standby": NOTHING,
        "resume": NOTHING,
        "stop": Row(INITIALIZE, [_to("STOP", "stopped")], None),
    },
    BACKUP: {  # 6.4.2
        "start": WAIT,
        "start in 1 s": Row(BACKUP, [], 1_000_000_000),
        "nothing due": WAIT,
        "timer": Row(ACTIVE, [*TO_ACTIVE, _to("MASTER", "no advertisement from an active router")], ADVERT),
        "priority 0 of the active": Row(BACKUP, [], RESIGNED),  # the RFC: SKEW
        "priority 0 of another": Row(BACKUP, [], SKEW),
        "lower priority": WAIT,  # Preempt_Mode
        "equal, lower address": RESET,  # the address decides between actives only
        "equal, higher address": RESET,
        "higher priority": RESET,
        "owner": RESET,
        "link down": Row(INITIALIZE, [_to("FAULT", "interface vi down")], None),
        "link up": WAIT,
        "weight -20 counts": WAIT,
        "not tracked": WAIT,
        "address lost": Row(INITIALIZE, [_to("FAULT", "no address on vi")], None),
        "address changed": WAIT,
        "effect failed": Row(INITIALIZE, [_to("FAULT", "VI: no such device")], RETRY),
        "failover": WAIT,
        "restored": WAIT,
        "synchronised": WAIT,
        "standby": Row(INITIALIZE, [_to("FAULT", "standby")], None),
        "resume": WAIT,
        "stop": Row(INITIALIZE, [_to("STOP", "stopped")], None),
    },
    ACTIVE: {  # 6.4.3
        "start": GO_ON,
        "start in 1 s": Row(ACTIVE, [], 1_000_000_000),
        "nothing due": GO_ON,
        "timer": Row(ACTIVE, [_says(100)], ADVERT),
        "priority 0 of the active": ASSERT,
        "priority 0 of another": ASSERT,
        "lower priority": ASSERT,
        "equal, lower address": ASSERT,
        "equal, higher address": TO_BACKUP,
        "higher priority": TO_BACKUP,
        "owner": TO_BACKUP,
        "link down": Row(INITIALIZE, [Remove("VI"), _says(0), _to("FAULT", "interface vi down")], None),
        "link up": GO_ON,
        "weight -20 counts": Row(ACTIVE, [_says(80)], ADVERT),
        "not tracked": GO_ON,
        "address lost": Row(INITIALIZE, [Remove("VI"), _says(0), _to("FAULT", "no address on vi")], None),
        "address changed": GO_ON,
        "effect failed": Row(INITIALIZE, [Remove("VI"), _says(0), _to("FAULT", "VI: no such device")], RETRY),
        "failover": Row(BACKUP, [Remove("VI"), _says(0), _to("BACKUP", "failover asked for")], DOWN),
        "restored": GO_ON,
        "synchronised": GO_ON,
        "standby": Row(INITIALIZE, [Remove("VI"), _says(0), _to("FAULT", "standby")], None),
        "resume": GO_ON,
        "stop": Row(INITIALIZE, [Remove("VI"), _says(0), _to("STOP", "stopped")], None),
    },
}


def _router(version: int, family: int) -> SyncGroup:
    chk = Track("script", "chk", -20)
    return sync_group(instance("VI", version=version, family=family, advert_int_cs=200, tracks=(chk,)))


def _in_role(role: Role, version: int, family: int) -> SyncGroup:
    """In BACKUP: FOLLOWED was heard at 0. In ACTIVE: since 0."""
    group = _router(version, family)
    if role is INITIALIZE:
        ready(group, 0, OWN[family])
    elif role is BACKUP:
        started(group, 0, OWN[family])
        group.handle(heard(200, FOLLOWED[family], "VI", 200, version), 0)
    else:
        active(group, 0, OWN[family])
    assert group.role is role
    return group


@pytest.mark.parametrize(("version", "family"), [(2, 4), (3, 4), (3, 6)])
@pytest.mark.parametrize(("role", "name"), [(role, name) for role, rows in TABLE.items() for name in rows])
def test_transition(role: Role, name: str, version: int, family: int) -> None:
    row = TABLE[role][name]
    group = _in_role(role, version, family)
    if name == "timer":
        now = {INITIALIZE: 0, BACKUP: DOWN[version], ACTIVE: ADVERT}[role]
    else:
        now = {INITIALIZE: 0, BACKUP: 2_000_000_000, ACTIVE: 1_000_000_000}[role]
    actions = group.handle(EVENTS[name](version, family), now)
    assert (group.role, actions) == (row.role, row.actions)
    after = row.deadline[version] if isinstance(row.deadline, dict) else row.deadline
    assert group.next_deadline() == (None if after is None else now + after)


def test_the_table_has_every_role_and_every_event() -> None:
    assert set(TABLE) == set(Role)
    for role, rows in TABLE.items():
        assert list(rows) == list(EVENTS), role
    exercised = {type(make(3, 4)) for make in EVENTS.values()}
    assert exercised == set(get_args(Event))


def test_the_words_that_users_know() -> None:
    assert [user_state(role, False) for role in Role] == ["INIT", "BACKUP", "MASTER"]
    assert user_state(INITIALIZE, faulty=True) == "FAULT"
    assert user_state(INITIALIZE, faulty=True, stopped=True) == "STOP"


# Startup -------------------------------------------------------------------------------------


def test_nothing_starts_before_start() -> None:
    assert run(ready(sync_group(instance())), 10**12) == []


def test_startup_delay_holds_the_election_back() -> None:
    group = ready(sync_group(instance()))
    assert group.handle(Start(5_000_000_000), 1_000_000_000) == []
    assert group.next_deadline() == 6_000_000_000
    assert group.handle(heard(200), 2_000_000_000) == []
    assert group.handle(Tick(), 5_999_999_999) == []
    assert group.handle(Tick(), 6_000_000_000) == [Transition("LAN", "BACKUP", 100, "started")]
    assert group.next_deadline() == 9_609_375_000


def test_a_fault_before_the_start_is_told_at_the_start() -> None:
    group = ready(sync_group(instance()))
    group.handle(TrackerChanged("interface", "lan", False), 0)
    assert group.handle(Start(), 0) == [Transition("LAN", "FAULT", 100, "interface lan down")]
    assert group.handle(TrackerChanged("interface", "lan", True), 7) == [
        Transition("LAN", "BACKUP", 100, "started")
    ]


@pytest.mark.parametrize(
    ("version", "interval_cs", "priority", "wait"),
    [
        (2, 100, 100, 1_609_375_000),
        (3, 100, 100, 1_609_375_000),
        (3, 10, 200, 121_875_000),
        (2, 1000, 200, 10_218_750_000),
    ],
)
def test_initial_master_listens_for_one_interval(
    version: int, interval_cs: int, priority: int, wait: int
) -> None:
    vi = instance(version=version, advert_int_cs=interval_cs, priority=priority, initial_master=True)
    group = started(sync_group(vi))
    assert group.role is BACKUP
    assert group.next_deadline() == wait
    group.handle(Tick(), wait)
    assert group.role is ACTIVE


def test_initial_master_that_hears_a_better_router_waits_like_anyone() -> None:
    group = started(sync_group(instance(initial_master=True)))
    group.handle(heard(150), 1_000_000_000)
    assert group.next_deadline() == 4_609_375_000


def test_initial_master_that_yields_waits_like_anyone() -> None:
    group = active(sync_group(instance(initial_master=True)))
    group.handle(heard(150), 1_000_000_000)
    assert group.next_deadline() == 4_609_375_000


def test_owner_is_active_at_once() -> None:
    group = ready(sync_group(instance(priority=255)))
    assert group.handle(Start(), 0) == [
        SendAdvert("LAN", 255), Install("LAN"), Announce("LAN", 5),
        Transition("LAN", "MASTER", 255, "owner of the addresses"),
    ]  # fmt: skip
    assert group.next_deadline() == 1_000_000_000


def test_owner_yields_to_nobody_but_a_twin_with_a_higher_address() -> None:
    group = active(sync_group(instance(priority=255)))
    assert of(SendAdvert, group.handle(heard(254), 1)) == [SendAdvert("LAN", 255)]
    assert group.handle(heard(255, LOWER), 20_000_000) == [SendAdvert("LAN", 255)]
    group.handle(heard(255, HIGHER), 40_000_000)
    assert group.role is BACKUP


def test_no_weight_moves_the_owner() -> None:
    group = active(sync_group(instance(priority=255, tracks=(Track("script", "chk", -50),))))
    assert group.handle(TrackerChanged("script", "chk", False), 1) == []


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


def test_announcements_end_with_the_role() -> None:
    group = active(sync_group(instance(garp=Garp(delay_ms=5000, refresh_ms=7000))))
    group.handle(heard(200), 1)
    assert all(not of(Announce, actions) or at >= 3_609_375_001 for at, actions in run(group, 9_000_000_000))
    assert group.role is ACTIVE


def test_a_lesser_router_that_speaks_up_is_answered_with_announcements() -> None:
    garp = replace(QUIET, lower_prio_repeat=3, lower_prio_delay_ms=5000)
    group = active(sync_group(instance(garp=garp)))
    assert group.handle(heard(50), 500_000_000) == [SendAdvert("LAN", 100), Announce("LAN", 3)]
    # its next adverts are answered, but the LAN is not flooded with announcements
    assert group.handle(heard(50), 1_000_000_000) == [SendAdvert("LAN", 100)]
    announced = [(at, actions) for at, actions in run(group, 20_000_000_000) if of(Announce, actions)]
    assert announced == [(5_500_000_000, [Announce("LAN", 3)])]
    assert group.handle(heard(50), 20_500_000_000) == [SendAdvert("LAN", 100), Announce("LAN", 3)]


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
    assert group.handle(heard(50), 1) == [SendAdvert("LAN", 100)]
    group.handle(heard(150), 20_000_000)
    assert group.role is BACKUP


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
    assert group.handle(Resume(), 3_000_000_000) == [Transition("LAN", "BACKUP", 100, "started")]


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
        Transition("LAN", "BACKUP", 100, "started")
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
    assert group.handle(SourceChanged("LAN", OURS), 2) == [Transition("LAN", "BACKUP", 100, "started")]


def test_dont_track_primary_ignores_link_and_address() -> None:
    group = active(sync_group(instance(track_primary=False)))
    assert group.tracking.tracks == ()
    assert feed(group, 1, TrackerChanged("interface", "lan", False), SourceChanged("LAN", None)) == []


def test_a_weight_on_its_own_interface_replaces_the_fault() -> None:
    group = active(sync_group(instance(tracks=(Track("interface", "lan", -30),))))
    assert group.handle(TrackerChanged("interface", "lan", False), 1) == [SendAdvert("LAN", 70)]


def test_a_script_without_a_result_holds_the_election_back_but_is_no_fault() -> None:
    group = sync_group(instance(tracks=(Track("script", "chk"),)))
    feed(group, 0, TrackerChanged("interface", "lan", True), SourceChanged("LAN", OURS))
    assert group.handle(Start(), 0) == []
    assert (group.state, group.next_deadline()) == ("INIT", None)
    assert group.handle(TrackerChanged("script", "chk", True), 1_000_000_000) == [
        Transition("LAN", "BACKUP", 100, "started")
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
        assert group.handle(Tick(), again) == [Transition("LAN", "BACKUP", 100, "started")]
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
        Transition("LAN", "BACKUP", 100, "started")
    ]
    assert group.next_deadline() == 5_609_375_000


# Reload ---------------------------------------------------------------------------------------


def reload(group: SyncGroup, now: int, *instances: Instance, tracks: tuple[Track, ...] = ()) -> list[Action]:
    return group.reconfigure(replace(group.settings, tracks=tracks), instances, now)


def test_reload_keeps_the_role_and_states_what_is_wanted_once() -> None:
    group = active(sync_group(instance()))
    assert reload(group, 500_000_000, instance(advert_int_cs=300, priority=120)) == [
        SendAdvert("LAN", 120), Install("LAN"), Announce("LAN", 5),
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
        Remove("LAN"), SendAdvert("LAN", 0), Transition("LAN", "FAULT", 100, "interface wan down"),
    ]  # fmt: skip
    group = active(sync_group(instance(tracks=(Track("script", "chk", -20),))))
    group.handle(TrackerChanged("script", "chk", False), 0)
    assert reload(group, 1, instance(tracks=(Track("script", "chk"),))) == [
        Remove("LAN"), SendAdvert("LAN", 0), Transition("LAN", "FAULT", 100, "script chk down"),
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
    assert reload(group, 1_000_000_000, instance()) == [Transition("LAN", "BACKUP", 100, "started")]
    assert group.next_deadline() == 4_609_375_000
    run(group, 4_700_000_000)
    group.handle(EffectFailed("LAN", "refused"), 4_700_000_000)
    assert group.next_deadline() == 24_700_000_000, "the second failure in a short time waits longer"
