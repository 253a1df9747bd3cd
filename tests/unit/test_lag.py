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


NOW = 100 * SECOND


def test_an_answer_from_before_our_first_heartbeat_came_answers_nothing() -> None:
    """The peer acknowledges records at any time, with the number of the last heartbeat that it has seen."""
    ours, peer = (Pulse(SECOND, 5 * SECOND, NOW) for _ in range(2))
    for one in (ours, peer):
        one.met(1000, NOW)
        one.begin(NOW)
    ours.tick(NOW)
    ours.acked(peer.seen, NOW + MILLISECOND)
    assert not ours.answered
    peer.beaten(ours.number, NOW + 2 * MILLISECOND)
    ours.acked(peer.seen, NOW + 3 * MILLISECOND)
    assert ours.answered and ours.rtt == 3 * MILLISECOND


def test_a_peer_that_is_not_heard_for_three_of_its_intervals_is_dead() -> None:
    pulse = Pulse(SECOND, 60 * SECOND, NOW)
    pulse.met(200, NOW)
    pulse.heard = NOW + 50 * MILLISECOND
    assert pulse.judge(NOW + 650 * MILLISECOND - 1) is None
    assert pulse.judge(NOW + 650 * MILLISECOND) == ("dead", "nothing heard for 600 ms")


def test_a_peer_that_is_heard_and_does_not_answer_has_stalled() -> None:
    pulse = Pulse(SECOND, 5 * SECOND, NOW)
    pulse.met(1000, NOW)
    pulse.begin(NOW)
    pulse.tick(NOW)
    pulse.heard = NOW + 4 * SECOND
    assert pulse.deadline() == NOW + SECOND, "its next heartbeat"
    for second in range(1, 5):
        pulse.tick(NOW + second * SECOND)
    assert pulse.deadline() == NOW + 5 * SECOND
    assert pulse.judge(NOW + 5 * SECOND - 1) is None
    assert pulse.judge(NOW + 5 * SECOND) == ("stalled", "a heartbeat was not answered for 5000 ms")
    pulse.acked(pulse.number, NOW + 5 * SECOND)
    assert pulse.judge(NOW + 5 * SECOND) is None


def test_heartbeats_follow_each_other_by_the_interval() -> None:
    pulse = Pulse(SECOND, 60 * SECOND, NOW)
    pulse.met(1000, NOW)
    pulse.begin(NOW)
    made = []
    for now in (0, 999, 1000, 1200, 2000):  # ms
        pulse.due = False
        pulse.heard = NOW + now * MILLISECOND
        pulse.tick(pulse.heard)
        made += [(now, pulse.number)] if pulse.due else []
    assert made == [(0, 1), (1000, 2), (2000, 3)]
    assert pulse.deadline() == NOW + 3 * SECOND


def test_a_heartbeat_goes_with_an_answer_when_it_is_due_within_half_an_interval() -> None:
    pulse = Pulse(SECOND, 60 * SECOND, NOW)
    pulse.met(1000, NOW)
    pulse.begin(NOW)
    pulse.tick(NOW)
    pulse.due = False
    pulse.beaten(7, NOW + SECOND // 2)
    assert not pulse.due and pulse.seen == 7
    pulse.beaten(8, NOW + SECOND // 2 + 1)
    assert pulse.due and pulse.number == 2
    pulse.heard = NOW + SECOND
    assert pulse.deadline() == NOW + SECOND // 2 + 1 + SECOND


def test_the_numbers_of_heartbeats_wrap() -> None:
    pulse = Pulse(SECOND, 60 * SECOND, NOW)
    pulse.met(1000, NOW)
    pulse.begin(NOW)
    pulse.number = 0xFFFFFFFE
    for second, number in ((0, 0xFFFFFFFF), (1, 0)):
        pulse.tick(NOW + second * SECOND)
        assert pulse.number == number
        pulse.due = False
    pulse.acked(0xFFFFFFFE, NOW + SECOND)
    assert not pulse.answered, "of an earlier one"
    pulse.acked(0, NOW + 2 * SECOND)
    assert pulse.answered and pulse.rtt == 2 * SECOND, "the answer to a later one will do"
