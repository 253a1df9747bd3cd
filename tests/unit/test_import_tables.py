# SPDX-License-Identifier: GPL-2.0-or-later
"""The importer's result for each word, value and line of keepalived.conf: data/import_tables/.

The values are those of keepalived 2.2.7; tests/interop/test_import.py compares many of them with the program.
"""

from __future__ import annotations

import pytest

from tandem.importer.reading import RULES
from tests.unit.import_tables import Row, rows


@pytest.mark.parametrize("row", [row for name in ("items", "values", "syntax") for row in rows(name)])
def test_row(row: Row) -> None:
    assert row.now() == row.line


def test_every_rule_has_rows() -> None:
    held = {row.values[0].kind for row in rows("values")}
    assert held == {f"{section}.{option}" for section, rules in RULES.items() for option in rules}
