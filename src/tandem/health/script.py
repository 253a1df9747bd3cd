# SPDX-License-Identifier: GPL-2.0-or-later
"""`vrrp_script`: a command that is run again and again and whose exit status is tracked.

The counting is keepalived's (vrrp_scheduler.c, vrrp_script_child_thread): `rise` successes in a
row bring it up, `fall` failures in a row take it down, and as long as nothing is known yet
the first result decides alone. With `init_fail` it begins as down.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.timers import MILLISECOND
from tandem.effects.process import Exit, Processes
from tandem.programs import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.config.schema import Script
    from tandem.log import Logger
    from tandem.loop import Loop


class RiseFall:
    """Turns single results into a state: None (not known), True (up) or False (down)."""

    __slots__ = ("fall", "rise", "run", "up")

    def __init__(self, rise: int, fall: int, up: bool | None = None) -> None:
        self.rise = rise
        self.fall = fall
        self.up = up
        self.run = 0  # results in a row that contradict `up`

    def result(self, ok: bool) -> bool:
        """Take one result; whether the state has changed."""
        if ok == self.up:
            self.run = 0
            return False
        self.run += 1
        if self.up is not None and self.run < (self.rise if ok else self.fall):
            return False
        self.up, self.run = ok, 0
        return True


class ScriptProbe:
    """Runs one `vrrp_script` every interval and calls `on_change(name, up)` when its state changes.

    The first result is a change (from not known) unless `init_fail` is set and it confirms
    that. `successes`, `failures`, `timeouts` count runs; `skipped` counts intervals that found the
    run before still going on, or no room for another process.
    """

    def __init__(
        self,
        script: Script,
        loop: Loop,
        processes: Processes,
        log: Logger,
        on_change: Callable[[str, bool], None],
        credentials: Credentials | None = None,
    ) -> None:
        self.script = script
        self.last: Exit | None = None
        self.successes = self.failures = self.timeouts = self.skipped = 0
        self._state = RiseFall(script.rise, script.fall, False if script.init_fail else None)
        self._loop = loop
        self._processes = processes
        self._log = log
        self._on_change = on_change
        self._credentials = credentials
        self._running: int | None = None  # process id
        self._next = 0

    @property
    def up(self) -> bool | None:
        """Whether the tracked state is up; None as long as no run has ended."""
        return self._state.up

    def start(self) -> None:
        """Run it now, and then every interval."""
        self._next = self._loop.now()
        self._tick(self._next)

    def stop(self) -> None:
        """No more runs, no more callbacks; a run that is going on is ended."""
        self._loop.call_at(("script", id(self)), None)
        self._processes.expire(self._running, self._loop.now())
        self._running = None

    def _tick(self, now: int) -> None:
        interval = self.script.interval_ms * MILLISECOND
        # The beat stays on its grid; after a pause (suspend, SIGSTOP) it does not catch up.
        self._next = max(self._next + interval, now)
        self._loop.call_at(("script", id(self)), self._next, self._tick)
        if self._running is not None:
            self.skipped += 1
            return
        timeout = (self.script.timeout_ms or self.script.interval_ms) * MILLISECOND
        self._running = pid = self._processes.start(
            self.script.argv,
            timeout,
            lambda result: self._ended(pid, result),
            credentials=self._credentials,
        )
        self.skipped += pid is None

    def _ended(self, pid: int | None, result: Exit) -> None:
        if pid != self._running:
            return  # stopped meanwhile
        self._running = None
        before, self.last = self.last, result
        self.successes += result.ok
        self.failures += not result.ok
        self.timeouts += result.timed_out
        if before is None or str(before) != str(result):
            level = "info" if result.ok else "warning"
            key = ("script", self.script.name, str(result))
            self._log.limited(key, level, f"script {self.script.name}: {result}")
        if self._state.result(result.ok):
            text = f"script {self.script.name} is {'up' if result.ok else 'down'} ({result})"
            self._log.change(("script", self.script.name), "info", text)
            self._on_change(self.script.name, result.ok)
