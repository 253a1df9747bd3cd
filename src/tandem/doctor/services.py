# SPDX-License-Identifier: GPL-2.0-or-later
"""Facts of services and checks: what starts them is there, and nothing else starts services at boot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from typing import Any

from tandem.config.schema import Config
from tandem.core.settings import Service
from tandem.doctor.facts import CheckFacts, ServiceFacts
from tandem.programs import PATH

OCF = "/usr/lib/ocf/resource.d"
SCRIPT_MAX = 64 << 10  # bytes


def collect(config: Config, states: Iterable[Mapping[str, Any]]) -> Iterator[ServiceFacts]:
    """Yield the facts of each service; `states` are those of the running daemon."""
    known = {str(state["name"]): state for state in states}
    for service in config.services:
        state = known.get(service.name, {})
        yield ServiceFacts(
            name=service.name,
            missing=_missing(service),
            disable=_disable(service),
            failure=str(state.get("failure", "")),
            blocked=state.get("state") == "blocked",
            blind=not service.checks and _blind(service),
        )


def collect_checks(config: Config, states: Iterable[Mapping[str, Any]]) -> Iterator[CheckFacts]:
    """Yield the facts of each check; `states` are those of the running daemon."""
    known: dict[str, list[Mapping[str, Any]]] = {}
    for state in states:
        known.setdefault(str(state["name"]), []).append(state)
    for check in config.checks:
        made = known.get(check.name, [])
        tried = [one for one in made if one["failures"] >= check.fall]
        never = bool(tried) and not any(one["successes"] for one in made)
        program = check.script[0] if check.script else ""
        yield CheckFacts(
            name=check.name,
            what=f"{check.kind} {made[0]['target']}" if made else check.kind,
            missing=program if program and not os.access(program, os.X_OK) else "",
            never=str(tried[0]["last"]) if never else "",
        )


def _missing(service: Service) -> str:
    """Return the program that starts the service, if it is not there."""
    kind, _, name = service.agent.partition(":")
    if not service.agent:
        program = service.command[0]
    elif kind == "ocf":
        program = f"{OCF}/{name.replace(':', '/', 1)}"
    elif kind in ("lsb", "procd"):
        program = f"/etc/init.d/{name}"
    else:
        program = "systemctl" if kind == "systemd" else kind
    places = [program] if "/" in program else [f"{directory}/{program}" for directory in PATH.split(":")]
    return "" if any(os.access(place, os.X_OK) for place in places) else program


def _blind(service: Service) -> bool:
    """Whether the service has an init script that cannot tell: rc.common has `running` for procd only."""
    kind, _, name = service.agent.partition(":")
    if kind != "procd":
        return False
    try:
        with open(f"/etc/init.d/{name}", "rb") as file:
            return b"USE_PROCD=" not in file.read(SCRIPT_MAX)
    except OSError:
        return False


def _disable(service: Service) -> str:
    """Return the command that takes the service out of the router's own start; empty: it is not in it."""
    kind, _, name = service.agent.partition(":")
    if kind == "procd" and glob(f"/etc/rc.d/S[0-9][0-9]{name}"):
        return f"/etc/init.d/{name} disable"
    if kind == "lsb" and glob(f"/etc/rc[2-5].d/S[0-9][0-9]{name}"):
        return f"update-rc.d {name} disable"
    unit = name if "." in name else f"{name}.service"
    if kind == "systemd" and glob(f"/etc/systemd/system/*.wants/{unit}"):
        return f"systemctl disable {name}"
    return ""
