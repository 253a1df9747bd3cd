# SPDX-License-Identifier: GPL-2.0-or-later
"""The intervals of RFC 9568 section 6.1, as literal ns."""

from __future__ import annotations

import pytest

from tandem.core.timers import active_down_interval, earliest, resignation_skew, skew_time


@pytest.mark.parametrize(
    ("version", "priority", "interval_cs", "skew", "down"),
    [
        # RFC 3768: the skew is a part of a second, whatever the interval
        (2, 100, 100, 609_375_000, 3_609_375_000),
        (2, 254, 100, 7_812_500, 3_007_812_500),
        (2, 255, 100, 3_906_250, 3_003_906_250),
        (2, 1, 100, 996_093_750, 3_996_093_750),
        (2, 100, 1000, 609_375_000, 30_609_375_000),
        # RFC 9568: a part of the active's interval
        (3, 100, 100, 609_375_000, 3_609_375_000),
        (3, 100, 10, 60_937_500, 360_937_500),
        (3, 100, 2, 12_187_500, 72_187_500),
        (3, 255, 1, 39_062, 30_039_062),  # half a nanosecond rounded down
        (3, 1, 4095, 40_790_039_062, 163_640_039_062),
        (3, 254, 1000, 78_125_000, 30_078_125_000),
    ],
)
def test_intervals(version: int, priority: int, interval_cs: int, skew: int, down: int) -> None:
    assert skew_time(version, priority, interval_cs) == skew
    assert active_down_interval(version, priority, interval_cs) == down


@pytest.mark.parametrize(("priority", "wait"), [(255, 5_000), (254, 10_000), (100, 780_000), (1, 1_275_000)])
def test_resignation_is_answered_within_milliseconds_best_first(priority: int, wait: int) -> None:
    assert resignation_skew(priority) == wait


def test_earliest() -> None:
    assert earliest() is None
    assert earliest(None, None) is None
    assert earliest(None, 7, 5, None) == 5
    assert earliest(0, 1) == 0
