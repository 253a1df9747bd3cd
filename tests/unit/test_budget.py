# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from tandem.core.budget import Budget


def test_a_burst_and_then_one_in_a_while() -> None:
    budget = Budget(3, 10)
    assert [budget.take(100) for _ in range(5)] == [True, True, True, False, False]
    assert budget.left(100) == 0
    assert budget.ready_at == 110
    assert not budget.take(109)
    assert budget.take(110)
    assert not budget.take(110)
    assert budget.left(135) == 2
    assert budget.left(1000) == 3
