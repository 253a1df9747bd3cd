# SPDX-License-Identifier: GPL-2.0-or-later
"""`replication_stale`, with literal times."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.conntrack.record import NEW
from tandem.replication.cache import LACKING_MAX, Cache
from tandem.replication.health import Health, lacking, peer_health
from tests.unit.test_replication_cache import flow

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


@pytest.mark.parametrize("up", [0, 86_400 * S])
def test_losses_within_a_minute(up: int) -> None:
    health = Health(0, 100)
    assert not health.judge(up, GOOD, 5000), "what was lost before the first sample"
    assert not health.judge(up + S, GOOD, 5100)
    assert health.judge(up + 2 * S, GOOD, 5101)
    assert health.stale == ["101 records lost within a minute"]
    assert not health.judge(up + 60 * S, GOOD, 5101)
    assert health.judge(up + 61 * S, GOOD, 5101), "the first 100 are more than a minute old"


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


def test_a_lasting_trouble_up_to_the_limit_is_fine() -> None:
    health = Health(1000 * MS, 0)
    health.judge(10 * S, APART, 0)
    assert not health.judge(11 * S, APART, 0)
    assert health.judge(11 * S + 1, APART, 0) and health.stale == ["r2: out of step for 1 s"]


def test_losses_count_for_one_minute() -> None:
    """A sample that is a minute old is the last one that the count begins with."""
    health = Health(0, 100)
    health.judge(0, GOOD, 0)
    assert health.judge(S, GOOD, 101)
    assert not health.judge(60 * S, GOOD, 101)
    assert health.stale == ["101 records lost within a minute"]
    assert health.judge(61 * S, GOOD, 101) and health.stale == []


def table(flows: int, limit: int = 10) -> Cache:
    made = Cache(limit, 1 << 20)
    made.apply_all([(NEW, *flow(number)) for number in range(flows)], 0)
    return made


def test_the_table_with_the_least_room_says_how_many_connections_lack() -> None:
    """The same connection may lack in several tables, so they are not added."""
    assert lacking([]) == lacking([table(3)]) == lacking([table(10)]) == ""
    assert lacking([table(11)]) == "1"
    assert lacking([table(13), table(3), table(12)]) == "3"
    many = table(LACKING_MAX + 11)
    for tables in ([many], [table(12), many], [many, table(12)]):
        assert lacking(tables) == f"more than {LACKING_MAX}"


PEER: dict[str, Any] = {
    "name": "r2", "state": "up", "streaming": True, "in_step": True, "peer_streaming": True,
    "held_in_step": True, "lag_ms": 1.5, "lag_records": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "what", "lag"),
    [
        ({}, "", 1_500_000),
        ({"lag_records": 0}, "", 0),  # what nobody waits for is not late
        ({"state": "connecting"}, "not connected", 0),
        ({"in_step": False}, "out of step", 1_500_000),
        ({"in_step": False, "streaming": False}, "", 1_500_000),
        ({"held_in_step": False}, "out of step", 1_500_000),
        ({"held_in_step": False, "peer_streaming": False}, "", 1_500_000),
        ({"streaming": False, "held_in_step": False}, "out of step", 1_500_000),
        ({"peer_streaming": False, "in_step": False}, "out of step", 1_500_000),
    ],
)
def test_what_is_judged_of_a_peer(facts: dict[str, Any], what: str, lag: int) -> None:
    """Each direction counts only while somebody streams in it."""
    assert peer_health(PEER | facts) == ("r2", what, lag)
