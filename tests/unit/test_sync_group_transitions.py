# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of a sync group's transitions: events at a group of two reach each row.

That nothing else changes a role is held by test_instance.py, with every event in every role.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tandem.core.actions import Action, Cause, Install, Remove, Restore, SendAdvert, Transition
from tandem.core.events import (
    Ballot,
    Failover,
    SourceChanged,
    Standby,
    Start,
    Stop,
    Tick,
    TrackerChanged,
    Unheard,
    Vacancy,
    Vacated,
)
from tandem.core.promotion import Farewell
from tandem.core.role_changes import TRANSITIONS, Change, Cue
from tandem.core.settings import Group
from tandem.core.state import Role, user_state
from tandem.core.sync_group import SyncGroup
from tandem.core.timers import MILLISECOND, SECOND
from tests.unit.scenario import HIGHER, LOWER, OURS, feed, heard, instance, of

INITIALIZE, BACKUP, ACTIVE = Role.INITIALIZE, Role.BACKUP, Role.ACTIVE
NAMES = ("LAN", "WAN")
DOWN = 3_609_375_000
LATER = 100 * SECOND


def group_of(role: Role, **settings: Any) -> SyncGroup:
    """A group that restores, at LATER in this role for a while; in INITIALIZE it has not started."""
    members = [instance(name, **settings) for name in NAMES]
    group = SyncGroup(Group("G", NAMES), members, restores=True)
    began = LATER if role is INITIALIZE else LATER - SECOND if role is BACKUP else LATER - DOWN - SECOND // 2
    for name in NAMES:
        feed(group, began, TrackerChanged("interface", name.lower(), True), SourceChanged(name, OURS))
    if role is not INITIALIZE:
        group.handle(Start(), began)
    if role is ACTIVE:
        group.handle(Tick(), LATER - SECOND // 2)
    assert group.role is role
    return group


def preempts(group: SyncGroup) -> list[Action]:
    for second in range(3):
        feed(group, LATER + second * SECOND, *(heard(50, LOWER, name) for name in NAMES))
    return group.handle(Tick(), LATER - SECOND + DOWN)


def resigned(group: SyncGroup) -> list[Action]:
    feed(group, LATER, *(heard(200, HIGHER, name) for name in NAMES), heard(0, HIGHER))
    return group.handle(Tick(), LATER + MILLISECOND)


ROWS: dict[tuple[Role, Cue], Change] = {
    (INITIALIZE, Cue.READY): Change(BACKUP, "started", seen="start"),
    (INITIALIZE, Cue.OWNER): Change(ACTIVE, "owner of the addresses", seen="start"),
    (BACKUP, Cue.OUT): Change(INITIALIZE),
    (BACKUP, Cue.RESIGNED): Change(ACTIVE, "the active router resigned", handed_over=True),
    (BACKUP, Cue.SILENT): Change(ACTIVE, "no advertisement from an active router"),
    (BACKUP, Cue.DIED): Change(
        ACTIVE, "the active router is dead: its heartbeats have stopped", seen="heartbeat"
    ),
    (BACKUP, Cue.LEFT): Change(ACTIVE, "the active router left its role", handed_over=True, seen="heartbeat"),
    (BACKUP, Cue.UNLINKED): Change(
        ACTIVE, "a link of the active router is down", seen="heartbeat", lives=True
    ),
    (BACKUP, Cue.OFFERED): Change(
        ACTIVE, "the active router hands its role over", handed_over=True, seen="heartbeat"
    ),
    (BACKUP, Cue.PREEMPTS): Change(ACTIVE, "preempts a router of lower priority", handed_over=True),
    (ACTIVE, Cue.OUT): Change(INITIALIZE),
    (ACTIVE, Cue.BETTER): Change(BACKUP, "a better router is active", Farewell.YIELD),
    (ACTIVE, Cue.EARLIER): Change(BACKUP, "another router was active before"),
    (ACTIVE, Cue.UNHEARD): Change(
        BACKUP, "another router is active and does not hear this one", Farewell.YIELD, seen="heartbeat"
    ),
    (ACTIVE, Cue.FAILOVER): Change(BACKUP, "failover asked for", seen="command"),
    (ACTIVE, Cue.OUTVOTED): Change(BACKUP, "no quorum", seen="quorum"),
    (ACTIVE, Cue.SLEPT): Change(BACKUP, "silent for too long: it was stopped", Farewell.SILENT, seen="fault"),
}

# An event, and the router that caused it, if one did.
CAUSES: dict[tuple[Role, Cue], tuple[Callable[[SyncGroup], list[Action]], Cause | None, dict[str, Any]]] = {
    (INITIALIZE, Cue.READY): (lambda group: group.handle(Start(), LATER), None, {}),
    (INITIALIZE, Cue.OWNER): (lambda group: group.handle(Start(), LATER), None, {"priority": 255}),
    (BACKUP, Cue.OUT): (lambda group: group.handle(Standby(), LATER), None, {}),
    (BACKUP, Cue.RESIGNED): (resigned, Cause(HIGHER, 200, 100), {}),
    (BACKUP, Cue.SILENT): (lambda group: group.handle(Tick(), LATER - SECOND + DOWN), None, {}),
    (BACKUP, Cue.DIED): (lambda group: group.handle(Vacated(Vacancy.DIED), LATER), None, {}),
    (BACKUP, Cue.LEFT): (lambda group: group.handle(Vacated(Vacancy.LEFT), LATER), None, {}),
    (BACKUP, Cue.UNLINKED): (lambda group: group.handle(Vacated(Vacancy.UNLINKED), LATER), None, {}),
    (BACKUP, Cue.OFFERED): (lambda group: group.handle(Vacated(Vacancy.OFFERED), LATER), None, {}),
    (BACKUP, Cue.PREEMPTS): (preempts, Cause(LOWER, 50, 100), {}),
    (ACTIVE, Cue.OUT): (lambda group: group.handle(Stop(), LATER), None, {}),
    (ACTIVE, Cue.BETTER): (lambda group: group.handle(heard(200), LATER), Cause(HIGHER, 200, 100), {}),
    (ACTIVE, Cue.EARLIER): (
        lambda group: group.handle(heard(50, LOWER), LATER), Cause(LOWER, 50, 100), {"preempt": False}
    ),
    (ACTIVE, Cue.UNHEARD): (lambda group: group.handle(Unheard(True), LATER), None, {}),
    (ACTIVE, Cue.FAILOVER): (lambda group: group.handle(Failover(), LATER), None, {}),
    (ACTIVE, Cue.OUTVOTED): (
        lambda group: group.handle(Ballot(False, True, True), LATER), None, {}
    ),
    (ACTIVE, Cue.SLEPT): (lambda group: group.handle(Tick(), LATER + 3 * SECOND), None, {}),
}  # fmt: skip


def test_every_row_has_a_cause_here() -> None:
    assert CAUSES.keys() == ROWS.keys() == TRANSITIONS.keys()


@pytest.mark.parametrize(("role", "cue"), CAUSES, ids=str)
def test_row(role: Role, cue: Cue) -> None:
    happens, cause, settings = CAUSES[role, cue]
    change = ROWS[role, cue]
    assert TRANSITIONS[role, cue] == change
    group = group_of(role, **settings)
    actions = happens(group)
    assert group.role is change.role
    assert {member.role for member in group.members} == {change.role}
    if change.role is ACTIVE:
        assert of(Restore, actions) == [Restore("G", change.handed_over)]
        assert not of(Transition, actions), "it is told when the connections are there"
        actions = group.promotion.skip(group, LATER + 10 * SECOND)
        assert of(Install, actions) == [Install(NAMES)]
    told = of(Transition, actions)
    if role is not ACTIVE or change.role is not ACTIVE:
        state = user_state(change.role, bool(group.faults), cue is Cue.OUT and role is ACTIVE)
        assert [transition.state for transition in told] == [state] * 2 or role is ACTIVE
    if change.why and told:
        assert {transition.why for transition in told} == {change.why}
        assert {transition.cause for transition in told} == {cause}
    if told and cue is not Cue.OUT:
        assert {transition.seen for transition in told} == {change.seen}
    assert bool(of(Remove, actions)) is (role is ACTIVE)
    if role is ACTIVE:
        last = {action.priority for action in of(SendAdvert, actions)}
        assert last == {Farewell.RESIGN: {0}, Farewell.YIELD: {100}, Farewell.SILENT: set()}[change.farewell]
