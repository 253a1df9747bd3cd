# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor`: how it is called, and what it prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

from tandem.control.commands import DONE, FAILED, complain, running_config
from tandem.control.table import printable

if TYPE_CHECKING:
    from tandem.doctor.finding import Finding

_WIDTH = 96

LISTEN_S = range(1, 31)  # seconds
Add = Callable[..., argparse.ArgumentParser]

_DETAILS = """\
Looks at this router, and at the other one over the replication channel, for
everything that breaks a takeover in practice, and says what to do about it.
It listens to the networks for some seconds and changes nothing.
The exit status is 1 if something is wrong."""
_EXAMPLES = """\
  tandem doctor
  tandem doctor --json               for scripts: findings and notes"""


def register(add: Add) -> None:
    """Put the command into the parser."""
    sub = add("doctor", run, "look for what would break a takeover", _DETAILS, _EXAMPLES)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("-c", "--config", metavar="FILE", help="configuration (default: the running daemon's)")
    sub.add_argument(
        "--listen",
        type=int,
        choices=LISTEN_S,
        default=4,
        metavar="SECONDS",
        help="how long to listen, 1 to 30 (default: 4, as long as dnsmasq takes for an offer)",
    )
    sub.add_argument("--facts", metavar="FILE", help=argparse.SUPPRESS)  # for the other router's doctor


def run(arguments: argparse.Namespace) -> int:
    """Examine both routers, or only write the facts of this one for the other one's doctor."""
    if os.geteuid() != 0:
        complain(["only root can examine a router"])
        return FAILED
    from tandem.doctor.visit import facts_of_this_router, visit

    config = arguments.config or running_config(arguments.control)
    if arguments.facts:
        return facts_of_this_router(config, arguments.control, arguments.listen, arguments.facts)
    found = visit(config, arguments.control, arguments.listen)
    if arguments.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        sys.stdout.write(render(found.findings, found.notes))
    return FAILED if found.findings else DONE


def render(findings: list[Finding], notes: list[str]) -> str:
    """The findings for people, and what could not be looked at."""
    lines = []
    for finding in findings:
        where = f"{finding.router}: " if finding.router else ""
        lines += wrap(printable(f"{where}{finding.what}"), _WIDTH)
        lines += wrap(
            printable(finding.advice), _WIDTH, initial_indent="    -> ", subsequent_indent="       "
        )
    for note in notes:
        lines += wrap(printable(f"note: {note}"), _WIDTH)
    if not findings:
        lines.append("nothing is wrong")
    return "\n".join([*lines, ""])
