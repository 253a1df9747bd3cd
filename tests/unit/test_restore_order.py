# SPDX-License-Identifier: GPL-2.0-or-later
"""Replicated connections first, addresses after: the order that is the product."""

from __future__ import annotations

import pytest

from tandem.core.actions import (
    Announce,
    Beat,
    GroupTransition,
    HandOver,
    Install,
    Remove,
    Restore,
    SendAdvert,
    Speculate,
    StopSpeculating,
    Transition,
    Withdraw,
)
from tandem.core.announcing import ANNOUNCE_AGAIN
from tandem.core.events import (
    Failover,
    Restored,
    Resume,
    Standby,
    Start,
    Stop,
    Synchronised,
    Tick,
    Vacancy,
    Vacated,
)
from tandem.core.limits import RESTORE_LIMIT
from tandem.core.settings import Garp, Group
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import HIGHER, LOWER, QUIET, feed, heard, instance, of, ready, run

SECOND = 1_000_000_000
SKEW = 609_375_000  # (256 - 100) / 256 s
DOWN = 3 * SECOND + SKEW


def restoring(patience: int = 0, garp: Garp = QUIET) -> SyncGroup:
    """A pair of instances that restores, in BACKUP since 0."""
    members = (instance("LAN", garp=garp), instance("WAN", garp=garp))
    group = SyncGroup(Group("G", ("LAN", "WAN")), members, restores=True, sync_patience=patience)
    ready(group)
    group.handle(Start(), 0)
    return group


def test_the_addresses_wait_for_the_connections() -> None:
    group = restoring()
    advertised = [SendAdvert("LAN", 100), SendAdvert("WAN", 100)]
    assert group.handle(Tick(), DOWN) == [*advertised, Restore("G")]
    assert group.role is Role.ACTIVE
    assert group.handle(Restored(), DOWN + 5) == [
        Install(("LAN", "WAN")),
        Announce("LAN", 5),
        Announce("WAN", 5),
        Transition("LAN", "MASTER", 100, "no advertisement from an active router"),
        Transition("WAN", "MASTER", 100, "no advertisement from an active router"),
        GroupTransition("G", "MASTER"),
    ]


@pytest.mark.parametrize("agreed", [False, True], ids=["it is silent", "another router goes on meanwhile"])
def test_hosts_are_told_again_and_again_but_not_before_the_addresses_are_there(agreed: bool) -> None:
    """With 100,000 connections the first repetition was due before: hosts came, and met no route."""
    group = restoring(garp=Garp(delay_ms=5000, repeat=5, refresh_ms=3000, lower_prio_repeat=0))
    begin = SECOND if agreed else DOWN
    event = Vacated(Vacancy.OFFERED, (("LAN", HIGHER), ("WAN", HIGHER))) if agreed else Tick()
    assert Restore("G", agreed) in group.handle(event, begin)
    at = begin + 6 * SECOND
    assert [one for _, actions in run(group, at) for one in of(Announce, actions)] == []
    assert Announce("LAN", 5) in group.handle(Restored(), at)
    told = [when - at for when, actions in run(group, at + 5 * SECOND) if of(Announce, actions)]
    assert told == [*ANNOUNCE_AGAIN, 3 * SECOND, 5 * SECOND]


def test_adverts_go_on_while_restoring() -> None:
    group = restoring()
    group.handle(Tick(), DOWN)
    assert group.handle(Tick(), DOWN + SECOND) == [SendAdvert("LAN", 100), SendAdvert("WAN", 100)]


def test_a_restore_that_never_ends_does_not_hold_up_the_gateway() -> None:
    group = restoring()
    *_, (at, actions) = run(group, DOWN + RESTORE_LIMIT)
    assert at == DOWN + RESTORE_LIMIT
    assert [action for action in actions if isinstance(action, Install)] == [Install(("LAN", "WAN"))]
    assert group.handle(Restored(), DOWN + RESTORE_LIMIT + 1) == []


def test_a_role_lost_while_restoring_installs_nothing() -> None:
    group = restoring()
    group.handle(Tick(), DOWN)
    better = heard(200)
    both = ("LAN", "WAN")
    last = [SendAdvert("LAN", 100), SendAdvert("WAN", 100)]
    yields = [Remove(both), HandOver("G"), *last, Withdraw(both)]
    assert group.handle(better, DOWN + 5) == yields  # and nobody was told of MASTER
    assert group.handle(Restored(), DOWN + 6) == []
    assert group.role is Role.BACKUP


def test_stopped_while_restoring() -> None:
    group = restoring()
    group.handle(Tick(), DOWN)
    actions = group.handle(Stop(), DOWN + 1)
    assert SendAdvert("LAN", 0) in actions and not any(isinstance(action, Install) for action in actions)
    assert group.next_deadline() is None


def test_the_first_overdue_advert_begins_the_restore_and_the_next_one_undoes_it() -> None:
    group = restoring()
    feed(group, 0, heard(200, name="LAN"), heard(200, name="WAN"))
    assert group.next_deadline() == 1_250_000_000
    assert group.handle(Tick(), 1_250_000_000) == [Speculate("G")]
    assert feed(group, 1_300_000_000, heard(200, name="LAN"), heard(200, name="WAN")) == [
        StopSpeculating("G")
    ]
    assert group.handle(Tick(), 2_550_000_000) == [Speculate("G")]


def test_becoming_active_goes_on_from_the_speculation() -> None:
    group = restoring()
    feed(group, 0, heard(200, name="LAN"), heard(200, name="WAN"))
    group.handle(Tick(), 1_250_000_000)
    actions = group.handle(Tick(), DOWN)
    assert actions[-1] == Restore("G") and StopSpeculating("G") not in actions
    assert not any(isinstance(action, StopSpeculating) for action in group.handle(Restored(), DOWN + 1))


def test_no_preemption_before_the_connections_are_known() -> None:
    group = restoring(patience=60 * SECOND)
    lesser = [heard(50, LOWER, "LAN"), heard(50, LOWER, "WAN")]
    for second in range(20):
        assert feed(group, second * SECOND, *lesser) == []
        assert group.handle(Tick(), second * SECOND + 1) == []
    group.handle(Synchronised(True), 20 * SECOND)
    feed(group, 20 * SECOND, *lesser)
    for second in (21, 22):
        feed(group, second * SECOND, *lesser)
    actions = group.handle(Tick(), 19 * SECOND + DOWN)
    assert Restore("G", handed_over=True) in actions


def test_the_patience_ends() -> None:
    group = restoring(patience=2 * SECOND)
    lesser = [heard(50, LOWER, "LAN"), heard(50, LOWER, "WAN")]
    feed(group, 1 * SECOND, *lesser)
    for second in (2, 3, 4):
        feed(group, second * SECOND, *lesser)
    assert Restore("G", handed_over=True) in group.handle(Tick(), 2 * SECOND + DOWN)


def patient(group: SyncGroup, since: int, seconds: int) -> bool:
    """Whether the group follows a lesser router for so long and not longer."""
    lesser = [heard(50, LOWER, "LAN"), heard(50, LOWER, "WAN")]
    for second in range(seconds + 1):
        if feed(group, since + second * SECOND, *lesser) or group.handle(Tick(), since + second * SECOND + 1):
            return False
    for half in range(2 * seconds, 2 * seconds + 8):
        feed(group, since + half * SECOND // 2, *lesser)
    return Restore("G", handed_over=True) in group.handle(Tick(), since + (seconds - 1) * SECOND + DOWN)


def test_the_patience_begins_anew_when_connections_are_no_longer_known() -> None:
    group = restoring(patience=5 * SECOND)
    group.handle(Synchronised(True), SECOND)
    group.handle(Synchronised(False), SECOND)
    assert patient(group, 2 * SECOND, 5)


def test_the_patience_begins_anew_after_a_fault() -> None:
    group = restoring(patience=5 * SECOND)
    assert patient(group, SECOND, 5)
    group.handle(Restored(), 20 * SECOND)
    group.handle(Standby(), 30 * SECOND)
    group.handle(Resume(), 100 * SECOND)
    assert group.role is Role.BACKUP and patient(group, 100 * SECOND, 5)


def test_the_patience_begins_when_an_operator_allows_to_preempt() -> None:
    group = restoring(patience=5 * SECOND)
    group.handle(Tick(), DOWN)
    group.handle(Restored(), DOWN)
    group.handle(Failover(), DOWN + SECOND)
    lesser = [heard(50, LOWER, "LAN"), heard(50, LOWER, "WAN")]
    for second in range(5, 100):
        assert feed(group, second * SECOND, *lesser) == []
    group.handle(Resume(), 100 * SECOND)
    assert patient(group, 100 * SECOND, 5)


def active() -> SyncGroup:
    """ACTIVE since DOWN."""
    group = restoring()
    group.handle(Tick(), DOWN)
    group.handle(Restored(), DOWN)
    return group


def test_the_last_words_come_after_the_addresses_and_before_the_goodbye() -> None:
    resigned = [
        Remove(("LAN", "WAN")), HandOver("G"), Beat("G"), SendAdvert("LAN", 0), SendAdvert("WAN", 0)
    ]  # fmt: skip
    assert active().handle(Failover(), DOWN + 1)[:5] == resigned
    assert active().handle(Stop(), DOWN + 1)[:5] == resigned
    yields = active().handle(heard(200), DOWN + 1)
    assert yields[:2] == resigned[:2]


def test_who_is_handed_the_role_knows_it() -> None:
    group = restoring()
    feed(group, 0, heard(200, name="LAN"), heard(200, name="WAN"))
    actions = group.handle(heard(0, name="LAN"), 1)
    actions += group.handle(Tick(), 1 + SECOND)
    assert Restore("G", handed_over=True) in actions
