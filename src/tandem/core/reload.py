# SPDX-License-Identifier: GPL-2.0-or-later
"""Reload: a sync group goes on in its role while its settings and its members change.

A member that leaves takes only itself away. A new member joins in the role of the others. Members that come
from groups with different roles are elected anew, because nobody knows which of the roles is the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tandem.core.actions import Action, Transition
from tandem.core.damping import Damping
from tandem.core.faults import tracks_of
from tandem.core.promotion import Demotion, Farewell, Reason, undo
from tandem.core.settings import Group, Instance
from tandem.core.state import Role
from tandem.core.sync_group import SyncGroup
from tandem.core.virtual_router import VirtualRouter


def leave(group: SyncGroup, names: Iterable[str]) -> list[Action]:
    """Let members go while others go on.

    They do not resign: a resignation on one interface makes a backup take over its whole group.
    """
    going = set(names)
    leaving = tuple(member for member in group.members if member.name in going)
    group.take_members(member for member in group.members if member.name not in going)
    demotion = replace(_initialized(group, leaving, Farewell.SILENT), follows=False)
    actions = undo(demotion) if demotion.members else []
    for member in leaving:
        group.fault_state.effects.forget(member.name)
        actions.append(Transition(member.name, "STOP", member.priority, "reloaded"))
    return actions


def sibling(group: SyncGroup) -> SyncGroup:
    """Return another group in the same situation, for members that leave this group."""
    other = object.__new__(SyncGroup)
    other.__dict__.update(group.__dict__)
    other.fault_state, other.promotion = group.fault_state.copy(), group.promotion.copy()
    other.reunion = group.reunion.copy()
    other.damping = Damping(group.damping.changes, group.damping.time)
    return other


def heirs(running: Mapping[str, SyncGroup], origins: Mapping[str, str | None]) -> dict[str, SyncGroup]:
    """Return the groups that go on in a role, by their new names.

    `origins` has the running group whose role each new group continues; None: it begins anew. A running group
    goes on itself under one name, its own if that is wanted; the others that continue its role are siblings.
    """
    found: dict[str, SyncGroup] = {}
    free = set(running)
    for name in sorted(origins, key=lambda name: origins[name] != name):
        origin = origins[name]
        if origin is not None:
            found[name] = running[origin] if origin in free else sibling(running[origin])
            free.discard(origin)
    return found


def reconfigure(
    group: SyncGroup,
    settings: Group,
    instances: Iterable[Instance],
    now: int,
    joining: Mapping[str, VirtualRouter] | None = None,
    sources: Mapping[str, bytes | None] | None = None,
) -> list[Action]:
    """Go on in the same role with changed settings.

    `joining` come from other groups, with their roles; an instance that nobody knows joins in the role
    of the others, with the address that `sources` has for it.
    """
    actions = group.wake_up(now)
    renamed, group.settings = settings.name != group.settings.name, settings
    known = {**group.by_name, **(joining or {})}
    members, new = [], []
    for instance in instances:
        member = known.get(instance.name)
        if member is None:
            member = VirtualRouter(instance, group.restores)
            member.source = (sources or {}).get(instance.name)
            new.append(member)
        else:
            member.reconfigure(instance, now)
        members.append(member)
    group.take_members(members)
    group.tracking.replace(tracks_of(settings, group.members))
    group.fault_state.forgive(group.members)
    for member in group.members:
        member.priority = group.tracking.priority(member.settings.priority)
    actions += _unite(group, new, now)
    if renamed:
        actions += group.promotion.restate(group, now)
    actions += group.settle(now)  # a new fault comes before anything is installed
    if group.role is Role.ACTIVE:
        actions += group.promotion.begin(group, Reason("reloaded", again=True), now)
    return actions


def _unite(group: SyncGroup, new: list[VirtualRouter], now: int) -> list[Action]:
    """Bring members that come from elsewhere into one role; the new ones have none yet."""
    roles = {member.role for member in group.members if member not in new}
    if len(roles) > 1:
        group.part()
        demotion = _initialized(group, group.members, Farewell.RESIGN)
        actions = group.promotion.demote(demotion)
        return actions if demotion.members else []
    actions = []
    for member in new:
        if Role.ACTIVE in roles:
            actions += member.advertise_first(now)
        elif Role.BACKUP in roles:
            actions += member.come_up(now)
    if new and not group.faults:
        actions += group.report(f"joins {group.name}")
    return actions


def _initialized(group: SyncGroup, members: tuple[VirtualRouter, ...], farewell: Farewell) -> Demotion:
    """Put members into INITIALIZE; return the demotion of those that were active."""
    active = tuple(member for member in members if member.role is Role.ACTIVE)
    for member in members:
        member.become_initialize()
    return Demotion(group.name, active, group.restores, farewell, group.follows)
