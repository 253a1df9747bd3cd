# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/machines.md: the state machines of Tandem, drawn from the tables in the code.

A table maps a state and an event to the next state, or to the next state and the actions, or to an object
that has the next state as `role`. GitHub draws the diagrams from the text (mermaid).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

PAGE = "docs/machines.md"
HEAD = """# State machines

Made from the tables in the code by `make diagrams`.

An arrow has the event, and below it the actions. An event that changes nothing has no arrow.
"""


@dataclass(frozen=True)
class Machine:
    """One machine of the page: its table, and one sentence about it."""

    title: str
    module: str
    table: str
    about: str


MACHINES = (
    Machine(
        "Sync group", "core.role_changes", "TRANSITIONS",
        "Virtual routers are active together or not at all.",
    ),
    Machine(
        "Promotion", "core.promotion", "TRANSITIONS",
        "A group becomes active phase by phase, and gives the role up by the same phases backwards.",
    ),
    Machine(
        "Followed network", "core.follow", "TRANSITIONS",
        "A network follows the role of its group, and the lease of its address moves with it.",
    ),
    Machine(
        "Service", "core.service", "TRANSITIONS",
        "A service is probed, started, monitored and stopped; a stop that fails blocks it.",
    ),
    Machine(
        "Check", "core.rise_fall", "TRANSITIONS",
        "Results of a check or a script that contradict its state change it when enough follow each other.",
    ),
    Machine(
        "Way out", "core.internet", "TRANSITIONS",
        "Targets behind a way out are tried while this router uses it.",
    ),
    Machine(
        "Session", "channel.handshake", "TABLE",
        "Two routers prove that they know the secret, and one of their connections becomes the session.",
    ),
    Machine(
        "Reunion", "core.reunion", "TABLE",
        "A group meets another active router, and one of the two will yield.",
    ),
    Machine(
        "Offer", "core.offer", "TABLE",
        "A router that is to leave its role goes on until another one serves.",
    ),
    Machine(
        "Exchange", "replication.reunion", "TABLE",
        "The two active routers of a reunion tell each other their connections.",
    ),
    Machine(
        "Neighbour: connections", "core.neighbour", "CONNECTIONS",
        "Two routers know each other's connections, or do not.",
    ),
    Machine(
        "Neighbour: verdict for a segment", "core.neighbour", "VERDICTS",
        "A neighbour is heard on a segment, or by another path, or not at all.",
    ),
    Machine(
        "Neighbour: heartbeats", "core.heartbeats", "LIVES",
        "A neighbour is alive while any path brings its heartbeats.",
    ),
    Machine(
        "Neighbour: post in a group", "core.standing", "POSTS",
        "What a neighbour says, and when the role is free because of it.",
    ),
    Machine(
        "Ownership", "replication.ownership", "TRANSITIONS",
        "The kernel's connections belong to this router, or to the peers that it follows.",
    ),
    Machine(
        "Ownership: what is held of a peer", "replication.ownership", "HOLDING",
        "A peer tells its connections, and all of them are known here or not.",
    ),
    Machine(
        "Upgrade", "upgrade.steps", "TABLE",
        "Two routers get newer packages, one after the other.",
    ),
)  # fmt: skip


def texts() -> dict[str, str]:
    """The page by its path."""
    return {PAGE: "\n".join([HEAD, *map(_section, MACHINES)])}


def table_of(machine: Machine) -> Mapping[Any, Any]:
    """Return the table from the code."""
    found = getattr(importlib.import_module(f"tandem.{machine.module}"), machine.table)
    assert isinstance(found, Mapping)
    return found


def rows(table: Mapping[Any, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Each row that changes something, in words: state, event, next state, actions."""
    for (state, event), leads in table.items():
        after, actions = leads if isinstance(leads, tuple) else (getattr(leads, "role", leads), ())
        if after != state or actions:
            yield word(state), word(event), word(after), tuple(map(word, actions))


def word(of: Any) -> str:
    """Return the name of a state, an event or an action."""
    if isinstance(of, Enum):
        return str(of.value)
    if isinstance(of, type):
        return of.__name__
    return str(getattr(of, "name", of))


def _section(machine: Machine) -> str:
    table = table_of(machine)
    path = f"src/tandem/{machine.module.replace('.', '/')}.py"
    states = dict.fromkeys(word(state) for state, _ in table)
    found = list(rows(table))
    states |= dict.fromkeys(after for _, _, after, _ in found)
    lines = [f'    state "{_plain(state)}" as {_name(state)}' for state in states]
    lines.append(f"    [*] --> {_name(next(iter(states)))}")
    for state, event, after, actions in found:
        label = "<br/>".join([_plain(event), *(f"/ {_plain(action)}" for action in actions)])
        lines.append(f"    {_name(state)} --> {_name(after)} : {label}")
    drawn = "\n".join(lines)
    return (
        f"## {machine.title}\n\n{machine.about} Table: `{machine.table}` of [{path}](../{path}).\n\n"
        f"```mermaid\nstateDiagram-v2\n{drawn}\n```\n"
    )


def _name(state: str) -> str:
    return "s_" + re.sub(r"\W+", "_", state)


def _plain(text: str) -> str:
    """A text without what mermaid takes for its own."""
    return re.sub(r"[:;]\s*", ", ", text).replace('"', "'").replace("_", " ")
