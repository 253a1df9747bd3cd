# SPDX-License-Identifier: GPL-2.0-or-later
"""Sync groups: the joint rules over one to four members, with literal times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import (
    Announce,
    Contested,
    Greet,
    GroupTransition,
    Remove,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.damping import Damping
from tandem.core.events import (
    EffectFailed,
    Event,
    Failover,
    Resume,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Tick,
    TrackerChanged,
)
from tandem.core.settings import Track
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import SECOND
from tests.unit.group_steps import NAMES, SIZES, becomes_active, comes_up, leaves, pack, told
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

BACKUP, ACTIVE = Role.BACKUP, Role.ACTIVE
DOWN = 3_609_375_000


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# INITIALIZE -> BACKUP -------------------------------------------------------------------------


def test_start(size: int) -> None:
    group = ready(pack(size))
    assert group.handle(Start(), 0) == comes_up(size)
    assert group.next_deadline() == DOWN


def test_nobody_starts_while_one_member_cannot(size: int) -> None:
    group = ready(pack(size))
    last = NAMES[size - 1]
    group.handle(SourceChanged(last, None), 0)
    assert group.handle(Start(), 0) == told(size, "FAULT", f"no address on {last.lower()}")
    assert group.handle(SourceChanged(last, OURS), 1) == comes_up(size)


def test_all_wait_for_the_first_result_of_a_script_of_one(size: int) -> None:
    members = [instance(name) for name in NAMES[:size]]
    members[-1] = replace(members[-1], tracks=(Track("script", "chk"),))
    group = sync_group(*members)
    for name in NAMES[:size]:
        feed(group, 0, TrackerChanged("interface", name.lower(), True), SourceChanged(name, OURS))
    assert group.handle(Start(), 0) == []
    assert (group.role, group.next_deadline()) == (Role.INITIALIZE, None)
    assert group.handle(TrackerChanged("script", "chk", True), 1) == comes_up(size)


def test_a_fault_that_heals_before_the_first_result_of_a_script_says_what_it_waits_for() -> None:
    group = sync_group(instance("LAN"), instance("WAN"), tracks=(Track("script", "chk"),))
    feed(group, 0, *(TrackerChanged("interface", name, True) for name in ("lan", "wan")))
    feed(group, 0, SourceChanged("LAN", OURS))
    assert group.handle(Start(), 0) == told(2, "FAULT", "no address on wan")
    assert group.handle(SourceChanged("WAN", OURS), 1) == told(2, "INIT", "waiting for script chk")


GRACE = 10 * SECOND


def test_interfaces_that_come_up_after_the_start_are_no_fault(size: int) -> None:
    """A router that boots starts the daemon before its networks are up: no script hears of a fault."""
    group = sync_group(*(instance(name) for name in NAMES[:size]))
    feed(group, 0, *(TrackerChanged("interface", name.lower(), False) for name in NAMES[:size]))
    assert group.handle(Start(0, GRACE), 0) == []
    assert (group.state, group.next_deadline()) == ("INIT", GRACE)
    for name in NAMES[: size - 1]:
        for event in (TrackerChanged("interface", name.lower(), True), SourceChanged(name, OURS)):
            assert group.handle(event, 1) == []
    last = NAMES[size - 1]
    assert group.handle(TrackerChanged("interface", last.lower(), True), SECOND) == []
    assert group.handle(SourceChanged(last, OURS), SECOND) == comes_up(size)
    down = TrackerChanged("interface", last.lower(), False)
    assert group.handle(down, 2 * SECOND) == told(size, "FAULT", f"interface {last.lower()} down")


def test_what_has_not_come_up_in_time_is_a_fault() -> None:
    group = ready(sync_group(instance("LAN"), instance("WAN")))
    group.handle(SourceChanged("WAN", None), 0)
    assert group.handle(Start(SECOND, GRACE), 0) == []
    assert group.handle(Tick(), SECOND) == []
    assert group.next_deadline() == SECOND + GRACE
    assert group.handle(Tick(), SECOND + GRACE - 1) == []
    assert group.handle(Tick(), SECOND + GRACE) == told(2, "FAULT", "no address on wan")
    assert group.handle(SourceChanged("WAN", OURS), 20 * SECOND) == comes_up(2)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (TrackerChanged("script", "chk", False), "script chk down"),
        (Standby(), "standby"),
        (EffectFailed("LAN", "no route"), "LAN: no route"),
    ],
)
def test_other_faults_are_told_at_once_after_the_start(event: Event, why: str) -> None:
    group = ready(sync_group(instance("LAN"), tracks=(Track("script", "chk", 0),)))
    feed(group, 0, TrackerChanged("script", "chk", True))
    assert group.handle(SourceChanged("LAN", None), 0) == []
    assert group.handle(Start(0, GRACE), 0) == []
    told_of = group.handle(event, 1)
    assert [action.state for action in told_of if isinstance(action, Transition)] == ["FAULT"]
    assert why in group.faults


def test_all_owners_are_active_at_once(size: int) -> None:
    group = ready(pack(size, priority=255))
    assert group.handle(Start(), 0) == becomes_active(size, "owner of the addresses", 255)


def test_one_owner_among_others_waits_with_them() -> None:
    group = ready(sync_group(instance("LAN", priority=255), instance("WAN")))
    assert group.handle(Start(), 0) == [
        Greet("LAN"), Greet("WAN"),
        Transition("LAN", "BACKUP", 255, "started"), Transition("WAN", "BACKUP", 100, "started"),
        GroupTransition("G", "BACKUP"),
    ]  # fmt: skip


# BACKUP -> ACTIVE -----------------------------------------------------------------------------


def test_silence_on_every_lan_makes_all_active(size: int) -> None:
    group = started(pack(size))
    assert group.handle(Tick(), DOWN) == becomes_active(size, "no advertisement from an active router")


@pytest.mark.parametrize("size", (2, 3, 4))
def test_one_lan_on_which_the_active_is_heard_keeps_all_in_backup(size: int) -> None:
    group = started(pack(size))
    last = NAMES[size - 1]
    for at in range(1_000_000_000, 30_000_000_000, 1_000_000_000):
        group.handle(heard(200, name=last), at)
        if at >= DOWN:
            assert group.handle(Tick(), at) == []
    assert group.next_deadline() == 29_000_000_000 + DOWN
    # the others have been silent long since: now the last one is, too
    assert group.handle(Tick(), 29_000_000_000 + DOWN)[0] == SendAdvert("LAN", 100)


def test_a_lan_that_speaks_again_counts_again() -> None:
    group = started(pack(2))
    feed(group, 3_000_000_000, heard(200, name="WAN"))
    feed(group, DOWN, Tick())  # LAN has been silent
    feed(group, 4_000_000_000, heard(200, name="LAN"))
    assert group.handle(Tick(), 6_609_375_000) == [], "WAN is silent now, but LAN is not any more"
    assert group.handle(Tick(), 7_609_375_000)[0] == SendAdvert("LAN", 100)


def test_timers_of_different_intervals_need_all() -> None:
    group = started(sync_group(instance("LAN", advert_int_cs=10), instance("WAN", advert_int_cs=100)))
    assert [at for at, _ in run(group, DOWN)] == [360_937_500, DOWN]
    assert group.role is Role.ACTIVE


def test_a_goodbye_on_one_lan_moves_the_whole_group(size: int) -> None:
    group = started(pack(size))
    feed(group, 0, *(heard(200, name=name) for name in NAMES[:size]))
    group.handle(heard(0, name=NAMES[size - 1]), 500_000_000)
    assert group.next_deadline() == 500_780_000
    assert group.handle(Tick(), 500_780_000) == becomes_active(size, "the active router resigned")


@pytest.mark.parametrize("size", (2, 3, 4))
def test_a_goodbye_of_another_on_one_lan_moves_nobody(size: int) -> None:
    group = started(pack(size))
    feed(group, 0, *(heard(200, HIGHER, name) for name in NAMES[:size]))
    group.handle(heard(0, LOWER, NAMES[0]), 500_000_000)
    assert group.next_deadline() == 1_109_375_000
    assert group.handle(Tick(), 1_109_375_000) == []
    assert group.role is Role.BACKUP


def test_nopreempt_of_one_member_is_that_of_the_group() -> None:
    group = started(sync_group(instance("LAN"), instance("WAN", preempt=False)))
    for at in range(0, 20_000_000_000, 1_000_000_000):
        feed(group, at, heard(50, name="LAN"), heard(50, name="WAN"), Tick())
    assert group.role is Role.BACKUP


# ACTIVE -> BACKUP -----------------------------------------------------------------------------


def test_a_better_router_on_any_lan_takes_all(size: int) -> None:
    for name in NAMES[:size]:
        group = active(pack(size))
        run(group, 5_000_000_000)
        removed = [Remove(NAMES[:size])]
        last = [SendAdvert(member, 100) for member in NAMES[:size]]
        gone = Withdraw(NAMES[:size])
        expected = [*removed, *last, gone, *told(size, "BACKUP", "a better router is active")]
        assert group.handle(heard(150, name=name), 5_500_000_000) == expected
        assert group.next_deadline() == 5_500_000_000 + DOWN


def test_each_member_learns_the_interval_of_its_own_lan() -> None:
    group = active(pack(2))
    run(group, 5_000_000_000)
    group.handle(heard(150, name="WAN", interval_cs=10), 5_500_000_000)
    assert [member.active_down_interval() for member in group.members] == [DOWN, 360_937_500]


def test_lesser_routers_are_answered_on_their_own_lan_only() -> None:
    group = active(pack(3))
    answer = [SendAdvert("WAN", 100), Announce("WAN", 1), Contested("WAN", 100)]
    assert group.handle(heard(50, name="WAN"), 1) == answer


# A daemon that was stopped for a while


def test_who_was_silent_for_too_long_starts_over_as_backup(size: int) -> None:
    group = active(pack(size))
    run(group, 5 * SECOND)
    removed = [Remove(NAMES[:size])]
    expected = [
        *removed,
        Withdraw(NAMES[:size]),
        *told(size, "BACKUP", "silent for too long: it was stopped"),
    ]
    assert group.handle(Tick(), 8 * SECOND) == expected
    assert group.role_ends is None


def test_who_was_silent_for_less_goes_on() -> None:
    group = active(pack(2))
    run(group, 5 * SECOND)
    assert group.role_ends == 8 * SECOND
    assert group.handle(Tick(), 8 * SECOND - 1) == [SendAdvert("LAN", 100), SendAdvert("WAN", 100)]


def test_a_hiccup_is_no_sleep_however_short_the_interval() -> None:
    """Where no other router has taken over, a role that is given up is an outage."""
    group = active(sync_group(replace(instance(), advert_int_cs=1)))
    run(group, 5 * SECOND)
    assert of(SendAdvert, group.handle(Tick(), 5 * SECOND + 209_999_999)) != []
    run(group, 6 * SECOND)
    assert of(Remove, group.handle(Tick(), 6 * SECOND + 210_000_000)) != []


def test_who_wakes_up_does_not_answer_the_one_who_took_over() -> None:
    """Equal priorities and the better address: without its sleep it would win. With nopreempt it must not."""
    group = active(sync_group(instance(preempt=False)))
    run(group, 5 * SECOND)
    actions = group.handle(heard(100, LOWER), 15 * SECOND)
    assert of(SendAdvert, actions) == [] and group.role is Role.BACKUP
    for second in range(16, 30):
        assert feed(group, second * SECOND, heard(100, LOWER), Tick()) == []


def test_who_wakes_up_alone_listens_for_one_interval() -> None:
    group = active(sync_group(instance()))
    run(group, 5 * SECOND)
    group.handle(Tick(), 15 * SECOND)
    assert [at for at, _ in run(group, 17 * SECOND)][:1] == [15 * SECOND + 1_609_375_000]
    assert group.role is Role.ACTIVE


# Ties: two routers of equal priority, each with the higher address on one LAN


def _crossed(now: int = 0) -> tuple[SyncGroup, SyncGroup]:
    """Both active since `now`: the first one wins on LAN, the second one on WAN."""
    one, other = active(pack(2), now), active(pack(2), now)
    feed(one, now, SourceChanged("LAN", HIGHER), SourceChanged("WAN", LOWER))
    feed(other, now, SourceChanged("LAN", LOWER), SourceChanged("WAN", HIGHER))
    return one, other


@pytest.mark.parametrize("order", [("LAN", "WAN"), ("WAN", "LAN")])
def test_of_crossed_addresses_the_first_member_decides_whatever_is_heard_first(
    order: tuple[str, str],
) -> None:
    one, other = _crossed()
    for at, name in enumerate(order, start=1):
        winner, loser = (HIGHER, LOWER) if name == "LAN" else (LOWER, HIGHER)
        one.handle(heard(100, loser, name), at)
        other.handle(heard(100, winner, name), at)
    assert (one.role, other.role) == (Role.ACTIVE, Role.BACKUP)


def test_the_later_lan_decides_when_the_first_stays_silent() -> None:
    one, _ = _crossed()
    run(one, 3_500_000_000)
    one.handle(heard(100, HIGHER, "WAN"), 3_600_000_000)
    assert one.role is Role.ACTIVE, "on LAN the other could not yet have been missed"
    one.handle(heard(100, HIGHER, "WAN"), 3_700_000_000)
    assert one.role is Role.BACKUP


def test_the_later_lan_decides_when_the_first_falls_silent() -> None:
    one, _ = _crossed()
    run(one, 9_000_000_000)
    one.handle(heard(100, LOWER, "LAN"), 9_100_000_000)
    run(one, 12_700_000_000)
    one.handle(heard(100, HIGHER, "WAN"), 12_700_000_000)
    assert one.role is Role.ACTIVE
    one.handle(heard(100, HIGHER, "WAN"), 12_709_375_000)
    assert one.role is Role.BACKUP


def test_a_lesser_router_counts_as_long_as_its_own_interval_says() -> None:
    one = active(sync_group(instance("LAN", advert_int_cs=10), instance("WAN", advert_int_cs=10)))
    run(one, 9_000_000_000)
    one.handle(heard(50, LOWER, "LAN", interval_cs=100), 9_000_000_000)
    run(one, 9_900_000_000)
    one.handle(heard(150, HIGHER, "WAN", interval_cs=100), 9_900_000_000)
    assert one.role is Role.ACTIVE


def test_the_first_member_decides_only_while_the_other_may_not_have_heard_it() -> None:
    """On LAN `one` is the better one, but is not heard there; on WAN it is the lesser one."""
    one, _ = _crossed()
    for second in range(1, 4):
        run(one, second * SECOND)
        feed(one, second * SECOND, heard(100, LOWER, "LAN"), heard(100, HIGHER, "WAN"))
        assert one.role is Role.ACTIVE, second
    run(one, 5 * SECOND)
    feed(one, 5 * SECOND, heard(100, LOWER, "LAN"), heard(100, HIGHER, "WAN"))
    assert one.role is Role.BACKUP


def test_whoever_stays_says_so_where_it_is_the_lesser() -> None:
    one, _ = _crossed()
    one.handle(heard(100, LOWER, "LAN"), 1)
    assert one.handle(heard(100, HIGHER, "WAN"), 2) == [SendAdvert("WAN", 100)]


def test_the_first_member_is_not_overruled_by_later_ones() -> None:
    group = active(pack(3))
    feed(group, 1, heard(50, name="WAN"), heard(50, name="DMZ"))
    group.handle(heard(150, name="LAN"), 2)
    assert group.role is Role.BACKUP


# Faults ---------------------------------------------------------------------------------------


def test_a_fault_of_one_member_removes_all_then_says_goodbye_everywhere(size: int) -> None:
    for name in NAMES[:size]:
        group = active(pack(size))
        down = TrackerChanged("interface", name.lower(), False)
        assert group.handle(down, 1) == leaves(size, "FAULT", f"interface {name.lower()} down")
        assert group.next_deadline() is None
        assert group.handle(down, 2) == []


def test_a_backup_leaves_without_a_goodbye(size: int) -> None:
    group = started(pack(size))
    actions = group.handle(TrackerChanged("interface", "lan", False), 1)
    assert actions == told(size, "FAULT", "interface lan down")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (SourceChanged("WAN", None), "no address on wan"),
        (TrackerChanged("script", "chk", False), "script chk down"),
        (
            EffectFailed("WAN", "address 192.168.0.4/24 dev wan: refused"),
            "WAN: address 192.168.0.4/24 dev wan: refused",
        ),
        (Standby(), "standby"),
    ],
)
def test_every_kind_of_fault_takes_the_group_out(event: Event, why: str) -> None:
    group = active(sync_group(instance("LAN"), instance("WAN"), tracks=(Track("script", "chk"),)))
    assert group.handle(event, 1) == leaves(2, "FAULT", why)


def test_a_fault_says_what_a_check_has_seen() -> None:
    group = active(sync_group(instance("LAN"), tracks=(Track("check", "page"), Track("check", "far", -5))))
    group.handle(TrackerChanged("check", "far", False, "failed: no answer"), 1)
    group.handle(TrackerChanged("check", "page", False, "failed: status 503"), 1)
    assert group.faults == ("check page failed: status 503",)
    group.handle(TrackerChanged("check", "page", True, ""), 2)
    assert group.faults == () and group.tracking.changes == (("check far", -5),)


def test_the_reason_of_two_faults_names_the_first_and_status_names_both() -> None:
    group = active(pack(2))
    group.handle(TrackerChanged("interface", "wan", False), 1)
    assert group.handle(TrackerChanged("interface", "lan", False), 2) == []
    assert group.faults == ("interface lan down", "interface wan down")


def test_stop(size: int) -> None:
    assert active(pack(size)).handle(Stop(), 1) == leaves(size, "STOP", "stopped")
    assert started(pack(size)).handle(Stop(), 1) == told(size, "STOP", "stopped")
    faulty = started(pack(size))
    faulty.handle(TrackerChanged("interface", "lan", False), 1)
    assert faulty.handle(Stop(), 2) == told(size, "STOP", "stopped")


def test_failover(size: int) -> None:
    group = active(pack(size))
    assert group.handle(Failover(), 0) == leaves(size, "BACKUP", "failover asked for")
    assert group.held
    for at in range(1, 10):
        now = at * 1_000_000_000
        feed(group, now, *(heard(50, name=name) for name in NAMES[:size]), Tick())
    assert group.role is Role.BACKUP
    group.handle(Resume(), 9_100_000_000)
    for at in range(10, 14):
        now = at * 1_000_000_000
        feed(group, now, *(heard(50, name=name) for name in NAMES[:size]), Tick())
    assert group.role is Role.ACTIVE


def test_standby_and_resume(size: int) -> None:
    group = active(pack(size))
    assert group.handle(Standby(), 0) == leaves(size, "FAULT", "standby")
    assert group.handle(Resume(), 1) == comes_up(size)


# Weights --------------------------------------------------------------------------------------


def test_a_weight_of_one_member_moves_all(size: int) -> None:
    members = [instance(name) for name in NAMES[:size]]
    members[-1] = replace(members[-1], tracks=(Track("script", "chk", -30),))
    group = active(sync_group(*members))
    assert group.handle(TrackerChanged("script", "chk", False), 1) == [
        SendAdvert(name, 70) for name in NAMES[:size]
    ]


def test_a_weight_moves_each_member_from_its_own_base() -> None:
    group = active(
        sync_group(
            instance("LAN", priority=10), instance("WAN", priority=240), instance("DMZ", priority=255),
            tracks=(Track("script", "up", 20), Track("interface", "uplink", -20)),
        )
    )  # fmt: skip
    assert group.handle(TrackerChanged("script", "up", True), 1) == [
        SendAdvert("LAN", 30),
        SendAdvert("WAN", 254),
    ]
    assert group.tracking.changes == (("script up", 20),)
    feed(group, 2, TrackerChanged("script", "up", False))
    assert group.handle(TrackerChanged("interface", "uplink", False), 3) == [
        SendAdvert("LAN", 1), SendAdvert("WAN", 220),
    ]  # fmt: skip


def test_a_lowered_active_yields_to_the_next_advert_that_is_better() -> None:
    group = active(sync_group(instance("LAN"), instance("WAN"), tracks=(Track("script", "chk", -60),)))
    run(group, 5_000_000_000)
    group.handle(heard(50, name="WAN"), 5_000_000_001)
    assert group.role is Role.ACTIVE
    group.handle(TrackerChanged("script", "chk", False), 5_000_000_002)
    group.handle(heard(50, name="LAN"), 5_000_000_003)
    assert group.role is Role.BACKUP


def test_a_fault_of_one_member_wins_over_a_weight_of_another() -> None:
    group = active(
        sync_group(
            instance("LAN", tracks=(Track("interface", "wan", -10),)), instance("WAN"),
        )
    )  # fmt: skip
    assert group.handle(TrackerChanged("interface", "wan", False), 1) == leaves(
        2, "FAULT", "interface wan down"
    )


# Effects that fail ----------------------------------------------------------------------------


def test_failures_of_several_members_are_one_fault_with_all_reasons() -> None:
    group = active(pack(2))
    group.handle(EffectFailed("WAN", "no route"), 0)
    assert group.handle(EffectFailed("LAN", "no address"), 1_000_000_000) == []
    assert group.faults == ("WAN: no route", "LAN: no address")
    assert group.next_deadline() == 10_000_000_000
    assert group.handle(Tick(), 10_000_000_000) == comes_up(2)


def test_announcements_belong_to_each_member() -> None:
    group = active(sync_group(instance("LAN", garp=replace(QUIET, delay_ms=300)), instance("WAN")))
    assert run(group, 500_000_000) == [
        (10_000_000, [Announce("LAN", 1)]),
        (100_000_000, [Announce("LAN", 1)]),
        (300_000_000, [Announce("LAN", 5)]),
    ]


def test_only_a_role_that_is_won_or_lost_counts_for_damping() -> None:
    group = started(sync_group(instance("LAN"), instance("WAN")))
    group.damping = Damping(2, 60 * SECOND)
    for up in (False, True) * 3:
        group.handle(TrackerChanged("interface", "lan", up), SECOND)
    assert group.damping.until(SECOND) is None, "a backup that is in fault and comes back"
    run(group, 6 * SECOND)
    assert group.role is ACTIVE
    run(group, 9 * SECOND)
    feed(group, 9 * SECOND, heard(50, LOWER), heard(50, LOWER))
    assert group.damping.until(9 * SECOND) is None, "an active router that goes on"
    group.handle(Failover(), 9 * SECOND)
    assert group.damping.until(9 * SECOND) is not None
