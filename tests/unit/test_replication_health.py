# SPDX-License-Identifier: GPL-2.0-or-later
"""`replication_stale`, with literal times."""

from __future__ import annotations

from tandem.replication.health import Health

S, MS = 1_000_000_000, 1_000_000
GOOD = [("r2", "", 0)]
APART = [("r2", "out of step", 0)]


def test_out_of_step_counts_when_it_lasts() -> None:
    health = Health(1000 * MS, 0)
    assert not health.judge(10 * S, APART, 0)
    assert not health.judge(11 * S, APART, 0)
    assert health.judge(12 * S, APART, 0)
    assert health.stale == ["r2: out of step for 2 s"]
    assert not health.judge(13 * S, APART, 0), "no news"
    assert health.stale == ["r2: out of step for 3 s"]


def test_healthy_again_at_once_and_the_next_time_begins_anew() -> None:
    health = Health(1000 * MS, 0)
    health.judge(10 * S, APART, 0)
    health.judge(12 * S, APART, 0)
    assert health.judge(13 * S, GOOD, 0)
    assert health.stale == []
    health.judge(14 * S, APART, 0)
    assert not health.judge(15 * S, APART, 0)


def test_one_trouble_after_the_other_is_one_time_without() -> None:
    health = Health(1000 * MS, 0)
    health.judge(10 * S, [("r2", "not connected", 0)], 0)
    assert health.judge(12 * S, APART, 0)
    assert health.stale == ["r2: out of step for 2 s"]


def test_what_there_is_no_room_for_counts_as_long_as_it_lacks() -> None:
    health = Health(1000 * MS, 100)
    assert health.judge(S, GOOD, 0, "48")
    assert health.stale == ["no room for 48 connections, which a takeover would lose: raise limit_entries"]
    assert not health.judge(3600 * S, GOOD, 0, "more than 16384")
    assert "more than 16384" in health.stale[0]
    assert health.judge(3601 * S, GOOD, 0)
    assert health.stale == []


def test_each_peer_for_itself() -> None:
    health = Health(1000 * MS, 0)
    health.judge(10 * S, [("r2", "", 0), ("r3", "not connected", 0)], 0)
    assert health.judge(12 * S, [("r2", "", 1500 * MS), ("r3", "not connected", 0)], 0)
    assert health.stale == ["r2: 1500 ms behind", "r3: not connected for 2 s"]


def test_lag_up_to_the_limit_is_fine() -> None:
    health = Health(1000 * MS, 0)
    assert not health.judge(S, [("r2", "", 1000 * MS)], 0)
    assert health.judge(2 * S, [("r2", "", 1001 * MS)], 0)
    assert health.judge(3 * S, GOOD, 0)


def test_losses_within_a_minute() -> None:
    health = Health(0, 100)
    assert not health.judge(0, GOOD, 5000), "what was lost before the first sample"
    assert not health.judge(S, GOOD, 5100)
    assert health.judge(2 * S, GOOD, 5101)
    assert health.stale == ["101 records lost within a minute"]
    assert not health.judge(60 * S, GOOD, 5101)
    assert health.judge(61 * S, GOOD, 5101), "the first 100 are more than a minute old"


def test_total_that_falls_begins_anew() -> None:
    health = Health(0, 100)
    health.judge(0, GOOD, 0)
    health.judge(S, GOOD, 90)
    assert not health.judge(2 * S, GOOD, 20)
    assert not health.judge(3 * S, GOOD, 120)
    assert health.judge(4 * S, GOOD, 121)


def test_the_window_stays_small() -> None:
    health = Health(0, 100)
    for second in range(1000):
        health.judge(second * S, GOOD, 0)
    assert len(health._losses) <= 62


def test_zero_is_never() -> None:
    health = Health(0, 0)
    health.judge(0, APART, 0)
    assert not health.judge(100 * S, [("r2", "out of step", 99 * S)], 10**9)
    assert health.stale == []
