# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks between the sections of a configuration."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.config.read import Parsed, Report
from tandem.config.schema import Config
from tandem.core.settings import Address, Group, Instance, Track


def check(config: Config, sections: Mapping[str, list[Parsed]], report: Report) -> None:
    """Report everything in one section that contradicts another section."""
    parsed = {section.key: section for section in reversed(sections.get("vrrp_instance", []))}
    instances = {instance.name: instance for instance in config.instances}
    _identities(config, parsed)
    _virtual_macs(config, parsed)
    _addresses(config, parsed)
    for instance in config.instances:
        if not instance.preempt:
            _weights_without_preemption(parsed[instance.name], instance.tracks)
    for section in sections.get("vrrp_sync_group", []):
        group = next((g for g in config.groups if g.name == section.name and not g.implicit), None)
        if group:
            _group(group, section, instances)
            if any(name in instances and not instances[name].preempt for name in group.members):
                _weights_without_preemption(section, group.tracks)
        if any(g.implicit and g.name == section.name for g in config.groups):
            section.error("an instance that is in no group has this name too: give another name", "name")


def _identities(config: Config, parsed: Mapping[str, Parsed]) -> None:
    seen: dict[tuple[str, int, int], str] = {}
    for instance in config.instances:
        if not instance.interface or not instance.virtual_router_id:
            continue  # it is in error already
        key = (instance.interface, instance.family, instance.virtual_router_id)
        before = seen.setdefault(key, instance.name)
        if before != instance.name:
            place = f"on {instance.interface} too (IPv{instance.family})"
            parsed[instance.name].error(
                f"vrrp_instance '{before}' has this id {place}: give another", "virtual_router_id"
            )


def _virtual_macs(config: Config, parsed: Mapping[str, Parsed]) -> None:
    seen: dict[str, str] = {}
    interfaces = {instance.interface for instance in config.instances}
    for instance in config.instances:
        if instance.use_vmac is None:
            continue
        before = seen.setdefault(instance.use_vmac, instance.name)
        if instance.use_vmac in interfaces:
            parsed[instance.name].error(
                "is an interface that an instance runs on; give a new name, or 1", "use_vmac"
            )
        elif before != instance.name:
            parsed[instance.name].error(
                f"vrrp_instance '{before}' uses this name too: give another, or 1", "use_vmac"
            )


def _place(instance: Instance, address: Address) -> str:
    if address.device:
        return address.device
    same = address.family == instance.family
    return instance.use_vmac if instance.use_vmac and same else instance.interface


def _addresses(config: Config, parsed: Mapping[str, Parsed]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for address in config.static_addresses:
        if address.device:
            seen.setdefault((address.address, address.device), "a static_ipaddress")
    for instance in config.instances:
        section = parsed[instance.name]
        owner = f"vrrp_instance '{instance.name}'"
        for option in ("virtual_ipaddress", "virtual_ipaddress_excluded"):
            for item in section.resolved.get(option, []):
                device = _place(instance, item.value)
                key = (item.value.address, device)
                if key in seen:
                    where = "this instance" if seen[key] == owner else seen[key]
                    reason = (
                        f"{item.value.address} on {device} belongs to {where} already: remove one of the two"
                    )
                    section.error(reason, option, item)
                seen[key] = owner


def _weights_without_preemption(section: Parsed, tracks: tuple[Track, ...]) -> None:
    for track in tracks:
        if track.weight and track.kind in ("interface", "script", "check", "internet"):
            why = f"the weight of '{track.name}' moves nothing while the other router has nopreempt too"
            instead = "" if track.kind == "internet" else "; with weight 0, down is a fault"
            section.warn(why + instead, f"track_{track.kind}")


def _group(group: Group, section: Parsed, instances: Mapping[str, Instance]) -> None:
    members = [instances[name] for name in group.members if name in instances]
    if len(members) > 1:
        for what, values in (
            ("priority", [str(m.priority) for m in members]),
            ("nopreempt", ["off" if m.preempt else "on" for m in members]),
        ):
            if len(set(values)) > 1:
                each = ", ".join(f"{m.name} {value}" for m, value in zip(members, values, strict=True))
                section.warn(f"the members differ in {what}: {each}", "group")
    seen: dict[tuple[str, str], tuple[str, Track]] = {}
    tracked = [(f"'{m.name}'", track) for m in members for track in m.tracks]
    for owner, track in [("the group", track) for track in group.tracks] + tracked:
        before, known = seen.setdefault((track.kind, track.name), (owner, track))
        if known != track:
            section.error(
                f"{track.kind} '{track.name}' counts once in a group, but has one weight in {before}"
                f" and another in {owner}",
                "group",
            )
