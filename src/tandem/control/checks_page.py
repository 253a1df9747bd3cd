# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `tandem checks`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tandem.console import DONE, print_lines
from tandem.control.client import ask
from tandem.control.commands import understood
from tandem.control.page import duration

STATES = {True: "up", False: "DOWN", None: "not known yet"}


def checks(arguments: argparse.Namespace) -> int:
    """Print the state of each check."""
    found = ask(arguments.control, "checks")
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print_lines(
            sys.stdout,
            understood(
                lambda answer: [*virtual_servers(answer["virtual_servers"]), *lines(answer["checks"])], found
            ),
        )
    return DONE


def virtual_servers(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each virtual server and each of its real servers. KeyError, TypeError: as `lines`."""
    for one in found:
        sorry = ": no real server is up" + (", the sorry server answers" if one["sorry"] else "")
        none = not any(server["share"] for server in one["servers"])
        yield f"{one['name']}  {one['protocol']} {one['address']} ({one['algorithm']}){sorry if none else ''}"
        for server in one["servers"]:
            state = f"{server['share']:.0%} of new connections" if server["up"] else "DOWN"
            yield f"    {server['name']}  {server['address']} port {server['port']}: {state}"


def lines(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each check. KeyError, TypeError: another version has made the answer."""
    width = max((len(one["name"]) for one in found), default=0)
    for one in found:
        since = f" for {duration(one['since_s'])}" if one["since_s"] is not None else ""
        of = f" of {one['used_by']}" if one["used_by"] else ""
        last = f": {one['last']}" if one["last"] else ""
        took = f" ({one['last_ms']:.1f} ms)" if one["last_ms"] is not None else ""
        tries = f", {one['failures']} of {one['successes'] + one['failures']} tries bad"
        yield f"{one['name']:{width}}  {STATES[one['up']]}{since}{last}{took}{tries}"
        yield f"{'':{width}}  {one['kind']} {one['target']}{of}"
    if not found:
        yield "nothing is checked: no group tracks a check, and no service that runs here has one"
