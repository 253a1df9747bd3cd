# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `internet`: targets behind a way out, and what they are worth to a group."""

from __future__ import annotations

from tandem.config.option import NEXT, Option, Table
from tandem.config.options.check import WEIGHT
from tandem.config.options.common import name
from tandem.config.options.follow import NETWORK
from tandem.config.values import Kind, choice, seconds

_TIME = seconds("0", "86400")

INTERNET: Table = {
    "name": name("track_internet names the way out by this.", "name"),
    "check": Option(
        Kind("the names of check sections", str, type="reference"),
        None,
        "The targets: hosts that are reached by this way out.",
        "checks",
        required=True,
        many=True,
        since=NEXT,
    ),
    "policy": Option(
        choice("any", "all"),
        "any",
        "any: one target that is reached is enough; all: every target must be reached.",
        "policy",
        since=NEXT,
    ),
    "network": Option(
        NETWORK,
        None,
        "The network that leads to the targets. If it follows a group, they are tried while that group is"
        " MASTER here, and only then; otherwise always.",
        "network",
        since=NEXT,
    ),
    "settle": Option(
        _TIME,
        "15",
        "A router that has become MASTER counts the way out as up for so long, until it is.",
        "settle_ms",
        since=NEXT,
    ),
    "memory": Option(
        _TIME,
        "300",
        "A router that gave the role up without a way out counts it as down for so long: the role does not go"
        " to and fro when the provider has failed.",
        "memory_ms",
        since=NEXT,
    ),
    "weight": Option(
        WEIGHT,
        "-50",
        "The priority that the way out is worth where track_internet names no weight. Not 0: when the"
        " provider fails, both routers are down, and one of them must stay MASTER.",
        since=NEXT,
    ),
}
