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

from tandem.control.commands import DONE, FAILED, complain
from tandem.control.table import printable

if TYPE_CHECKING:
    from tandem.doctor.finding import Finding

Add = Callable[..., argparse.ArgumentParser]

_DETAILS = """\
Looks at this router, and at the other one over the replication channel, for
everything that breaks a takeover in practice, and says what to do about it.
It listens to the networks for some seconds and changes nothing.
The exit status is 1 if something is wrong."""
_EXAMPLES = """\
  tandem doctor
  tandem doctor --json               for scripts: a list of findings"""


def register(add: Add) -> None:
    """Put the command into the parser."""
    sub = add("doctor", run, "look for what would break a takeover", _DETAILS, _EXAMPLES)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("-c", "--config", metavar="FILE", help="configuration (default: the running daemon's)")
    sub.add_argument("--facts", metavar="FILE", help=argparse.SUPPRESS)  # for the other router's doctor


def run(arguments: argparse.Namespace) -> int:
    """Examine both routers, or only write the facts of this one."""
    from tandem.control.commands import running_config
    from tandem.doctor.checks_router import examine
    from tandem.doctor.collect import collect

    if os.geteuid() != 0:
        complain(["only root can examine a router"])
        return FAILED
    config = arguments.config or running_config(arguments.control)
    router = collect(config, arguments.control)
    findings = examine(router)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        sys.stdout.write(render(findings))
    return FAILED if findings else DONE


def render(findings: list[Finding]) -> str:
    """The findings for people."""
    lines = []
    for finding in findings:
        where = f"{finding.router}: " if finding.router else ""
        lines += wrap(printable(f"{where}{finding.what}"), 96)
        lines += wrap(printable(finding.advice), 96, initial_indent="    -> ", subsequent_indent="       ")
    return "\n".join([*(lines or ["nothing is wrong"]), ""])
