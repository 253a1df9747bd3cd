# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a job: a file in /var/run, and a message to the router that has asked for the job. Pure.

The report is JSON: [1, number, state, why, {package: [installed, newer]}]. A later release may append more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

VERSION = 1
WHY_MAX = 600  # characters
RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass(frozen=True, slots=True)
class Report:
    """The last job of a router, as far as it has come."""

    number: str = ""  # "": there was none
    state: str = ""
    why: str = ""  # of FAILED: what went wrong, for people
    upgradable: dict[str, tuple[str, str]] = field(default_factory=dict)  # see packages.Upgradable


def encode(report: Report) -> bytes:
    """Return the content of the file."""
    why = report.why[-WHY_MAX:]
    return json.dumps([VERSION, report.number, report.state, why, report.upgradable]).encode() + b"\n"


def decode(data: bytes) -> Report:
    """Return a report; an empty one when `data` is malformed or of another version."""
    try:
        version, number, state, why, upgradable = json.loads(data)[:5]
        found = {str(name): (str(before), str(new)) for name, (before, new) in upgradable.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return Report()
    return Report(str(number), str(state), str(why)[:WHY_MAX], found) if version == VERSION else Report()
