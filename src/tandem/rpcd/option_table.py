# SPDX-License-Identifier: GPL-2.0-or-later
"""The option table as LuCI's settings need it; `tandem options --json` has more of it."""

from __future__ import annotations

from typing import Any

from tandem import __version__
from tandem.control.options_command import FORMAT, metadata
from tandem.rpcd.request import Request

# What a page shows of an option; what most options have comes first.
COLUMNS = (
    "name", "type", "help", "default", "allowed", "list", "required", "min", "max", "unit", "choices",
    "secret",
)  # fmt: skip


def options(request: Request) -> dict[str, Any]:
    """Return the names of all sections, with the options of those in the argument `sections`; none: of all.

    An option is a row with the values of "columns". Null or missing: false, or there is none.
    """
    wanted = request.items("sections")
    sections = [
        {"name": section["name"]} | ({"rows": list(map(_row, section["options"]))} if shown else {})
        for section in metadata()
        for shown in (not wanted or section["name"] in wanted,)
    ]
    return {"format": FORMAT, "version": __version__, "columns": COLUMNS, "sections": sections}


def _row(option: dict[str, Any]) -> list[Any]:
    if option["type"] == "boolean" or "choices" in option:
        del option["allowed"]  # a page shows a choice
    row = [option.get(name) or None for name in COLUMNS]
    while row[-1] is None:
        row.pop()
    return row
