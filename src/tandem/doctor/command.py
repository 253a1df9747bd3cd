# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor`: the command and its output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

from tandem.console import DONE, FAILED, complain, printable
from tandem.control.commands import running_config

if TYPE_CHECKING:
    from tandem.doctor.finding import Finding

_WIDTH = 96


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
    """Return the findings for people, and the notes about facts that could not be examined."""
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
