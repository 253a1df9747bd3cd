# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop sleeps now and then, however much there is to do."""

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
