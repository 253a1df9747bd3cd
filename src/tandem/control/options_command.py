# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem options`: the option table for people, and for programs that edit a configuration (LuCI)."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tandem import __version__
from tandem.config.option import KEEPS, ROLE, SESSION, START, Option, Table
from tandem.config.options import SECTIONS
from tandem.config.problem import suggestion

if TYPE_CHECKING:
    import argparse

FORMAT = 1  # the version of the JSON; it changes when readers must change
ALIASES = {"global_defs": "globals"}
_RELOAD = {KEEPS: "keeps", ROLE: "role", SESSION: "session", START: "start"}
_WIDTH = 78


def run(arguments: argparse.Namespace) -> int:
    """Print the table, a section, or an option; exit status 1 when there is no such thing."""
    if arguments.json:
        print(json.dumps({"format": FORMAT, "version": __version__, "sections": metadata(arguments.name)}))
        return 0
    name, _, option = (arguments.name or "").partition(".")
    if not name:
        for section, table in sections():
            print(f"{section}: {', '.join(understood(table))}")
        return 0
    table = SECTIONS.get(name, {})
    if not table or (option and option not in understood(table)):
        known = understood(table) if table else [section for section, _ in sections()]
        what = f"section {name} has no option '{option}'" if table else f"there is no section '{name}'"
        hint = suggestion(option or name, known) or "; `tandem options` lists them"
        print(f"tandem: {what}{hint}", file=sys.stderr)
        return 1
    for row, entry in understood(table).items():
        if option in ("", row):
            print("\n".join(describe(row, entry)))
    return 0


def sections() -> Iterator[tuple[str, Table]]:
    """Yield each section type with its rows; another name of a section is left out."""
    return ((name, table) for name, table in SECTIONS.items() if name not in ALIASES)


def understood(table: Table) -> dict[str, Option]:
    """Return the rows of options that have an effect."""
    return {name: entry for name, entry in table.items() if isinstance(entry, Option)}


def describe(name: str, row: Option) -> Iterator[str]:
    """Yield the lines about one option."""
    facts = [f"{'list' if row.many else 'option'} {name}", f"must be {row.kind.allowed}"]
    if row.default:
        facts.append(f"default '{row.default}'")
    facts += ["required"] if row.required else []
    yield from textwrap.wrap("; ".join(facts), _WIDTH, subsequent_indent="    ")
    text = row.help if row.reload == KEEPS else f"{row.help} After a reload, {row.reload}."
    yield from textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def metadata(only: str | None = None) -> list[dict[str, Any]]:
    """Return the table as plain values; `only`: that section, or section and option."""
    section, _, option = (only or "").partition(".")
    return [
        {
            "name": name,
            "options": [
                _facts(row, entry) for row, entry in understood(table).items() if option in ("", row)
            ],
        }
        for name, table in sections()
        if section in ("", name)
    ]


def _facts(name: str, row: Option) -> dict[str, Any]:
    kind = row.kind
    found = {
        "name": name,
        "type": kind.type,
        "unit": kind.unit,
        "min": kind.low,
        "max": kind.high,
        "step": kind.step,
        "choices": list(kind.choices),
        "allowed": kind.allowed,
        "default": row.default,
        "help": row.help,
        "list": row.many,
        "required": row.required,
        "secret": row.secret,
        "reload": _RELOAD[row.reload],
        "since": row.since,
    }
    return {key: value for key, value in found.items() if value not in ("", [], None)}
