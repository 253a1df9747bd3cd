# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits of takeover and reunion fit each other, and stand in one table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tandem
from tandem.core import limits
from tandem.core.timers import MILLISECOND, SECOND

ROOT = Path(tandem.__path__[0])
NAMES = [name for name in vars(limits) if name.endswith(("_LIMIT", "_SILENCE"))]


def test_a_wait_ends_before_the_wait_that_contains_it() -> None:
    assert limits.LAST_RECORDS_SILENCE < limits.LAST_RECORDS_LIMIT < limits.RESTORE_LIMIT
    # The better router waits longer than the lesser one, and nobody waits for the end of the exchange.
    assert limits.REUNION_LIMIT < limits.ANNOUNCE_LIMIT < limits.EXCHANGE_LIMIT
    # The better router tells what it learned before that is retired here.
    assert limits.SURPLUS_LIMIT >= limits.REUNION_LIMIT
    assert limits.FORMER_QUIET_LIMIT < limits.EXCHANGE_LIMIT < limits.FORMER_LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_stands_in_the_table_of_the_module(name: str) -> None:
    [(value, unit)] = re.findall(rf"\b{name} +(\d+) (m?s)$", limits.__doc__ or "", re.MULTILINE)
    assert getattr(limits, name) == int(value) * {"s": SECOND, "ms": MILLISECOND}[unit]


@pytest.mark.parametrize("package", ["core", "replication"])
def test_no_other_module_defines_a_limit(package: str) -> None:
    found = [
        (path.name, line)
        for path in sorted((ROOT / package).glob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if path.name != "limits.py" and re.match(r"_?\w*(?<!HOP_)(LIMIT|SILENCE)\b *=", line)
    ]
    assert not found
