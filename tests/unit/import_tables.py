# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of the importer's result for a line of another program: data/import_tables/.

A table is a text. A line in brackets says how the lines below it are read; each of these is

    what stands there => what becomes of it | a note | another note

`-` for what is left out. `Table.run` gives what the code says now, as a line of the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tandem.config.problem import Problem
from tandem.importer import expand, items, keepalived, reading

DIRECTORY = Path(__file__).parent / "data/import_tables"
TABLES = {"isp": 100}


def _item(found: items.Item) -> list[str]:
    return [found.text or "-" if found.text is not None else "-", *found.notes]


def _value(section: str, option: str) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        found = reading.read(section, option, text.split())
        assert found is not None, f"{section} has no rule for {option}"
        return ["-" if found.text is None else found.text, *([found.note] if found.note else [])]

    return read


def _problems(problems: list[Problem]) -> list[str]:
    return [f"{problem.line}: {problem.reason}" for problem in problems]


def _expanded(text: str) -> list[str]:
    """A text in JSON's quotes: its effective lines with their numbers."""
    found = expand.Expansion(json.loads(text), "dir/file", "r1")
    lines = []
    try:
        lines = [f"{line.line} {line.text}" for line in found]
    except expand.TooMuch as error:
        lines = [str(error)]
    return [json.dumps(lines), *_problems(found.problems)]


def _shape(statement: keepalived.Statement) -> Any:
    inside = [] if statement.block is None else [[_shape(inner) for inner in statement.block]]
    return [f"{statement.line} {statement.text}", *inside]


def _tree(text: str) -> list[str]:
    tree = keepalived.parse(json.loads(text), "file", "r1")
    return [json.dumps([_shape(statement) for statement in tree.statements]), *_problems(tree.problems)]


def _command(text: str) -> list[str]:
    try:
        return [json.dumps(keepalived.split_command(json.loads(text)))]
    except ValueError as error:
        return ["-", str(error)]


READERS: dict[str, Callable[[str], list[str]]] = {
    "address": lambda text: _item(items.address(text.split())),
    "route": lambda text: _item(items.route(text.split(), TABLES)),
    "rule": lambda text: _item(items.rule(text.split(), TABLES)),
    "track_interface": lambda text: _item(items.track("track_interface", text.split())),
    "track_script of weight 7": lambda text: _item(items.track("track_script", text.split(), 7)),
    "lines": _expanded,
    "comment": lambda text: [json.dumps(expand.decomment(json.loads(text)))],
    "brace": lambda text: [str(expand.brace(json.loads(text)))],
    "statements": _tree,
    "command": _command,
}


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    kind: str
    text: str
    line: str

    def now(self) -> str:
        """The line as the code would write it."""
        return line(self.kind, self.text)


def line(kind: str, text: str) -> str:
    """A line of the table for this text."""
    section, dot, option = kind.partition(".")
    read = READERS[kind] if not dot else _value(section, option)
    return f"{text} => {' | '.join(read(text))}"


def rows(name: str) -> list[Any]:
    """The rows of a table, as parameters of a test."""
    found, kind = [], ""
    for text in (DIRECTORY / name).read_text().splitlines():
        if text.startswith("["):
            kind = text[1:-1]
        elif text and not text.startswith("#"):
            row = Row(kind, text.partition(" => ")[0], text)
            found.append(pytest.param(row, id=f"{kind}: {row.text}"[:60]))
    return found
