# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands `tandem services` and `tandem service`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tandem.console import DONE, print_lines
from tandem.control.client import ask
from tandem.control.commands import RELOAD_TIMEOUT_S, say, understood, who
from tandem.control.page import duration


def services(arguments: argparse.Namespace) -> int:
    """Print the state of each service."""
    found = ask(arguments.control, "services")
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print_lines(sys.stdout, understood(lambda answer: list(lines(answer["services"])), found))
    return DONE


def service(arguments: argparse.Namespace) -> int:
    """Have the daemon do something with one service."""
    answer = ask(
        arguments.control,
        "service",
        timeout_s=RELOAD_TIMEOUT_S,  # a move waits until services have stopped
        action=arguments.action,
        name=arguments.name,
        by=who(),
    )
    say(answer)
    return DONE


def lines(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield two or more lines for each service. KeyError, TypeError: another version has made the answer."""
    width = max((len(one["name"]) for one in found), default=0)
    for one in found:
        since = f" for {duration(one['since_s'])}" if one["since_s"] is not None else ""
        follows = {"active": "with", "backup": "on the backup of"}.get(one["where"])
        place = f"{follows} {one['group']}" if follows else "everywhere"
        yield f"{one['name']:{width}}  {one['state']}{since}, {place}: {one['agent']}"
        indent = " " * (width + 2)
        if one["waits_for"]:
            yield f"{indent}waits for {one['waits_for']}"
        if one["failures"] or one["banned"]:
            left = one["failures_expire_s"]
            expire = f", forgotten in {duration(left)}" if left is not None else ""
            banned = ", does not run on this router" if one["banned"] else ""
            yield f"{indent}failures: {one['failures']}{expire}{banned}"
        if one["failure"]:
            yield f"{indent}last failure: {one['failure']}"
    if not found:
        yield "there is no service section"
