# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a file in UCI syntax into a validated Config, or reports all its errors.

`uci` splits the text into sections, `read` converts option by option, this module resolves names
and puts the objects together (`instance` those of a vrrp_instance, `peers` and `conntrack_sync` those of
their sections), and `check` looks at what must fit between them. Each step goes on as far as it can, so that
one run shows every error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tandem.config import (
    check,
    check_sections,
    conntrack_sync,
    dhcp_gateway,
    instance,
    read,
    services,
    uci,
    virtual_servers,
    witness,
)
from tandem.config.follow import Follows
from tandem.config.names import Names
from tandem.config.peers import Peers
from tandem.config.problem import Problem
from tandem.config.read import Parsed, Report
from tandem.config.schema import Config, Globals, Script
from tandem.core.settings import Address, Group, Instance, Notify, Route, Rule

MOST_INSTANCES = 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration or errors, never both; warnings in either case."""

    config: Config | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def load_file(path: str) -> Loaded:
    """Return the configuration in a file; a file that can't be read is an error like any other."""
    try:
        with open(path, "rb") as file:
            data = file.read(uci.LARGEST_FILE + 1)
    except OSError as error:
        return _failed(Problem(path, 0, f"can't be read: {error.strerror}"))
    if len(data) > uci.LARGEST_FILE:
        return _failed(Problem(path, 0, f"larger than {uci.LARGEST_FILE} bytes"))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _failed(Problem(path, line, f"byte 0x{data[error.start]:02x} is not UTF-8 text"))
    return load_text(text, path)


def load_text(text: str, file: str) -> Loaded:
    """Return the configuration in a text, which messages call `file`. Never raises."""
    document = uci.read(text, file)
    report = Report(file, list(document.errors), list(document.warnings))
    config = None
    try:
        config = _build(document, report)
    except read.TooMany:
        report.errors.append(Problem(file, 0, f"more than {uci.MOST_ERRORS} errors: the rest is not shown"))
    errors = tuple(sorted(set(report.errors), key=_position))
    warnings = tuple(sorted(set(report.warnings), key=_position))
    return Loaded(None if errors else config, errors, warnings)


def _position(problem: Problem) -> tuple[int, str, str, str]:
    return problem.line or 1 << 30, problem.option or "", problem.value or "", problem.reason


def _failed(problem: Problem) -> Loaded:
    return Loaded(None, (problem,), ())


def _build(document: uci.Document, report: Report) -> Config:
    sections: dict[str, list[Parsed]] = {}
    for section in document.sections:
        if (parsed := read.read(section, report)) is not None:
            kind = "globals" if section.type == "global_defs" else section.type
            sections.setdefault(kind, []).append(parsed)
    settings = _one(sections.get("globals", []), report)
    names = Names(sections)
    scripts = _scripts(sections.get("vrrp_script", []))
    found = sections.get("vrrp_instance", [])
    if len(found) > MOST_INSTANCES:
        found[MOST_INSTANCES].error(f"more than {MOST_INSTANCES} instances")
        found = found[:MOST_INSTANCES]
    instances = instance.build_all(found, names, settings)
    syncs = sections.get("conntrack_sync", [])
    found_peers = Peers(names, syncs, tuple(instances.values()), settings.get("router_id"))
    peers, replicated = conntrack_sync.build(syncs, found_peers)
    follows = Follows(names, instances)
    sync_groups = sections.get("vrrp_sync_group", [])
    groups = _groups(sync_groups, found, instances, names, follows)
    follows.check(sync_groups, found, bool(peers or sections.get("peer")))
    checks = check_sections.build(sections.get("check", []), names, settings)
    virtual, real = virtual_servers.build(sections.get("virtual_server", []), names, checks)
    served = services.build(sections.get("service", []), groups, names, bool(peers))
    config = Config(
        globals=_globals(settings),
        instances=tuple(instances.values()),
        groups=services.follow(groups, served),
        follows=tuple(follows.found.values()),
        scripts=scripts,
        static_addresses=_static(sections, "static_ipaddress", "address", names.address, Address),
        static_routes=_static(sections, "static_routes", "route", names.route, Route),
        static_rules=_static(sections, "static_rules", "rule", names.rule, Rule),
        peers=peers,
        conntrack_sync=replicated,
        dhcp_gateway=dhcp_gateway.build(sections.get("dhcp_gateway", []), found, instances, bool(peers)),
        witnesses=witness.build(sections.get("witness", []), settings, peers, tuple(instances.values())),
        witness_server=witness.server(sections.get("witness_server", [])),
        services=served,
        checks=checks,
        virtual_servers=virtual,
        real_servers=real,
        internets=check_sections.ways_out(sections.get("internet", []), names),
    )
    check.check(config, sections, report)
    names.warn_of_unused()
    return config


def _one(found: list[Parsed], report: Report) -> Parsed:
    """Return the section of globals; an empty one when the file has none."""
    if not found:
        empty = uci.Section("globals", "globals", 0, 0)
        parsed = read.read(empty, report)
        assert parsed is not None
        return parsed
    for more in found[1:]:
        more.error(f"there is a section of globals already, at line {found[0].line()}")
    return found[0]


def _globals(settings: Parsed) -> Globals:
    user, group = settings.get("script_user") or (None, None)
    return Globals(script_user=user, script_group=group, **settings.fields())


def _scripts(found: list[Parsed]) -> tuple[Script, ...]:
    scripts = []
    for parsed in found:
        fields = parsed.fields()
        fields["user"], fields["group"] = parsed.get("user") or (None, None)
        fields.setdefault("timeout_ms", fields["interval_ms"])
        scripts.append(Script(**{"name": parsed.name, "argv": ()} | fields))
    return tuple(scripts)


def _groups(
    found: list[Parsed],
    parsed_instances: list[Parsed],
    instances: dict[str, Instance],
    names: Names,
    follows: Follows,
) -> tuple[Group, ...]:
    """Return the sync groups of the file, then one group for each instance without a group."""
    groups = []
    taken: dict[str, str] = {}  # instance: its group
    known = {parsed.name for parsed in parsed_instances}
    for parsed in found:
        members = []
        for item in names.split(parsed, "group"):
            if item.text not in known:
                reason = "there is no vrrp_instance of this name" + names.hint(item.text, known)
                parsed.error(reason, "group", item)
            elif item.text in taken:
                reason = f"this instance is in the group '{taken[item.text]}' already"
                parsed.error(reason, "group", item)
            else:
                taken[item.text] = parsed.name
                members.append(item.text)
        group = Group(parsed.name, tuple(members), names.tracks(parsed), Notify(**parsed.fields("notify")))
        groups.append(follows.settle(group, parsed))
    sections = {parsed.key: parsed for parsed in reversed(parsed_instances)}
    for name in instances:
        if name in taken:
            follows.misplaced(sections[name], taken[name])
        else:
            groups.append(follows.settle(Group(name, (name,), implicit=True), sections[name]))
    return tuple(groups)


def _static(
    sections: dict[str, list[Parsed]],
    kind: str,
    option: str,
    resolve: Callable[[Parsed, str], list[Any]],
    what: type,
) -> tuple[Any, ...]:
    found = []
    for parsed in sections.get(kind, []):
        for item in resolve(parsed, option):
            value = item.value
            if not isinstance(value, what):
                continue
            if isinstance(value, Address) and value.device is None:
                parsed.error("a static address needs a device: add 'dev NAME'", option, item)
            if isinstance(value, Route) and value.kind == "unicast" and not _leads_somewhere(value):
                parsed.error("a static route needs via or dev", option, item)
            found.append(value)
    return tuple(found)


def _leads_somewhere(route: Route) -> bool:
    return bool(route.via or route.device or route.nexthops)
