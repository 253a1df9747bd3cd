# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/machines.md shows each row of each table (tests/unit/test_generated.py: it is current)."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

from tests.tools import machines


class Light(Enum):
    RED = "red"
    GREEN = "green"


def test_rows_in_words() -> None:
    phase = SimpleNamespace(name="begin")
    table = {
        (Light.RED, "go"): (Light.GREEN, ("move", Light.RED)),
        (Light.GREEN, int): Light.RED,
        (Light.RED, "stop"): Light.RED,
        (Light.RED, "wait"): (Light.RED, ("yawn",)),
        ("idle", "begin"): phase,
        ("idle", "role"): SimpleNamespace(role=Light.GREEN),
    }
    assert list(machines.rows(table)) == [
        ("red", "go", "green", ("move", "red")),
        ("green", "int", "red", ()),
        ("red", "wait", "red", ("yawn",)),
        ("idle", "begin", "begin", ()),
        ("idle", "role", "green", ()),
    ]


def test_each_machine_is_drawn() -> None:
    [page] = machines.texts().values()
    assert page.count("```mermaid") == len(machines.MACHINES) == page.count("\n## ")
    arrows = [line for line in page.splitlines() if " --> " in line and "[*]" not in line]
    assert len(arrows) == sum(len(list(machines.rows(machines.table_of(one)))) for one in machines.MACHINES)
    assert all(line.count(":") == 1 for line in arrows), "a colon ends the name of an arrow"
