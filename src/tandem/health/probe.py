# SPDX-License-Identifier: GPL-2.0-or-later
"""Probe: something is tried every interval, and its results become a state (core/rise_fall.py).

Each kind of probe is an Attempt: one try at a time, which must not block the loop.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from tandem.core.rise_fall import RiseFall
    from tandem.log import Logger
    from tandem.loop import Loop

    class Result(Protocol):
        """The result of one try; its text says for people what was seen."""

        @property
        def ok(self) -> bool: ...

        @property
        def timed_out(self) -> bool: ...

    class Attempt(Protocol):
        """One kind of probe."""

        def start(self, ended: Callable[[Result], None]) -> bool:
            """Begin a try, and call `ended` once, later, within the timeout; False: there is no room."""

        def stop(self) -> None:
            """End the try that is going on, if any: `ended` is not called any more."""


class Probe:
    """Makes an attempt every `interval` (ns), and calls `on_change(name, up)` when the state changes.

    The first result is a change (from not known), unless `state` begins as down and the result confirms that.
    `successes`, `failures`, `timeouts` count tries; `skipped` counts intervals in which a try still went on,
    or there was no room. `kind` is the word for log lines, such as "script".
    """

    def __init__(
        self,
        kind: str,
        name: str,
        interval: int,
        attempt: Attempt,
        state: RiseFall,
        loop: Loop,
        log: Logger,
        on_change: Callable[[str, bool], None],
        retry: int = 0,
    ) -> None:
        """`retry`: the interval, in ns, while results contradict the state; 0: as always."""
        self.last: Result | None = None
        self.took = 0  # ns, of the last try
        self.successes = self.failures = self.timeouts = self.skipped = 0
        self._kind = kind
        self._name = name
        self._interval = interval
        self._attempt = attempt
        self._state = state
        self._loop = loop
        self._log = log
        self._on_change = on_change
        self._retry = retry
        self._trying = False
        self._began = 0
        self._next = 0

    @property
    def up(self) -> bool | None:
        """Whether the state is up; None as long as no try has ended."""
        return self._state.up

    def start(self) -> None:
        """Try now, and then every interval."""
        self._next = self._loop.now()
        self._tick(self._next)

    def stop(self) -> None:
        """End the tries; `on_change` is not called any more."""
        self._loop.call_at(("probe", id(self)), None)
        self._attempt.stop()
        self._trying = False

    def _tick(self, now: int) -> None:
        # The beat stays on its grid; after a pause (suspend, SIGSTOP) it does not catch up.
        self._next = max(self._next + self._interval, now)
        self._loop.call_at(("probe", id(self)), self._next, self._tick)
        if self._trying:
            self.skipped += 1
            return
        self._began = now
        self._trying = self._attempt.start(self._ended)
        self.skipped += not self._trying

    def _ended(self, result: Result) -> None:
        self._trying = False
        now = self._loop.now()
        self.took = now - self._began
        before, self.last = self.last, result
        self.successes += result.ok
        self.failures += not result.ok
        self.timeouts += result.timed_out
        if before is None or str(before) != str(result):
            level = "info" if result.ok else "warning"
            key = (self._kind, self._name, str(result))
            self._log.limited(key, level, f"{self._kind} {self._name}: {result}")
        if self._state.result(result.ok):
            text = f"{self._kind} {self._name} is {'up' if result.ok else 'down'} ({result})"
            self._log.change((self._kind, self._name), "info", text)
            self._on_change(self._name, result.ok)
        elif self._state.run and self._retry and now + self._retry < self._next:
            self._next = now + self._retry
            self._loop.call_at(("probe", id(self)), self._next, self._tick)
