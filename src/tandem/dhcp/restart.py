# SPDX-License-Identifier: GPL-2.0-or-later
"""Restarts of dnsmasq: one at a time, and never interrupted by the daemon.

A restart that is killed in its middle may leave no dnsmasq at all. A restart therefore outlives a reload, and
the daemon waits for it when it ends. A restart that is requested meanwhile runs afterwards.
"""

from __future__ import annotations

from tandem.effects.process import Exit, Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.log import Logger
    from tandem.loop import Loop

    Wanted = tuple[Sequence[str], int, Callable[[Exit], None]]


class Restarts:
    """Runs the commands that restart dnsmasq."""

    def __init__(self, loop: Loop, log: Logger) -> None:
        self._loop = loop
        self._log = log
        self._processes: Processes | None = None
        self._next: Wanted | None = None
        self._finished: Callable[[], None] | None = None

    def run(self, argv: Sequence[str], timeout: int, ended: Callable[[Exit], None]) -> bool:
        """Run `argv`, now or after the present command, and instead of a waiting one. False: it can't start.

        `ended` gets the exit. The timeout, in ns, begins when the command starts.
        """
        if self._processes is None:
            self._processes = Processes(self._loop, self._log, limit=1)
        if len(self._processes):
            self._next = argv, timeout, ended
            return True

        def over(result: Exit) -> None:
            ended(result)
            self._go_on()

        return self._processes.start(argv, timeout, over, outlives=True) is not None

    def finish(self, finished: Callable[[], None]) -> None:
        """Call `finished` once, when nothing runs and nothing waits."""
        self._finished = finished
        self._go_on()

    def _go_on(self) -> None:
        wanted, self._next = self._next, None
        if wanted is not None:
            argv, timeout, ended = wanted
            if not self.run(argv, timeout, ended):
                ended(Exit(-1, 0, error="can't be started"))
                self._go_on()
        elif self._finished is not None and not (self._processes is not None and len(self._processes)):
            finished, self._finished = self._finished, None
            finished()
