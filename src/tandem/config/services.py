# SPDX-License-Identifier: GPL-2.0-or-later
"""The `service` sections: the group that each one follows, and an order in which needs come first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tandem.config.names import Names
from tandem.config.options.service import SERVICES_MAX
from tandem.config.read import Parsed
from tandem.core.settings import Group, Service, Track


def build(found: Sequence[Parsed], groups: Sequence[Group], names: Names, peers: bool) -> tuple[Service, ...]:
    """Return the services, each behind those that it is `after` or `with`. `peers`: there is a channel."""
    if len(found) > SERVICES_MAX:
        found[SERVICES_MAX].error(f"more than {SERVICES_MAX} services")
        found = found[:SERVICES_MAX]
    known = set(names.sections["service"])
    services = {
        parsed.name: service
        for parsed in found
        if names.sections["service"].get(parsed.name) is parsed
        and (service := _service(parsed, groups, names, known)) is not None
    }
    if not peers and any(service.where == "active" for service in services.values()):
        found[0].warn(
            "without config peer no router says when services have stopped: for a moment they may run twice"
        )
    return tuple(services[name] for name in _in_order(services, names.sections["service"]))


def follow(groups: Iterable[Group], services: Sequence[Service]) -> tuple[Group, ...]:
    """Return the groups with what their services add: their roles depend on them."""
    return tuple(_group(group, [one for one in services if one.group == group.name]) for group in groups)


def _group(group: Group, services: Sequence[Service]) -> Group:
    if not services:
        return group
    tracks = [Track("service", one.name) for one in services if one.where == "active"]
    tracks += [Track("running", one.name, one.stickiness) for one in services if one.stickiness]
    return replace(group, tracks=(*group.tracks, *tracks), services=True)


def _service(parsed: Parsed, groups: Sequence[Group], names: Names, known: set[str]) -> Service | None:
    fields = parsed.fields()
    agent, command = parsed.given("agent"), parsed.given("command")
    if agent == command:
        parsed.error("needs one of agent and command", "command" if agent else None)
    if parsed.given("param") and not (parsed.get("agent") or "ocf:").startswith("ocf:"):
        parsed.error("is for OCF agents only", "param")
    if command and not agent:
        fields["monitor_interval_ms"] = 0
        if parsed.given("monitor_interval"):
            parsed.warn("has no effect: Tandem sees itself when the command ends", "monitor_interval")
    for option, field in (("after", "after"), ("with", "together")):
        items = names.split(parsed, option)
        for item in items:
            if item.text not in known:
                reason = "there is no service of this name" + names.hint(item.text, known)
                parsed.error(reason, option, item)
            names.used.add(("service", item.text))
        fields[field] = tuple(dict.fromkeys(item.text for item in items if item.text in known))
    fields["checks"] = names.checks(parsed, "check")
    fields["group"] = _group_of(parsed, groups, names)
    if not parsed.name:
        return None
    return Service(**{"name": parsed.name} | fields)


def _group_of(parsed: Parsed, groups: Sequence[Group], names: Names) -> str:
    """Return the group that the service follows; empty: none."""
    if parsed.get("where") == "everywhere":
        if parsed.given("group"):
            parsed.warn("has no effect: a service that runs everywhere follows no group", "group")
        return ""
    by_name = {group.name: group for group in groups}
    found: str | None = parsed.get("group")
    if found is None:
        if len(groups) == 1:
            return groups[0].name
        parsed.error("names no group: which role does it follow?" + names.hint("", by_name), "group")
    elif found not in by_name:
        member = next((group.name for group in groups if found in group.members), None)
        if member is not None:
            reason = f"is an instance of the group '{member}': give that"
        else:
            reason = "there is no vrrp_sync_group or vrrp_instance of this name" + names.hint(found, by_name)
        parsed.error(reason, "group")
    return found or ""


def _in_order(services: Mapping[str, Service], sections: Mapping[str, Parsed]) -> list[str]:
    """Return the names in an order in which needs come first; a circle is an error."""
    done: dict[str, None] = {}
    path: list[str] = []

    def visit(name: str) -> None:
        if name in done or name not in services:
            return
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            sections[name].error(f"needs itself by after and with: {circle}")
            return
        path.append(name)
        for need in (*services[name].after, *services[name].together):
            visit(need)
        path.pop()
        done[name] = None

    for name in services:
        visit(name)
    return list(done)
