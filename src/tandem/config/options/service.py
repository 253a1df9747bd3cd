# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `service`: the words and the defaults are Pacemaker's."""

from __future__ import annotations

import re

from tandem.config.option import NEXT, Option, Table
from tandem.config.options.common import name
from tandem.config.values import COMMAND, NAME, Kind, choice, seconds, whole

SERVICES_MAX = 200

_AGENT = re.compile(
    r"ocf:[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_-]{1,64}|(?:systemd|lsb|procd|docker|podman):[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,63}"
)
_PARAM = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})=(.{0,1000})")
_SERVICES = Kind("the names of service sections", str, type="reference")
_TIMEOUT = seconds("0.1", "3600")


def _agent(text: str) -> str:
    if not _AGENT.fullmatch(text):
        raise ValueError
    return text


def _param(text: str) -> tuple[str, str]:
    match = _PARAM.fullmatch(text)
    if match is None or not text.isprintable():
        raise ValueError
    return match[1], match[2]


def _new(kind: Kind, default: str | None, text: str, field: str | None = None, many: bool = False) -> Option:
    return Option(kind, default, text, field, many=many, since=NEXT)


SERVICE: Table = {
    "name": name("The name of the service, the same on all routers.", "name"),
    "agent": _new(
        Kind("ocf:PROVIDER:AGENT, systemd:, lsb:, procd:, docker: or podman: with a name", _agent),
        None,
        "This starts, stops and monitors the service: an OCF agent, a systemd unit, an init script of LSB or"
        " of OpenWrt (procd), or a container.",
        "agent",
    ),
    "command": _new(
        COMMAND,
        None,
        "Instead of agent: Tandem runs this command, which stays in the foreground, and is up while it runs.",
        "command",
    ),
    "param": _new(
        Kind("NAME=VALUE", _param, "=".join), None, "Parameters of the OCF agent.", "params", many=True
    ),
    "group": _new(
        NAME,
        None,
        "The service follows the role of this sync group or single instance. Default: the only one.",
        "group",
    ),
    "where": _new(
        choice("active", "backup", "everywhere"),
        "active",
        "The service runs where the group is MASTER, and then on one router only, or on its backups, or"
        " everywhere.",
        "where",
    ),
    "after": _new(
        _SERVICES,
        None,
        "The service starts when these are up, and stops before they stop, if they run on the same router.",
        "after",
        many=True,
    ),
    "with": _new(
        _SERVICES,
        None,
        "The service runs only where these may run: what keeps one of them from a router keeps it as well.",
        "together",
        many=True,
    ),
    "start_timeout": _new(_TIMEOUT, "20", "A start that takes longer has failed.", "start_timeout_ms"),
    "stop_timeout": _new(
        _TIMEOUT,
        "20",
        "A stop that takes longer has failed, and blocks the service; a command is killed.",
        "stop_timeout_ms",
    ),
    "monitor_timeout": _new(_TIMEOUT, "20", "A monitor that takes longer has failed.", "monitor_timeout_ms"),
    "monitor_interval": _new(
        seconds("0", "86400"),
        "10",
        "The agent is asked in this interval whether the service works; 0: never.",
        "monitor_interval_ms",
    ),
    "check": _new(
        Kind("the names of check sections", str, type="reference"),
        None,
        "These checks are made while the service runs; it has failed when one of them is down.",
        "checks",
        many=True,
    ),
    "migration_threshold": _new(
        whole(0, 1_000_000),
        "0",
        "After so many failures the service is not run on this router, and after one failed start. 0: only"
        " after a failed start.",
        "migration_threshold",
    ),
    "failure_timeout": _new(
        seconds("0", "604800"),
        "0",
        "Failures are forgotten so long after the last one; 0: only by tandem service clear.",
        "failure_timeout_ms",
    ),
    "on_fail": _new(
        choice("restart", "failover", "ignore", "block"),
        "restart",
        "This follows a failure of a running service: it is restarted here, the role goes to another router,"
        " nothing happens, or nothing more is done until tandem service clear.",
        "on_fail",
    ),
    "stickiness": _new(
        whole(0, 253), "0", "The priority that is added to the group where the service is up.", "stickiness"
    ),
}
