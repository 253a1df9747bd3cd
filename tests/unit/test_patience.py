# SPDX-License-Identifier: GPL-2.0-or-later
"""When a backup reads a peer's stream: few wake-ups, and nothing that somebody waits for waits."""

from __future__ import annotations

import pytest

from tandem.channel.patience import BUSY, ENOUGH, LOOK, Patience
from tandem.core.timers import MILLISECOND, SECOND

AT = 1_000 * SECOND


def wakes(segments: list[int], size: int = 60, adverts: int = 100 * MILLISECOND) -> tuple[int, int]:
    """How often a router is woken by these segments beside its adverts, and how long one waits at most."""
    patience, look, own, longest = Patience(), None, 0, 0
    waiting: list[int] = []
    now = segments[0]
    queue = sorted([(at, True) for at in segments] + [(now + n * adverts, False) for n in range(600)])
    for at, segment in queue:
        while look is not None and look + BUSY - LOOK <= at:  # nothing has woken the router until then
            now, own = look + BUSY - LOOK, own + 1
            look = patience.read(bool(waiting), True, now)
            longest, waiting = max([longest, *(now - when for when in waiting)]), []
        if segment:
            waiting.append(at)
            if len(waiting) * size < patience.least:
                continue
            own += 1
        elif look is None or at < look:
            continue
        look = patience.read(bool(waiting), True, at)
        longest, waiting = max([longest, *(at - when for when in waiting)]), []
    assert not waiting
    return own, longest


@pytest.mark.parametrize(("rate", "most"), [(20, 0.02), (100, 0.01), (1000, 0.03)])
def test_records_wait_for_each_other(rate: int, most: float) -> None:
    own, longest = wakes([AT + number * SECOND // rate for number in range(20 * rate)])
    assert own <= 2 + most * 20 * rate and longest <= BUSY


def test_a_router_without_adverts_looks_by_itself() -> None:
    own, longest = wakes([AT + number * SECOND // 100 for number in range(1000)], adverts=SECOND)
    assert 10 * SECOND // BUSY <= own <= 10 * SECOND // BUSY + 5 and longest <= BUSY


def test_records_that_come_alone_are_read_at_once() -> None:
    patience = Patience()
    for number in range(10):
        assert patience.read(True, True, AT + number * BUSY) is None and patience.least == 1
    assert patience.read(True, True, AT + 10 * BUSY - 1) is not None and patience.least == ENOUGH


def test_a_look_in_vain_ends_it_when_no_more_comes() -> None:
    patience = Patience()
    patience.read(True, True, AT)
    assert patience.read(True, True, AT + 1) == AT + 1 + LOOK
    assert patience.read(False, True, AT + 1 + LOOK) == AT + 1 + 2 * LOOK, "it may still come"
    assert patience.read(False, True, AT + 1 + BUSY) is None and patience.least == 1
    assert patience.read(False, True, AT + 2 + BUSY) is None, "what is no record does not begin it"


def test_nothing_waits_that_somebody_waits_for() -> None:
    patience = Patience()
    for number in range(3):
        patience.read(True, True, AT + number)
    assert patience.least == ENOUGH
    assert patience.read(False, False, AT + 3) is None and patience.least == 1
