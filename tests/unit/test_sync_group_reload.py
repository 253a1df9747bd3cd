# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload of sync groups: who keeps the role when members change, join, leave, unite or part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tandem.core.actions import (
    Beat,
    GroupTransition,
    Install,
    Remove,
    Restore,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.events import EffectFailed, Restored, Tick, TrackerChanged
from tandem.core.reload import heirs, leave, reconfigure, sibling
from tandem.core.settings import Group, Track
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tests.unit.group_steps import NAMES, SIZES, becomes_active, leaves, pack
from tests.unit.scenario import OURS, active, instance, of, started, sync_group

BACKUP, ACTIVE = Role.BACKUP, Role.ACTIVE


@pytest.mark.parametrize("size", SIZES)
def test_reload_of_an_active_group_states_everything_again_in_order(size: int) -> None:
    group = active(pack(size))
    actions = reconfigure(group, group.settings, [instance(name) for name in NAMES[:size]], 1)
    assert actions == becomes_active(size, "")[: 2 * size + 1], "and no transition"


def test_reload_with_another_tracker_that_is_down_is_a_fault_of_all() -> None:
    group = active(sync_group(instance("LAN"), instance("WAN"), tracks=(Track("script", "chk", -30),)))
    group.handle(TrackerChanged("script", "chk", False), 0)
    settings = replace(group.settings, tracks=(Track("script", "chk"),))
    actions = reconfigure(group, settings, [instance("LAN"), instance("WAN")], 1)
    assert actions == leaves(2, "FAULT", "script chk down")
    assert not of(Install, actions)


def test_a_new_member_joins_in_the_role() -> None:
    group = active(pack(1))
    settings = Group("G", NAMES[:2])
    actions = reconfigure(
        group, settings, [instance(name) for name in NAMES[:2]], 1, sources={NAMES[1]: OURS}
    )
    assert (group.role, [member.role for member in group.members]) == (ACTIVE, [ACTIVE, ACTIVE])
    assert of(Install, actions) == [Install(NAMES[:2])]
    assert of(Remove, actions) == []
    assert of(Transition, actions) == [Transition(NAMES[1], "MASTER", 100, "joins G")]
    assert of(GroupTransition, actions) == [GroupTransition("G", "MASTER")]


def test_a_new_member_of_a_backup_listens() -> None:
    group = started(pack(1))
    sources = {NAMES[1]: OURS}
    reconfigure(group, Group("G", NAMES[:2]), [instance(name) for name in NAMES[:2]], 1, sources=sources)
    assert [member.role for member in group.members] == [BACKUP, BACKUP]


def test_the_fault_of_a_member_leaves_with_it() -> None:
    group = active(pack(2))
    group.handle(EffectFailed(NAMES[1], "route: refused"), 0)
    assert group.faults and group.role is not ACTIVE
    leave(group, NAMES[1:2])
    reconfigure(group, Group("G", NAMES[:1]), [instance(NAMES[0])], 1)
    assert not group.fault_state.effects


def test_a_member_that_leaves_takes_only_itself_away_and_does_not_resign() -> None:
    """A backup that hears a resignation would take over the whole group."""
    group = active(pack(2))
    actions = leave(group, NAMES[1:2])
    assert actions == [
        Remove(NAMES[1:2]),
        Withdraw(NAMES[1:2]),
        Transition(NAMES[1], "STOP", 100, "reloaded"),
    ]
    actions = reconfigure(group, group.settings, [instance(NAMES[0])], 1)
    assert group.role is ACTIVE and of(Remove, actions) == []
    group = active(pack(2))
    leave(group, NAMES[:1])
    changed = [instance(name, virtual_router_id=9) for name in NAMES[:2]]
    reconfigure(group, group.settings, changed, 1, sources={NAMES[0]: OURS})
    assert [member.role for member in group.members] == [ACTIVE, ACTIVE], "also when it comes back as another"


def test_groups_that_unite_keep_the_role_that_they_have_in_common() -> None:
    one, other = active(sync_group(instance("LAN"))), active(sync_group(instance("WAN")))
    actions = reconfigure(
        one, Group("G", ("LAN", "WAN")), [instance("LAN"), instance("WAN")], 1, other.by_name
    )
    assert one.role is ACTIVE and of(Remove, actions) == []
    assert of(GroupTransition, actions) == [GroupTransition("G", "MASTER")] and not of(Transition, actions)


def test_groups_that_unite_in_different_roles_are_elected_anew() -> None:
    one, other = started(sync_group(instance("LAN"))), active(sync_group(instance("WAN")))
    actions = reconfigure(
        one, Group("G", ("LAN", "WAN")), [instance("LAN"), instance("WAN")], 1, other.by_name
    )
    actions += one.handle(TrackerChanged("interface", "wan", True), 1)
    assert [member.role for member in one.members] == [BACKUP, BACKUP]
    assert actions[:3] == [Remove(("WAN",)), Beat("G"), SendAdvert("WAN", 0)]
    assert Transition("WAN", "BACKUP", 100, "started") in actions


def test_a_group_that_parts_keeps_its_role_in_both() -> None:
    group = active(pack(2))
    other = sibling(group)
    for half, name in ((group, NAMES[0]), (other, NAMES[1])):
        actions = reconfigure(half, Group(name, (name,), implicit=True), [instance(name)], 1)
        assert half.role is ACTIVE and of(Remove, actions) == []
        assert [member.name for member in half.members] == [name]
    other.handle(TrackerChanged("interface", NAMES[1].lower(), False), 2)
    assert (other.state, group.state) == ("FAULT", "MASTER")


def test_a_group_with_another_name_asks_for_its_connections_again() -> None:
    """The answer names the group."""
    members = [instance(name) for name in NAMES[:2]]
    group = SyncGroup(Group("G", NAMES[:2]), members, restores=True)
    started(group)
    due = group.next_deadline()
    assert due is not None
    assert of(Restore, group.handle(Tick(), due)) == [Restore("G")]
    assert reconfigure(group, group.settings, members, due + 1) == []
    assert reconfigure(group, Group("H", NAMES[:2]), members, due + 2) == [Restore("H")]
    assert of(Install, group.handle(Restored(), due + 3)) == [Install(NAMES[:2])]


def test_one_name_goes_on_with_the_group_itself_and_others_with_siblings() -> None:
    old, other = active(sync_group(instance("LAN"), instance("WAN"))), active(sync_group(instance("DMZ")))
    found = heirs({"G": old, "H": other}, {"A": "G", "G": "G", "B": "G", "new": None, "C": "H"})
    assert set(found) == {"A", "G", "B", "C"} and found["G"] is old, "its own name comes first"
    assert found["C"] is other, "any name, when nobody has its own"
    assert old not in (found["A"], found["B"]) and found["A"] is not found["B"]
    assert found["A"].role is found["B"].role is ACTIVE
