# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reload changes, so that the daemon keeps the role and the addresses of all else.

Pure, and imports nothing but the schema: the resident daemon uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from tandem.config.schema import Address, Config, Group, Instance, Route, Rule

# Who an instance is on the wire and where: with any of these changed it is another virtual
# router, which must be elected anew. All other fields are settings of the same one.
IDENTITY = frozenset({
    "interface", "virtual_router_id", "version", "family", "auth_pass", "multicast_group",
    "mcast_src_ip", "unicast_src_ip", "unicast_peers", "use_vmac", "vmac_xmit_base",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """How an instance of a changed group differs; all empty: not at all."""

    name: str
    fields: tuple[str, ...] = ()  # names of those that differ
    lost_addresses: tuple[Address, ...] = ()  # no longer carried: to be removed while active
    lost_routes: tuple[Route, ...] = ()
    lost_rules: tuple[Rule, ...] = ()

    @property
    def hard(self) -> bool:
        """Whether the role must be given up."""
        return not IDENTITY.isdisjoint(self.fields)


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A group that both configurations have and that is not the same in them."""

    name: str
    instances: tuple[InstanceChange, ...]  # members of both, changed or not
    added: tuple[str, ...] = ()  # members of the new one only
    removed: tuple[str, ...] = ()  # members of the old one only

    @property
    def hard(self) -> bool:
        """Whether the group must give up its role: a member did, or came, or left."""
        return bool(self.added or self.removed) or any(change.hard for change in self.instances)


@dataclass(frozen=True, slots=True)
class Diff:
    """Groups by name, in the order of the new (removed: of the old) configuration."""

    unchanged: tuple[str, ...]
    changed: tuple[GroupChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    globals_changed: bool  # router_id, address_lifetime, script user, ...
    scripts: tuple[str, ...]  # scripts that are new or run differently
    static_changed: bool
    conntrack_sync_changed: bool  # also when only the contents of a key file are other ones
    dhcp_gateway_changed: bool

    @property
    def empty(self) -> bool:
        """Whether the two configurations are the same."""
        groups = (self.changed, self.added, self.removed, self.scripts)
        others = (self.globals_changed, self.static_changed, self.conntrack_sync_changed)
        return not any(groups) and not any(others) and not self.dhcp_gateway_changed


def diff(old: Config, new: Config) -> Diff:
    """What changes from the old configuration to the new one."""
    old_groups = {group.name: group for group in old.groups}
    new_groups = {group.name: group for group in new.groups}
    old_instances = {instance.name: instance for instance in old.instances}
    new_instances = {instance.name: instance for instance in new.instances}
    old_scripts = {script.name: script for script in old.scripts}
    scripts = tuple(script.name for script in new.scripts if old_scripts.get(script.name) != script)
    unchanged: list[str] = []
    changed: list[GroupChange] = []
    for name, group in new_groups.items():
        before = old_groups.get(name)
        if before is None:
            continue
        change = _group(before, group, old_instances, new_instances)
        same = before == group and not any(i.fields for i in change.instances)
        if same and not _tracked(group, new_instances) & set(scripts):
            unchanged.append(name)
        else:
            changed.append(change)
    return Diff(
        unchanged=tuple(unchanged),
        changed=tuple(changed),
        added=tuple(name for name in new_groups if name not in old_groups),
        removed=tuple(name for name in old_groups if name not in new_groups),
        globals_changed=old.globals != new.globals,
        scripts=scripts,
        static_changed=_static(old) != _static(new),
        conntrack_sync_changed=old.conntrack_sync != new.conntrack_sync,
        dhcp_gateway_changed=old.dhcp_gateway != new.dhcp_gateway,
    )


def _static(config: Config) -> tuple[object, ...]:
    return config.static_addresses, config.static_routes, config.static_rules


def _tracked(group: Group, instances: dict[str, Instance]) -> set[str]:
    """The names of all scripts that a group and its members track."""
    tracks = list(group.tracks)
    for name in group.members:
        tracks += instances[name].tracks
    return {track.name for track in tracks if track.kind == "script"}


def _group(
    old: Group, new: Group, old_instances: dict[str, Instance], new_instances: dict[str, Instance]
) -> GroupChange:
    kept = [name for name in new.members if name in old.members]
    return GroupChange(
        new.name,
        tuple(_instance(old_instances[name], new_instances[name]) for name in kept),
        added=tuple(name for name in new.members if name not in kept),
        removed=tuple(name for name in old.members if name not in kept),
    )


def _instance(old: Instance, new: Instance) -> InstanceChange:
    carried = {*new.virtual_addresses, *new.excluded_addresses}
    return InstanceChange(
        new.name,
        tuple(f.name for f in fields(Instance) if getattr(old, f.name) != getattr(new, f.name)),
        tuple(a for a in (*old.virtual_addresses, *old.excluded_addresses) if a not in carried),
        tuple(route for route in old.routes if route not in new.routes),
        tuple(rule for rule in old.rules if rule not in new.rules),
    )
