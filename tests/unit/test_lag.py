# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a peer is behind, and whether it answers: one measurement after the other, and heartbeats."""

from __future__ import annotations

from tandem.channel.lag import INTERVAL, Lag
from tandem.channel.pulse import Pulse
from tandem.core.timers import MILLISECOND, SECOND


def test_one_record_is_measured_at_a_time() -> None:
    lag = Lag(0)
    lag.pushed(10, 100)
    lag.pushed(20, 5_000)  # the first is still on its way
    assert lag.measures
    lag.acked(9, 6_000)
    assert lag.measures
    lag.acked(10, 7_000)
    assert (lag.last, lag.longest, lag.measures) == (6_900, 6_900, False)


def test_there_is_a_pause_between_two_measurements() -> None:
    """Each one makes the peer acknowledge at once."""
    lag = Lag(0)
    lag.pushed(1, 0)
    lag.acked(1, 100)
    for early in (100, INTERVAL + 99):
        lag.pushed(2, early)
        assert not lag.measures
    lag.pushed(3, INTERVAL + 100)
    assert lag.measures


def test_the_longest_lag_stays_and_what_is_under_way_counts() -> None:
    lag = Lag(0)
    for begin, took in ((0, 700), (2 * SECOND, 300), (4 * SECOND, 500)):
        lag.pushed(1, begin)
        assert lag.now(begin + 100) == max(100, lag.last)
        lag.acked(1, begin + took)
        assert lag.now(begin + SECOND) == lag.last == took
    assert lag.longest == 700


def test_what_was_lost_is_not_measured() -> None:
    lag = Lag(0)
    lag.pushed(1, 0)
    lag.lost()
    lag.acked(1, SECOND)
    assert (lag.last, lag.measures, lag.now(2 * SECOND)) == (0, False, 0)


def test_an_answer_from_before_our_first_heartbeat_came_answers_nothing() -> None:
    """The peer acknowledges records at any time, with the number of the last heartbeat that it has seen."""
    ours, peer = (Pulse(SECOND, 5 * SECOND, 0) for _ in range(2))
    for one in (ours, peer):
        one.met(1000, 0)
        one.begin(0)
    ours.tick(0)
    ours.acked(peer.seen, MILLISECOND)
    assert not ours.answered
    peer.beaten(ours.number, 2 * MILLISECOND)
    ours.acked(peer.seen, 3 * MILLISECOND)
    assert ours.answered and ours.rtt == 3 * MILLISECOND
