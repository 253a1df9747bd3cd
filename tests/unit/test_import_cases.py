# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole imports, as files in data/import_cases/: the input, every message, and the whole result.

A case consists of parts, each under a line `== NAME`: `arguments` of the command, the files, then `said`
(standard error) and `result` (standard output). A message that changes, changes here too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.importing import Imported

DIRECTORY = Path(__file__).parent / "data/import_cases"


def parts(path: Path) -> dict[str, str]:
    """The parts of a case by name."""
    found: dict[str, str] = {}
    name = ""
    for line in path.read_text().splitlines(keepends=True):
        if line.startswith("== "):
            name = line[3:].strip()
            found[name] = ""
        else:
            found[name] += line
    return found


def imported_case(imported: Imported, found: dict[str, str]) -> tuple[str, str]:
    """The messages of the import, and its result."""
    files = {name.replace(".", "_"): text for name, text in found.items() if "." in name}
    imported.run(*found.get("arguments", "").split(), **files)
    directory = f"{imported.directory}/"
    return imported.err.replace(directory, ""), imported.out.replace(directory, "")


@pytest.mark.parametrize("name", sorted(path.name for path in DIRECTORY.iterdir()))
def test_case(imported: Imported, name: str) -> None:
    found = parts(DIRECTORY / name)
    said, result = imported_case(imported, found)
    assert said == found["said"]
    assert result == found["result"]
