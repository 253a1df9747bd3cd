# SPDX-License-Identifier: GPL-2.0-or-later
"""The event loop: epoll for descriptors, a heap of deadlines, and a watch on its own turns.

The loop's contract: no turn is longer than TURN_LIMIT, nothing blocks, and everything is bounded. `turn_max`
is the longest turn so far, and `turn_by` names the callback that had the greatest part in it.

epoll.poll() waits whole milliseconds: a timer that is COARSE or more away may be late by one, and a timer
with slack may be early by one. Any other waits in select() on the epoll descriptor, which takes
microseconds; epoll.poll(0) then says who is ready.

A turn runs every ready reader before any timer: an advertisement that has arrived counts
before a timer that says it has not. Readers that are `first` tell what this router is itself: it knows that
before it answers others, also when it has stood still. Many timers that are due at once are spread over
several turns.

A loop that always finds something to do, as with 100,000 connections to restore and to look
through, never sleeps, and the kernel's limit of real-time work without a sleep would end the
daemon (scheduling.py). That limit is for a callback that never returns: the loop sleeps a moment in time.

An exception in a callback does not end the loop when `caught` takes it (bugs.py). A timer that failed before
it was set again is tried again, so that periodic work does not end with one failure.
"""

from __future__ import annotations

import heapq
import select
import time
from collections.abc import Callable, Hashable, Iterator

from tandem.core.timers import MILLISECOND, SECOND

TURN_LIMIT = 20 * MILLISECOND  # a turn that is longer is counted
SHARE = 10 * MILLISECOND  # of a turn for timers: those that are left wait for the next one
COARSE = 50 * MILLISECOND  # who waits so long, as for the next advert at 100 ms, need not be exact
LATE = 10 * MILLISECOND  # a timer that runs later than this is counted
STALL = 5 * TURN_LIMIT  # readers never take so long: the process was stopped while they ran
BUSY = 50 * MILLISECOND  # perhaps without a sleep; then there is one
ASLEEP = MILLISECOND  # who waited so long for something to be ready has slept
NAP = 5e-5  # s; a shorter one may be over before the kernel has put the task to sleep
AGAIN = SECOND  # a timer whose callback failed is tried again after this
STALE = 64  # entries that the heap may hold beside two for each timer
TIMER_SLACK = 300 * MILLISECOND  # of what is done every second or so: one wake-up serves all of it
READY_MAX = 64  # descriptors in one turn; epoll names the others first in the next one

# When it is due, when it runs at the latest, what it calls.
_Timer = tuple[int, int, Callable[[int], None]]


class Loop:
    """Readers, writers and keyed one-shot timers; times are `time.monotonic_ns()`, which `now()` returns.

    `caught` gets the exceptions of callbacks; without it they end `run()`.
    """

    def __init__(
        self,
        caught: Callable[[Exception], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.now = clock
        self._caught = caught
        self._epoll = select.epoll()
        self._waits = [self._epoll.fileno()]
        self._readers: dict[int, Callable[[], None]] = {}
        self._first: set[int] = set()
        self._writers: dict[int, Callable[[], None]] = {}
        self._timers: dict[Hashable, _Timer] = {}
        self._heap: list[tuple[int, int, Hashable]] = []  # by the latest time
        self._slack: list[tuple[int, int, Hashable]] = []  # by the time when they are due
        self._pushed = 0  # breaks ties, so that keys are never compared
        self._running = False
        self._whole = -1  # a wait that is in whole milliseconds
        self._rested = 0  # when it slept last
        self._longest = 0  # part of this turn, ns
        self._by: Callable[..., None] | None = None  # whose part it was
        self.late_max = 0  # ns
        self.late_count = 0
        self.turn_max = 0  # ns
        self.turn_by = ""
        self.turn_count = 0  # of those above TURN_LIMIT

    def add_reader(
        self, fd: int, callback: Callable[[], None], once: bool = False, first: bool = False
    ) -> None:
        """Call `callback` whenever `fd` is readable (level-triggered); `once`: until `wake_again`, once.

        `first`: before the other readers of the turn, whatever became readable before.
        """
        self._readers[fd] = callback
        if first:
            self._first.add(fd)
        self._watch(fd, select.EPOLLONESHOT if once else 0)

    def wake_again(self, fd: int) -> None:
        """Watch `fd`, which was added with `once`, for the next time."""
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLONESHOT)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd` for reading; must come before it is closed."""
        self._readers.pop(fd, None)
        self._first.discard(fd)
        self._watch(fd)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is writable (level-triggered)."""
        self._writers[fd] = callback
        self._watch(fd)

    def remove_writer(self, fd: int) -> None:
        """Stop watching `fd` for writing; must come before it is closed."""
        self._writers.pop(fd, None)
        self._watch(fd)

    def call_at(
        self,
        key: Hashable,
        when: int | None,
        callback: Callable[[int], None] | None = None,
        slack: int = 0,
    ) -> None:
        """Set the timer `key` to call `callback(now)` once at `when`; None cancels it.

        With `slack` (ns) the timer wakes nobody before it is over: it runs with what the loop wakes for.
        """
        if when is None or callback is None:
            self._timers.pop(key, None)
            return
        known = self._timers.get(key)
        timer = self._timers[key] = (when, when + slack, callback)
        if known is None or known[:2] != timer[:2]:
            self._enter(key, timer)

    def spread(self, key: Hashable, steps: Iterator[None], share: int) -> None:
        """Take `steps` for `share` ns of this turn, and of each following one, by the timer `key`."""

        def go(now: int) -> None:
            until = now + share
            for _ in steps:
                now = self.now()
                if now >= until:
                    self.call_at(key, now, go)
                    break

        go(self.now())

    def run(self) -> None:
        """Run until `stop()`."""
        self._running = True
        now = self.now()
        while self._running:
            now = self._turn(now, None)

    def stop(self) -> None:
        """End `run()` after this turn."""
        self._running = False

    def turn(self, limit: int | None = None) -> None:
        """Wait for something to do, at most `limit` ns, and do it."""
        self._turn(self.now(), limit)

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()

    def _turn(self, asked: int, limit: int | None) -> int:
        """Run one turn, which waits from `asked` on, and return the time of its end."""
        wait = self._wait(asked, limit)
        if wait is None or wait >= COARSE or wait == self._whole:
            ready = self._epoll.poll(None if wait is None else (wait - 1) / SECOND, READY_MAX)
        elif select.select(self._waits, (), (), wait / SECOND)[0]:
            ready = self._epoll.poll(0, READY_MAX)
        else:
            ready = []
        began = now = self.now()
        if not ready and wait is not None and began - asked - wait > LATE:
            # A process that was stopped leaves epoll_wait() by EINTR, and Python then only looks at the time.
            # Timers must not find a silence that is none: what came meanwhile is read first.
            ready = self._epoll.poll(0, READY_MAX)
        self._longest = 0
        now = self._run_ready(ready, now)
        if now - began > STALL:  # likewise
            now = self._run_ready(self._epoll.poll(0, READY_MAX), now)
        if (self._heap and self._heap[0][0] <= now) or (self._slack and self._slack[0][0] <= now):
            now = self._run_timers(now)
        if now - began > self.turn_max or now - began > TURN_LIMIT:
            self._note_turn(now - began)
        if began - asked > ASLEEP if ready else wait != 0:
            self._rested = now
        elif now - self._rested >= BUSY:  # it did not sleep, or something was ready before it could
            time.sleep(NAP)
            self._rested = now = self.now()
        return now

    def _run_ready(self, ready: list[tuple[int, int]], now: int) -> int:
        """Call the readers and writers of these descriptors, and return the time."""
        if len(ready) > 1:
            ready.sort(key=self._place)
        for fd, event in ready:
            callback: Callable[..., None] | None = None
            try:
                if event & ~select.EPOLLOUT and (callback := self._readers.get(fd)):
                    callback()
                if event & ~select.EPOLLIN and (writer := self._writers.get(fd)):
                    callback = writer
                    writer()
            except Exception as error:
                if self._caught is None:
                    raise
                self._caught(error)
            before, now = now, self.now()
            if now - before > self._longest:
                self._longest, self._by = now - before, callback
        return now

    def _place(self, ready: tuple[int, int]) -> bool:
        return ready[0] not in self._first

    def _note_turn(self, length: int) -> None:
        self.turn_count += length > TURN_LIMIT
        if length > self.turn_max:
            self.turn_max = length
            self.turn_by = name_of(self._by)

    def _run_timers(self, now: int) -> int:
        """Run what is due at `now`, and return the time after that."""
        until = now + SHARE
        # Timers set by callbacks wait for the next turn, so that readers always get theirs.
        due = self._due(now)
        for number, (key, timer) in enumerate(due):
            if now >= until:
                for later, left in due[number:]:
                    self._enter(later, left)
                break
            current = self._timers.get(key)
            if current is not timer:  # cancelled or set anew by an earlier one of this turn
                if current is not None and current[:2] == timer[:2]:
                    self._enter(key, current)  # `call_at` has taken it to be in the heap still
                continue
            del self._timers[key]
            late = now - timer[1]
            if late > self.late_max:
                self.late_max = late
            if late > LATE:
                self.late_count += 1
            try:
                timer[2](now)
            except Exception as error:
                if self._caught is None:
                    raise
                if key not in self._timers:
                    self.call_at(key, now + AGAIN, timer[2])
                self._caught(error)
            before, now = now, self.now()
            if now - before > self._longest:
                self._longest, self._by = now - before, timer[2]
        return now

    def _due(self, now: int) -> list[tuple[Hashable, _Timer]]:
        """Take out of the heaps what may run at `now`; a timer with slack may be named twice."""
        due, timers, heap, slack = [], self._timers, self._heap, self._slack
        while heap and heap[0][0] <= now:
            when, _, key = heapq.heappop(heap)
            timer = timers.get(key)
            if timer is not None and timer[1] == when:
                due.append((key, timer))
        while slack and slack[0][0] <= now:
            when, _, key = heapq.heappop(slack)
            timer = timers.get(key)
            if timer is not None and timer[0] == when:
                due.append((key, timer))
        return due

    def _enter(self, key: Hashable, timer: _Timer) -> None:
        when, latest, _ = timer
        self._pushed += 1
        heapq.heappush(self._heap, (latest, self._pushed, key))
        if when != latest:
            heapq.heappush(self._slack, (when, self._pushed, key))
        if len(self._heap) > 2 * len(self._timers) + STALE:
            # A timer that moves again and again, as with every advertisement, leaves old deadlines behind.
            timers = [(key, when, latest) for key, (when, latest, _) in self._timers.items()]
            self._heap = [(latest, number, key) for number, (key, _, latest) in enumerate(timers)]
            self._slack = [(t[1], number, t[0]) for number, t in enumerate(timers) if t[1] != t[2]]
            heapq.heapify(self._heap)
            heapq.heapify(self._slack)

    def _wait(self, now: int, limit: int | None) -> int | None:
        """Return how long to wait for a reader or writer, ns; None: for ever."""
        self._whole = -1
        while self._heap:
            latest, _, key = self._heap[0]
            timer = self._timers.get(key)
            if timer is not None and timer[1] == latest:
                wait = max(0, latest - now)
                if timer[0] + MILLISECOND <= latest and wait >= MILLISECOND:
                    wait = self._whole = wait // MILLISECOND * MILLISECOND
                return wait if limit is None else min(wait, limit)
            heapq.heappop(self._heap)
        return limit

    def _watch(self, fd: int, once: int = 0) -> None:
        events = (select.EPOLLIN if fd in self._readers else 0) | (
            select.EPOLLOUT if fd in self._writers else 0
        )
        try:
            if not events:
                self._epoll.unregister(fd)
            else:
                self._epoll.modify(fd, events | once)
        except FileNotFoundError:
            if events:
                self._epoll.register(fd, events | once)


def name_of(callback: Callable[..., None] | None) -> str:
    """The name of a callback for people: the function that it is, or in which it was made."""
    function = getattr(callback, "func", callback)  # of functools.partial
    module = str(getattr(function, "__module__", None)).removeprefix("tandem.")
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}: {name.removesuffix('.<locals>.<lambda>')}"
