# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop sleeps now and then, however much there is to do, and loses no timer."""

from __future__ import annotations

import resource

from tandem.loop import BUSY, Loop


def test_a_loop_that_is_always_busy_sleeps_in_time() -> None:
    """Else RLIMIT_RTTIME ends the daemon in the midst of 100,000 connections."""
    loop = Loop()

    def work(now: int) -> None:
        loop.call_at("work", now, work)

    work(loop.now())
    for _ in range(3):
        sleeps = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        until = loop.now() + 2 * BUSY
        while loop.now() < until:
            loop.turn()
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw > sleeps
    loop.close()


def test_a_timer_that_another_one_sets_anew_for_the_same_time_is_not_lost() -> None:
    """The session of a busy peer sets its timer again and again, mostly for the next heartbeat."""
    loop = Loop()
    called = []
    when = loop.now()

    def first(now: int) -> None:
        loop.call_at("second", when + 1, called.append)

    loop.call_at("first", when, first)
    loop.call_at("second", when + 1, called.append)
    for _ in range(3):
        loop.turn(limit=1_000_000)
    assert len(called) == 1
    loop.close()
