# SPDX-License-Identifier: GPL-2.0-or-later
"""When the memory of a flood is given back."""

from __future__ import annotations

from tandem.core.timers import SECOND
from tandem.replication.surplus import LEAST, REST, Surplus


def due(surplus: Surplus, entries: int, start: int, seconds: int) -> list[int]:
    """The seconds in which memory is given back."""
    return [at for at in range(start, start + seconds) if surplus.due(entries, at * SECOND)]


def test_once_a_while_after_a_flood() -> None:
    surplus = Surplus()
    assert not due(surplus, 100_000, 0, 60)
    assert due(surplus, 50, 60, 300) == [60 + REST // SECOND]


def test_not_while_many_entries_are_left_nor_for_a_few() -> None:
    surplus = Surplus()
    assert not due(surplus, 100_000, 0, 60) and not due(surplus, 50_001, 60, 300)
    assert not due(surplus, 30_000, 360, 30) and not due(surplus, 60_000, 390, 5)
    assert due(surplus, 30_000, 395, 300) == [395 + REST // SECOND]
    small = Surplus()
    assert not due(small, LEAST - 1, 0, 60) and not due(small, 0, 60, 300)
