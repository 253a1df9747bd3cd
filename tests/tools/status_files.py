# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are made from the schema of the status (tandem/status_schema.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from tandem import status_schema
from tandem.control import status

MADE = "Made from src/tandem/status_schema.py by `make generated`."
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def texts() -> dict[str, str]:
    """Path and text of each file."""
    return {
        "docs/status.md": _page(),
        "docs/status.schema.json": json.dumps(schema(), indent=2) + "\n",
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema of the status."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Tandem's status, version {status.SCHEMA_VERSION}",
        "$comment": MADE,
        **_of(status_schema.Status),
    }


def _of(kind: Any) -> dict[str, Any]:
    """Return the schema of a type; every field is required, and no others are allowed."""
    if is_typeddict(kind):
        fields = {name: _of(hint) for name, hint in get_type_hints(kind).items()}
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return {"anyOf": [_of(argument) for argument in arguments]}
    if origin is list:
        return {"type": "array", "items": _of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    return {"type": _PLAIN[kind]}


def _page() -> str:
    parts = [
        f"# Status\n\n<!-- {MADE} -->\n",
        f"`tandem status --json` and `ubus call tandem status` give the same. This is `schema_version`"
        f" {status.SCHEMA_VERSION}; [status.schema.json](status.schema.json) is the JSON schema of it."
        " A call on ubus may name the fields that it wants:"
        ' `ubus call tandem status \'{"only": "groups peers"}\'`.\n',
        "A field keeps its name and meaning. The version grows when a field goes or changes its meaning,\n"
        "not when a new one comes.\n",
        *_sections(),
    ]
    return "\n".join(parts)


def _sections() -> Iterator[str]:
    """The outermost object, and then each object in the order in which the fields name it."""
    waiting: list[Any] = [status_schema.Status]
    for kind in waiting:
        yield f"## {kind.__name__}\n\n{kind.__doc__}\n"
        rows = ["| field | type | |", "|---|---|---|"]
        for name, hint in get_type_hints(kind, include_extras=True).items():
            plain, text = get_args(hint)
            rows.append(f"| `{name}` | {_words(plain)} | {text} |")
            waiting += [found for found in _objects(plain) if found not in waiting]
        yield "\n".join(rows) + "\n"


def _objects(kind: Any) -> Iterator[Any]:
    if is_typeddict(kind):
        yield kind
    for argument in get_args(kind):
        yield from _objects(argument)


def _words(kind: Any) -> str:
    if is_typeddict(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return " or ".join(_words(argument) for argument in arguments)
    if origin is list:
        return f"array of {_words(arguments[0])}"
    if origin is dict:
        return f"object of {_words(arguments[1])} by name"
    return _PLAIN[kind]
