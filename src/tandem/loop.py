# SPDX-License-Identifier: GPL-2.0-or-later
"""The event loop: epoll for descriptors, a heap of deadlines, and a watch on its own lateness.

epoll.poll() rounds its timeout up to whole milliseconds; select() takes microseconds, so one
select() on the epoll descriptor waits and epoll.poll(0) then says who is ready. That costs one
system call less a turn than a timerfd, and needs no ctypes (KERNEL-FACTS.md, Timers).

A turn runs every ready reader before any timer: an advertisement that has arrived counts
before a timer that says it has not.

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
from collections.abc import Callable, Hashable

MILLISECOND = 1_000_000
LATE = 10 * MILLISECOND  # a timer that runs later than this is counted
BUSY = 50 * MILLISECOND  # perhaps without a sleep; then there is one
ASLEEP = MILLISECOND  # who waited so long for something to be ready has slept
NAP = 5e-5  # s; a shorter one may be over before the kernel has put the task to sleep
AGAIN = 1000 * MILLISECOND  # a timer whose callback failed is tried again after this
STALE = 64  # entries that the heap may hold beside two for each timer


class Loop:
    """Readers, writers and keyed one-shot timers; times are `time.monotonic_ns()`.

    `caught` gets the exceptions of callbacks; without it they end `run()`.
    """

    def __init__(self, caught: Callable[[Exception], None] | None = None) -> None:
        self._caught = caught
        self._epoll = select.epoll()
        self._waits = [self._epoll.fileno()]
        self._readers: dict[int, Callable[[], None]] = {}
        self._writers: dict[int, Callable[[], None]] = {}
        self._timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._pushed = 0  # breaks ties, so that keys are never compared
        self._running = False
        self._rested = 0  # when it slept last
        self.late_max = 0  # ns
        self.late_count = 0

    def now(self) -> int:
        """Monotonic time in ns."""
        return time.monotonic_ns()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is readable (level-triggered)."""
        self._readers[fd] = callback
        self._watch(fd)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd` for reading; must come before it is closed."""
        self._readers.pop(fd, None)
        self._watch(fd)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `fd` is writable (level-triggered)."""
        self._writers[fd] = callback
        self._watch(fd)

    def remove_writer(self, fd: int) -> None:
        """Stop watching `fd` for writing; must come before it is closed."""
        self._writers.pop(fd, None)
        self._watch(fd)

    def call_at(self, key: Hashable, when: int | None, callback: Callable[[int], None] | None = None) -> None:
        """Set the timer `key` to call `callback(now)` once at `when`; None cancels it."""
        if when is None or callback is None:
            self._timers.pop(key, None)
            return
        known = self._timers.get(key)
        self._timers[key] = (when, callback)
        if known is None or known[0] != when:
            self._push(when, key)

    def run(self) -> None:
        """Run until `stop()`."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """End `run()` after this turn."""
        self._running = False

    def turn(self, limit: int | None = None) -> None:
        """Wait for something to do, at most `limit` ns, and do it."""
        timeout = self._timeout(limit)
        before = self.now()
        ready, _, _ = select.select(self._waits, [], [], timeout)
        waited = self.now() - before
        for fd, event in self._epoll.poll(0) if ready else ():
            try:
                if event & ~select.EPOLLOUT and (reader := self._readers.get(fd)):
                    reader()
                if event & ~select.EPOLLIN and (writer := self._writers.get(fd)):
                    writer()
            except Exception as error:
                if self._caught is None:
                    raise
                self._caught(error)
        self._run_timers()
        self._rest(slept=waited > ASLEEP if ready else timeout != 0)

    def close(self) -> None:
        """Release the epoll descriptor."""
        self._epoll.close()

    def _rest(self, slept: bool) -> None:
        now = self.now()
        if not slept:  # or something was ready before it could
            if now - self._rested < BUSY:
                return
            time.sleep(NAP)
        self._rested = now

    def _run_timers(self) -> None:
        now = self.now()
        # Timers set by callbacks wait for the next turn, so that readers always get theirs.
        due = []
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            timer = self._timers.get(key)
            if timer is not None and timer[0] == when:
                due.append((when, key, timer))
        for when, key, timer in due:
            current = self._timers.get(key)
            if current is not timer:  # cancelled or set anew by an earlier one of this turn
                if current is not None and current[0] == when:
                    self._push(when, key)  # `call_at` took it to be in the heap still
                continue
            del self._timers[key]
            now = self.now()
            late = now - when
            self.late_max = max(self.late_max, late)
            self.late_count += late > LATE
            try:
                timer[1](now)
            except Exception as error:
                if self._caught is None:
                    raise
                if key not in self._timers:
                    self.call_at(key, now + AGAIN, timer[1])
                self._caught(error)

    def _push(self, when: int, key: Hashable) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (when, self._pushed, key))
        if len(self._heap) > 2 * len(self._timers) + STALE:
            # A timer that moves again and again, as with every advertisement, leaves old deadlines behind.
            self._heap = [
                (due, number, timer) for number, (timer, (due, _)) in enumerate(self._timers.items())
            ]
            heapq.heapify(self._heap)

    def _timeout(self, limit: int | None) -> float | None:
        while self._heap:
            when, _, key = self._heap[0]
            timer = self._timers.get(key)
            if timer is not None and timer[0] == when:
                wait = max(0, when - self.now())
                return (wait if limit is None else min(wait, limit)) / 1e9
            heapq.heappop(self._heap)
        return None if limit is None else limit / 1e9

    def _watch(self, fd: int) -> None:
        events = (select.EPOLLIN if fd in self._readers else 0) | (
            select.EPOLLOUT if fd in self._writers else 0
        )
        try:
            if not events:
                self._epoll.unregister(fd)
            else:
                self._epoll.modify(fd, events)
        except FileNotFoundError:
            if events:
                self._epoll.register(fd, events)
