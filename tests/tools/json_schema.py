# SPDX-License-Identifier: GPL-2.0-or-later
"""A check of a value by a JSON schema: the part of the language that ours uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def problems(value: Any, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """Return the violations of the schema, each with its place."""
    if "anyOf" in schema:
        tried = [list(problems(value, one, where)) for one in schema["anyOf"]]
        yield from [] if [] in tried else min(tried, key=len)
        return
    kind = schema["type"]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{where or 'all'}: {value!r} is no {kind}"
    elif kind == "array":
        for index, item in enumerate(value):
            yield from problems(item, schema["items"], f"{where}[{index}]")
    elif kind == "object":
        fields, more = schema.get("properties", {}), schema["additionalProperties"]
        yield from (f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in fields or more:
                yield from problems(item, fields.get(name, more), f"{where}.{name}")
            else:
                yield f"{where}.{name} is not in the schema"
