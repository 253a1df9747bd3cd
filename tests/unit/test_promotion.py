# SPDX-License-Identifier: GPL-2.0-or-later
"""Promotion: every row of its table, the order of its phases, and the same backwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Cause,
    Follow,
    HandOver,
    Install,
    RaiseMacs,
    Remove,
    Restore,
    Retire,
    SendAdvert,
    Serve,
    Transition,
    Unfollow,
    Withdraw,
)
from tandem.core.events import Company, Restored, Synchronised
from tandem.core.limits import LINE_LIMIT, RESTORE_LIMIT
from tandem.core.promotion import (
    IDLE,
    PHASES,
    SERVING,
    TRANSITIONS,
    Cue,
    Demotion,
    Farewell,
    Phase,
    Promotion,
    Reason,
    undo,
)
from tandem.core.settings import Group
from tandem.core.virtual_router import VirtualRouter
from tests.unit.scenario import instance

ADVERTISE, RESTORE, LINE, INSTALL, ANNOUNCE, WAN, SERVICES, TELL = PHASES
WHY = Reason("because", Cause(b"\0\0\0\1", 100, 100))
ADVERTS = [SendAdvert("LAN", 100), SendAdvert("WAN", 100)]
THE_REST = [
    Install(("LAN", "WAN")), Announce("LAN", 5), Announce("WAN", 5),
    Transition("LAN", "MASTER", 100, "because"),
]  # fmt: skip


class Members:
    """A group of two, and of it only what a promotion sees."""

    name = "G"
    follows = line_taken = False
    settings = Group("G", ("LAN", "WAN"))

    def __init__(self, restores: bool = True, use_vmac: str | None = None) -> None:
        self.restores = restores
        self.members = (VirtualRouter(instance("LAN")), VirtualRouter(instance("WAN", use_vmac=use_vmac)))
        self.causes: list[Cause | None] = []

    def promoted(self, reason: Reason) -> list[Action]:
        self.causes.append(reason.cause)
        return [Transition("LAN", "MASTER", 100, reason.why)]


def demotion(group: Members, farewell: Farewell = Farewell.RESIGN) -> Demotion:
    return Demotion(group.name, group.members, group.restores, farewell)


def test_the_phases_and_what_ends_them() -> None:
    names = ["advertise", "restore", "line", "install", "announce", "WAN", "services", "tell"]
    assert [phase.name for phase in PHASES] == names
    assert [(phase.name, phase.ends, phase.limit) for phase in PHASES if phase.ends is not None] == [
        ("restore", Restored, RESTORE_LIMIT),
        ("line", Company, LINE_LIMIT),
    ]


ROWS = {
    (IDLE, Cue.BEGIN): ADVERTISE,
    (ADVERTISE, Cue.ENDED): RESTORE,
    (RESTORE, Cue.ENDED): LINE,
    (RESTORE, Cue.LATE): LINE,
    (LINE, Cue.ENDED): INSTALL,
    (LINE, Cue.LATE): INSTALL,
    (INSTALL, Cue.ENDED): ANNOUNCE,
    (ANNOUNCE, Cue.ENDED): WAN,
    (WAN, Cue.ENDED): SERVICES,
    (SERVICES, Cue.ENDED): TELL,
    (TELL, Cue.ENDED): SERVING,
    (SERVING, Cue.BEGIN): ADVERTISE,
    **{(phase, Cue.DEMOTE): IDLE for phase in (*PHASES, SERVING)},
}


def test_the_table() -> None:
    assert TRANSITIONS == ROWS


def reached(phase: Phase) -> tuple[Promotion, Members]:
    """A promotion that has come to a phase at 0."""
    promotion, group = Promotion(), Members()
    promotion.phase = phase
    promotion.deadline = phase.limit if phase.ends else None
    return promotion, group


@pytest.mark.parametrize("phase", (IDLE, *PHASES, SERVING), ids=lambda phase: phase.name)
@pytest.mark.parametrize("cue", Cue)
def test_every_cue_in_every_phase(phase: Phase, cue: Cue) -> None:
    """A cue without a row changes nothing; after a row, phases follow up to one that waits."""
    promotion, group = reached(phase)
    match cue:
        case Cue.BEGIN:
            actions = promotion.begin(group, WHY, 1)
        case Cue.ENDED:
            actions = promotion.take_in(Company(), group, 1) if phase is LINE else promotion.skip(group, 1)
        case Cue.LATE:
            actions = promotion.due(group, RESTORE_LIMIT)
        case Cue.DEMOTE:
            actions = promotion.demote(demotion(group))
    if cue is Cue.DEMOTE:
        assert (promotion.phase, promotion.waiting) == (IDLE, False)
        return
    if (phase, cue) not in ROWS or (cue is Cue.ENDED and not phase.ends):
        assert (actions, promotion.phase) == ([], phase)
        return
    expected: list[Action] = []
    following = ROWS[phase, cue]
    while following not in (RESTORE, SERVING):
        expected += following.start(Members(), WHY, 1) if following.start and following is not TELL else []
        following = ROWS[following, Cue.ENDED]
    assert promotion.phase is following
    assert promotion.waiting is (following is RESTORE)
    assert [action for action in actions if not isinstance(action, Transition | Restore)] == expected


def test_connections_come_before_addresses() -> None:
    promotion, group = Promotion(), Members()
    assert promotion.begin(group, WHY, 7) == [*ADVERTS, Restore("G")]
    assert (promotion.phase, promotion.deadline) == (RESTORE, 7 + RESTORE_LIMIT)
    assert promotion.take_in(Synchronised(True), group, 8) == []
    assert promotion.take_in(Restored(), group, 9) == THE_REST
    assert (promotion.phase, promotion.deadline, group.causes) == (SERVING, None, [WHY.cause])
    assert promotion.take_in(Restored(), group, 10) == []


def test_without_replication_there_is_no_wait() -> None:
    promotion, group = Promotion(), Members(restores=False)
    assert promotion.begin(group, WHY, 7) == [*ADVERTS, *THE_REST]
    assert promotion.phase is SERVING and not promotion.waiting


def test_the_deadline_goes_on_without_what_is_missing() -> None:
    promotion, group = Promotion(), Members()
    promotion.begin(group, WHY, 7)
    assert promotion.due(group, 7 + RESTORE_LIMIT - 1) == []
    assert promotion.due(group, 7 + RESTORE_LIMIT) == THE_REST
    assert promotion.due(group, 7 + 2 * RESTORE_LIMIT) == []


def test_a_virtual_mac_address_comes_before_the_first_advert() -> None:
    promotion, group = Promotion(), Members(use_vmac="vrrp.51")
    assert promotion.begin(group, WHY, 7)[:2] == [RaiseMacs(("WAN",)), ADVERTS[0]]


def test_who_is_handed_the_role_says_so() -> None:
    promotion = Promotion()
    assert Restore("G", handed_over=True) in promotion.begin(Members(), Reason("", handed_over=True), 7)


def test_a_reload_states_everything_again_but_restores_nothing() -> None:
    promotion, group = Promotion(), Members()
    promotion.begin(group, WHY, 7)
    again = Reason("because", again=True)
    assert promotion.begin(group, again, 8) == [], "not while it waits"
    assert promotion.restate(group, 8) == [Restore("G")]
    promotion.skip(group, 9)
    assert promotion.begin(group, again, 10) == [*ADVERTS, *THE_REST]
    assert promotion.restate(group, 11) == []


def test_a_group_that_parts_waits_on_in_both_halves() -> None:
    promotion, group = Promotion(), Members()
    promotion.begin(group, WHY, 7)
    other = promotion.copy()
    assert promotion.take_in(Restored(), group, 8) == THE_REST
    assert other.waiting and other.due(group, 7 + RESTORE_LIMIT) == THE_REST


GOODBYES = [Beat("G"), SendAdvert("LAN", 0), SendAdvert("WAN", 0)]
BOTH = ("LAN", "WAN")


@pytest.mark.parametrize(
    ("farewell", "said"),
    [
        (Farewell.RESIGN, [HandOver("G"), *GOODBYES]),
        (Farewell.YIELD, [HandOver("G"), *ADVERTS]),
        (Farewell.SILENT, []),
    ],
)
def test_the_demotion_is_the_promotion_backwards(farewell: Farewell, said: list[Action]) -> None:
    promotion, group = Promotion(), Members()
    promotion.begin(group, WHY, 7)
    assert promotion.demote(demotion(group, farewell)) == [Remove(BOTH), *said, Withdraw(BOTH)]
    assert (promotion.phase, promotion.deadline) == (IDLE, None)
    assert promotion.take_in(Restored(), group, 8) == []


def test_nobody_is_handed_connections_that_are_not_replicated() -> None:
    assert undo(demotion(Members(restores=False))) == [Remove(BOTH), *GOODBYES, Withdraw(BOTH)]


def test_some_routers_give_the_role_up_without_a_last_advert() -> None:
    group = Members(restores=False)
    group.members = (VirtualRouter(instance("LAN", higher_prio_send_advert=False)), group.members[1])
    assert undo(demotion(group, Farewell.YIELD)) == [Remove(BOTH), ADVERTS[1], Withdraw(BOTH)]


@pytest.mark.parametrize("left", [True, False])
def test_a_line_is_taken_when_the_other_router_has_left_it(left: bool) -> None:
    promotion, group = Promotion(), Members()
    group.follows = group.line_taken = True
    promotion.begin(group, WHY, 7)
    assert promotion.take_in(Restored(), group, 9) == [Beat("G")]
    assert (promotion.phase, promotion.deadline) == (LINE, 9 + LINE_LIMIT)
    group.line_taken = not left
    served = promotion.take_in(Company(), group, 10) if left else promotion.due(group, 9 + LINE_LIMIT)
    assert served == [*THE_REST[:3], Follow("G"), THE_REST[3]]
    assert promotion.begin(group, Reason("", again=True), 11)[:3] == [*ADVERTS, THE_REST[0]]
    yields = replace(demotion(group, Farewell.YIELD), follows=True)
    assert promotion.demote(yields) == [
        Remove(BOTH), HandOver("G"), Unfollow("G"), *ADVERTS, Beat("G"), Withdraw(BOTH)
    ]  # fmt: skip


def test_services_start_after_the_addresses_and_stop_before_they_go() -> None:
    promotion, group = Promotion(), Members(restores=False)
    group.settings = Group("G", BOTH, services=True)
    actions = promotion.begin(group, Reason("because", handed_over=True), 7)
    assert actions == [*ADVERTS, *THE_REST[:3], Serve("G", True), THE_REST[3]]
    promotion.demote(demotion(group))
    assert Serve("G", True) in promotion.begin(group, Reason("a link is down", lives=True), 8)
    promotion.demote(demotion(group))
    assert Serve("G", False) in promotion.begin(group, Reason("dead"), 9)
    going = replace(demotion(group), serves=True)
    assert promotion.demote(going)[:2] == [Retire("G"), Remove(BOTH)]
