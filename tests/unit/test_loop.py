# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop sleeps now and then, however much there is to do, and loses no timer."""

from __future__ import annotations

import resource
import tracemalloc

from tandem.loop import BUSY, STALE, Loop


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


def test_deadlines_that_move_take_no_memory() -> None:
    """Each accepted advertisement moves the next deadline of its group, up to 122 s away."""
    loop = Loop()
    called: list[str] = []
    loop.call_at("other", loop.now() + 3600 * 10**9, lambda _now: called.append("other"))
    tracemalloc.start()
    try:
        for number in range(60_000):
            loop.call_at("group", loop.now() + 122 * 10**9 + number, lambda _now: called.append("late"))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    loop.call_at("group", loop.now(), lambda _now: called.append("group"))
    loop.turn(limit=1_000_000)
    assert called == ["group"]
    loop.close()


def test_no_timer_is_lost_when_the_heap_is_cleaned() -> None:
    loop = Loop()
    called: list[int] = []
    for number in range(10):
        loop.call_at(number, loop.now() + number, lambda _now, number=number: called.append(number))
    for number in range(10 * STALE):
        loop.call_at("moved", loop.now() + 3600 * 10**9 + number, lambda _now: called.append(-1))
    while len(called) < 10:
        loop.turn(limit=1_000_000)
    assert called == list(range(10))
    loop.close()
