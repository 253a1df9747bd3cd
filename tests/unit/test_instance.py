# SPDX-License-Identifier: GPL-2.0-or-later
"""One virtual router in no sync group: the transition table of RFC 9568 section 6.4, and how it starts.

Every time is a literal in ns. In the table adverts are 2 s apart, so that the skew of version 2
(156/256 of a second) and that of version 3 (156/256 of the interval) differ. Timers and other
routers: test_instance_election.py; faults and reloads: test_instance_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import pytest

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Contested,
    Greet,
    Install,
    Remove,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.events import (
    AdvertReceived,
    Ballot,
    Claimed,
    Company,
    EffectFailed,
    Event,
    Failover,
    Moved,
    Partner,
    Rebound,
    Restored,
    Resume,
    Reunited,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Synchronised,
    Taken,
    Tick,
    TrackerChanged,
    Unheard,
    Vacancy,
    Vacated,
)
from tandem.core.settings import Track
from tandem.core.state import Role, user_state
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import (
    HIGHER,
    LOWER,
    active,
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
    "another MAC address": lambda v, f: Moved("VI"),
    "effect failed": lambda v, f: EffectFailed("VI", "no such device"),
    "rebound": lambda v, f: Rebound("VI"),
    "failover": lambda v, f: Failover(),
    "restored": lambda v, f: Restored(),
    "synchronised": lambda v, f: Synchronised(True),
    "partner": lambda v, f: Partner(known=True, in_step=True),
    "no quorum": lambda v, f: Ballot(False, False, False, "1 of 3 votes"),
    "reunited": lambda v, f: Reunited(),  # with a router that was not heard; otherwise see test_reunion.py
    "its heartbeats stop": lambda v, f: Vacated(Vacancy.DIED, (("VI", FOLLOWED[f]),)),
    "another's heartbeats stop": lambda v, f: Vacated(Vacancy.DIED, (("VI", ANOTHER[f]),)),
    "another serves": lambda v, f: Taken(True),  # with the role offered: see test_offer.py
    "company": lambda v, f: Company(takes=True, offers=True),
    "claimed": lambda v, f: Claimed(True),
    "unheard": lambda v, f: Unheard(True),
    "standby": lambda v, f: Standby(),
    "resume": lambda v, f: Resume(),
    "stop": lambda v, f: Stop(),
}


class Row(NamedTuple):
    """The result of an event: the new role, the actions, and the next deadline in ns after the event."""

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
CONTESTED = Row(ACTIVE, [_says(100), Announce("VI", 1), Contested("VI", 100)], ADVERT)
AGAIN = Row(ACTIVE, [Announce("VI", 5)], 10_000_000)  # and 100 ms and 1 s later
GONE, WITHDRAWN = Remove(("VI",)), Withdraw(("VI",))
RELEASED = [GONE, Beat("VI"), _says(0), WITHDRAWN]
TO_BACKUP = Row(BACKUP, [GONE, _says(100), WITHDRAWN, _to("BACKUP", "a better router is active")], LEARNED)
TO_ACTIVE: list[Action] = [_says(100), Install(("VI",)), Announce("VI", 5)]

TABLE: dict[Role, dict[str, Row]] = {
    INITIALIZE: {  # 6.4.1
        "start": Row(BACKUP, [Greet("VI"), _to("BACKUP", "started")], DOWN),
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
        "another MAC address": NOTHING,
        "effect failed": Row(INITIALIZE, [], RETRY),
        "rebound": NOTHING,
        "failover": NOTHING,
        "restored": NOTHING,
        "synchronised": NOTHING,
        "partner": NOTHING,
        "no quorum": NOTHING,
        "reunited": NOTHING,
        "its heartbeats stop": NOTHING,
        "another's heartbeats stop": NOTHING,
        "another serves": NOTHING,
        "company": NOTHING,
        "claimed": NOTHING,
        "unheard": NOTHING,
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
        "another MAC address": WAIT,
        "effect failed": Row(INITIALIZE, [_to("FAULT", "VI: no such device")], RETRY),
        "rebound": WAIT,
        "failover": WAIT,
        "restored": WAIT,
        "synchronised": WAIT,
        "partner": WAIT,
        "no quorum": WAIT,
        "reunited": WAIT,
        "its heartbeats stop": Row(
            ACTIVE,
            [*TO_ACTIVE, _to("MASTER", "the active router is dead: its heartbeats have stopped")],
            ADVERT,
        ),
        "another's heartbeats stop": WAIT,
        "another serves": WAIT,
        "company": WAIT,
        "claimed": WAIT,
        "unheard": WAIT,
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
        "lower priority": CONTESTED,
        "equal, lower address": CONTESTED,
        "equal, higher address": TO_BACKUP,
        "higher priority": TO_BACKUP,
        "owner": TO_BACKUP,
        "link down": Row(INITIALIZE, [*RELEASED, _to("FAULT", "interface vi down")], None),
        "link up": GO_ON,
        "weight -20 counts": Row(ACTIVE, [_says(80)], ADVERT),
        "not tracked": GO_ON,
        "address lost": Row(INITIALIZE, [*RELEASED, _to("FAULT", "no address on vi")], None),
        "address changed": GO_ON,
        "another MAC address": AGAIN,
        "effect failed": Row(INITIALIZE, [*RELEASED, _to("FAULT", "VI: no such device")], RETRY),
        "rebound": GO_ON,
        "failover": Row(BACKUP, [*RELEASED, _to("BACKUP", "failover asked for")], DOWN),
        "restored": GO_ON,
        "synchronised": GO_ON,
        "partner": GO_ON,
        "no quorum": Row(BACKUP, [*RELEASED, _to("BACKUP", "no quorum")], DOWN),
        "reunited": AGAIN,
        "its heartbeats stop": GO_ON,
        "another's heartbeats stop": GO_ON,
        "another serves": GO_ON,
        "company": GO_ON,
        "claimed": GO_ON,
        "unheard": Row(
            BACKUP,
            [
                GONE,
                _says(100),
                WITHDRAWN,
                _to("BACKUP", "another router is active and does not hear this one"),
            ],
            DOWN,
        ),
        "standby": Row(INITIALIZE, [*RELEASED, _to("FAULT", "standby")], None),
        "resume": GO_ON,
        "stop": Row(INITIALIZE, [*RELEASED, _to("STOP", "stopped")], None),
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
    assert group.handle(Tick(), 6_000_000_000) == [Greet("LAN"), Transition("LAN", "BACKUP", 100, "started")]
    assert group.next_deadline() == 9_609_375_000


def test_a_fault_before_the_start_is_told_at_the_start() -> None:
    group = ready(sync_group(instance()))
    group.handle(TrackerChanged("interface", "lan", False), 0)
    assert group.handle(Start(), 0) == [Transition("LAN", "FAULT", 100, "interface lan down")]
    assert group.handle(TrackerChanged("interface", "lan", True), 7) == [
        Greet("LAN"), Transition("LAN", "BACKUP", 100, "started"),
    ]  # fmt: skip


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
        SendAdvert("LAN", 255), Install(("LAN",)), Announce("LAN", 5),
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
