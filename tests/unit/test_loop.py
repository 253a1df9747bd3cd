# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop sleeps now and then, however much there is to do, loses no timer, and knows its longest turn."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tandem.loop import BUSY, MILLISECOND, READY_MAX, SHARE, STALE, STALL, TURN_LIMIT, Loop, name_of
from tests.lab import wait_until


class Clock:
    """A loop whose time passes only where a callback says so."""

    def __init__(self) -> None:
        self.time = 1_000 * MILLISECOND
        self.loop = Loop(clock=lambda: self.time)
        self.called: list[object] = []

    def work(self, name: object, length: int = 0) -> Callable[..., None]:
        """A callback that takes `length` ns."""

        def callback(*_: int) -> None:
            self.called.append(name)
            self.time += length

        return callback


@pytest.mark.parametrize("wait_ms", [45, 400])  # by select, and by epoll
def test_who_was_stopped_reads_before_timers_run(wait_ms: int) -> None:
    near, far = socket.socketpair()
    done_read, done = os.pipe()
    while (child := _stopped(near, done, wait_ms)) is None:
        os.read(done_read, 99)  # it had ended before it could be stopped
    time.sleep(2 * wait_ms / 1000)  # the timer's time passes
    far.send(b"news ")
    os.kill(child, signal.SIGCONT)
    os.waitpid(child, 0)
    assert os.read(done_read, 99) == b"news timer"
    for end in (near, far):
        end.close()
    for pipe in (done_read, done):
        os.close(pipe)


def _stopped(near: socket.socket, done: int, wait_ms: int) -> int | None:
    """Start a process with a loop, and stop it while it waits. None: it has ended."""
    child = os.fork()
    if child == 0:
        try:
            _read_and_wait(near, done, wait_ms)
        finally:
            os._exit(0)
    stat = Path(f"/proc/{child}/stat")
    wait_until(lambda: stat.read_text().rpartition(") ")[2][0] in "SZ", 10, "it waits", every=0.001)
    os.kill(child, signal.SIGSTOP)
    _, status = os.waitpid(child, os.WUNTRACED)
    return child if os.WIFSTOPPED(status) else None


def _read_and_wait(near: socket.socket, done: int, wait_ms: int) -> None:
    """Run a loop in a process of its own until its timer."""
    loop = Loop()

    def timer(_now: int) -> None:
        os.write(done, b"timer")
        loop.stop()

    loop.add_reader(near.fileno(), lambda: os.write(done, near.recv(9)))
    loop.call_at("timer", loop.now() + wait_ms * MILLISECOND, timer)
    loop.run()


def test_a_loop_that_is_always_busy_sleeps_in_time() -> None:
    """Otherwise RLIMIT_RTTIME ends the daemon in the midst of 100,000 connections."""
    loop = Loop()

    def work(now: int) -> None:
        loop.call_at("work", now, work)

    work(loop.now())
    for _ in range(3):
        sleeps = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        until, turns = loop.now() + 2 * BUSY, 0
        while loop.now() < until or turns < 10:  # a busy machine may give this thread no time until then
            loop.turn()
            turns += 1
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


def test_the_longest_turn_has_the_name_of_who_took_most_of_it() -> None:
    clock = Clock()
    reading, writing = os.pipe()
    os.write(writing, b"x")

    def read() -> None:
        os.read(reading, 1)
        clock.time += 3 * MILLISECOND

    clock.loop.add_reader(reading, read)
    clock.loop.call_at("short", clock.time, clock.work("short", 2 * MILLISECOND))
    clock.loop.turn()
    assert (clock.loop.turn_max, clock.loop.turn_count) == (5 * MILLISECOND, 0)
    assert clock.loop.turn_by.endswith(
        ": test_the_longest_turn_has_the_name_of_who_took_most_of_it.<locals>.read"
    )
    clock.loop.call_at("long", clock.time, clock.work("long", TURN_LIMIT + 1))
    clock.loop.call_at("next", clock.time + 1, clock.work("next"))
    clock.loop.turn()
    clock.loop.turn()
    assert clock.called == ["short", "long", "next"]
    assert (clock.loop.turn_max, clock.loop.turn_count) == (TURN_LIMIT + 1, 1)
    assert clock.loop.turn_by.endswith(": Clock.work.<locals>.callback")
    clock.loop.close()
    os.close(reading)
    os.close(writing)


def test_a_callback_has_a_name_whatever_it_is() -> None:
    loop = Loop()
    assert name_of(loop.stop) == name_of(partial(loop.stop)) == name_of(Loop.stop) == "loop: Loop.stop"
    assert name_of(lambda: None).endswith(": test_a_callback_has_a_name_whatever_it_is")
    assert name_of([].append) == "None: list.append" and name_of(None) == "None: NoneType"
    loop.close()


def test_many_timers_at_once_are_spread_over_turns_and_readers_come_between() -> None:
    """255 groups whose adverts stop in the same millisecond are no turn of 40 ms."""
    clock = Clock()
    reading, writing = os.pipe()
    os.write(writing, b"x")
    clock.loop.add_reader(reading, clock.work("reader"))
    for number in range(12):
        clock.loop.call_at(number, clock.time + number, clock.work(number, SHARE // 4))
    clock.time += MILLISECOND
    while len(clock.called) < 15:
        clock.loop.turn()
    assert clock.called == ["reader", 0, 1, 2, 3, "reader", 4, 5, 6, 7, "reader", 8, 9, 10, 11]
    assert clock.loop.turn_max == SHARE and not clock.loop._timers
    clock.loop.close()
    os.close(reading)
    os.close(writing)


def test_long_work_is_spread_over_turns_and_readers_come_between() -> None:
    clock = Clock()
    reading, writing = os.pipe()
    os.write(writing, b"x")
    clock.loop.add_reader(reading, clock.work("reader"))

    def steps() -> Iterator[None]:
        for number in range(7):
            clock.work(number, MILLISECOND)()
            yield

    clock.loop.spread("steps", steps(), 3 * MILLISECOND)
    while len(clock.called) < 9:
        clock.loop.turn()
    assert clock.called == [0, 1, 2, "reader", 3, 4, 5, "reader", 6]
    assert clock.loop.turn_max == 3 * MILLISECOND and not clock.loop._timers
    clock.called.clear()
    clock.loop.spread("steps", steps(), MILLISECOND)
    clock.loop.call_at("steps", None)
    clock.loop.turn()
    assert clock.called == [0, "reader"], "it can be cancelled"
    clock.loop.close()
    os.close(reading)
    os.close(writing)


def test_a_timer_that_waits_for_the_next_turn_can_be_cancelled_and_moved() -> None:
    clock = Clock()
    clock.loop.call_at("first", clock.time, clock.work("first", SHARE))
    for name in ("cancelled", "moved", "same"):
        clock.loop.call_at(name, clock.time, clock.work(name))
    clock.loop.turn()
    assert clock.called == ["first"]
    clock.loop.call_at("cancelled", None)
    clock.loop.call_at("moved", clock.time + 5, clock.work("moved"))
    clock.loop.turn()
    assert clock.called == ["first", "same"]
    clock.time += 5
    clock.loop.turn()
    assert clock.called == ["first", "same", "moved"]
    clock.loop.close()


def test_a_timer_with_slack_runs_with_what_the_loop_wakes_for() -> None:
    clock = Clock()
    begin = clock.time
    clock.loop.call_at("patient", begin + 10, clock.work("patient"), slack=50)
    clock.loop.call_at("other", begin + 30, clock.work("other"))
    clock.time += 20
    assert clock.loop._wait(clock.time, None) == 10, "it wakes nobody"
    clock.time += 10
    clock.loop.turn()
    assert clock.called == ["other", "patient"]
    clock.loop.call_at("patient", clock.time + 10, clock.work("again"), slack=50)
    assert clock.loop._wait(clock.time, None) == 60, "alone it waits to the end of its slack"
    clock.time += 60
    clock.loop.turn()
    assert clock.called[2:] == ["again"] and clock.loop.late_max == 0
    clock.time += 100
    clock.loop.turn(0)
    assert len(clock.called) == 3, "once each"
    clock.loop.close()


def test_timers_with_slack_that_move_take_no_memory_and_are_not_lost() -> None:
    clock = Clock()
    for number in range(20 * STALE):
        clock.loop.call_at("patient", clock.time + number, clock.work(number), slack=1000)
    assert len(clock.loop._heap) <= STALE + 2 and len(clock.loop._slack) <= STALE + 2
    clock.time += 20 * STALE
    clock.loop.turn()
    assert clock.called == [20 * STALE - 1]
    clock.loop.close()


def test_more_descriptors_than_one_turn_reads_all_get_their_turn() -> None:
    clock = Clock()
    pipes = [os.pipe() for _ in range(READY_MAX + 8)]
    for reading, writing in pipes:
        os.write(writing, b"x")
        clock.loop.add_reader(reading, clock.work(reading))
    clock.loop.turn()
    clock.loop.turn()
    assert set(clock.called) == {reading for reading, _ in pipes}
    clock.loop.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)


def test_a_first_reader_runs_before_those_that_were_readable_earlier() -> None:
    clock = Clock()
    pipes = [os.pipe() for _ in range(4)]
    for number, (reading, writing) in enumerate(pipes):
        clock.loop.add_reader(reading, clock.work(number), first=number == 2)
        os.write(writing, b"x")
    clock.loop.turn()
    assert clock.called == [2, 0, 1, 3]
    clock.called.clear()
    clock.loop.remove_reader(pipes[2][0])
    clock.loop.add_reader(pipes[2][0], clock.work(2))
    clock.loop.turn()
    assert sorted(clock.called) == [0, 1, 2, 3] and clock.called[0] != 2
    clock.loop.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)


@pytest.mark.parametrize(("length", "read"), [(STALL, False), (STALL + 1, True)])
def test_who_was_stopped_in_a_reader_reads_again_before_timers_run(length: int, read: bool) -> None:
    """One that only takes long does not: where there is always something to read, turns would be longer."""
    clock = Clock()
    pipes = [os.pipe() for _ in range(2)]

    def stopped() -> None:
        os.read(pipes[0][0], 1)
        clock.work("stopped", length)()
        os.write(pipes[1][1], b"x")

    clock.loop.add_reader(pipes[0][0], stopped)
    clock.loop.add_reader(pipes[1][0], lambda: clock.called.append(os.read(pipes[1][0], 1)))
    clock.loop.call_at("timer", clock.time + MILLISECOND, clock.work("timer"))
    os.write(pipes[0][1], b"x")
    clock.loop.turn()
    assert clock.called == ["stopped", *[b"x"] * read, "timer"]
    clock.loop.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)


def test_a_reader_that_is_called_once_waits_for_the_next_call() -> None:
    """Events of the kernel that come while others are gathered wake nobody."""
    loop = Loop()
    called: list[bytes] = []
    reading, writing = os.pipe2(os.O_NONBLOCK)
    loop.add_reader(reading, lambda: called.append(os.read(reading, 1)), once=True)
    os.write(writing, b"abc")
    for _ in range(3):
        loop.turn(limit=MILLISECOND)
    assert called == [b"a"]
    loop.wake_again(reading)
    for _ in range(3):
        loop.turn(limit=MILLISECOND)
    assert called == [b"a", b"b"]
    loop.remove_reader(reading)
    loop.close()
    os.close(reading)
    os.close(writing)


def test_a_timer_with_slack_that_sets_itself_again_stays_one_entry() -> None:
    """It stands in two heaps, and both are due: the second entry must not enter the new timer once more."""
    clock = Clock()

    def work(now: int) -> None:
        clock.called.append(now)
        clock.loop.call_at("again", now + 100, work, slack=10)

    work(clock.time)
    for _ in range(20):
        clock.time += 110
        clock.loop.turn(0)
    assert len(clock.called) == 21
    assert len(clock.loop._heap) == 1 and len(clock.loop._slack) <= 2
    clock.loop.close()


def test_a_timer_with_slack_waits_whole_milliseconds_of_it_and_no_longer() -> None:
    """epoll counts in milliseconds; so it needs no second system call, and the timer is not late."""
    clock = Clock()
    clock.loop.call_at(
        "patient", clock.time + 4 * MILLISECOND, clock.work("patient"), slack=6 * MILLISECOND + 7
    )
    assert clock.loop._wait(clock.time, None) == 10 * MILLISECOND == clock.loop._whole
    clock.loop.call_at("exact", clock.time + 3 * MILLISECOND, clock.work("exact"))
    assert clock.loop._wait(clock.time, None) == 3 * MILLISECOND != clock.loop._whole
    clock.loop.close()
    loop = Loop()
    called: list[int] = []
    due = loop.now() + 20 * MILLISECOND
    loop.call_at("patient", due - 5 * MILLISECOND, called.append, slack=5 * MILLISECOND)
    while not called:
        loop.turn()
    assert called[0] >= due - 5 * MILLISECOND
    loop.close()
