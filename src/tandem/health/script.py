# SPDX-License-Identifier: GPL-2.0-or-later
"""`vrrp_script`: a command whose exit status is tracked. With `init_fail` it begins as down."""

from __future__ import annotations

from tandem.core.rise_fall import RiseFall
from tandem.core.timers import MILLISECOND
from tandem.health.probe import Probe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.config.schema import Script
    from tandem.effects.process import Exit, Processes
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.programs import Credentials


class Command:
    """One run of a command at a time, which ends within `timeout` ns; an Attempt of probe.py."""

    def __init__(
        self,
        argv: tuple[str, ...],
        timeout: int,
        loop: Loop,
        processes: Processes,
        credentials: Credentials | None = None,
        spawned: bool = False,
    ) -> None:
        """`spawned`: without credentials, start it the fast way (effects/process.py)."""
        self._argv = argv
        self._timeout = timeout
        self._loop = loop
        self._processes = processes
        self._credentials = credentials
        self._spawned = spawned and credentials is None
        self._running: int | None = None  # process id

    def start(self, ended: Callable[[Exit], None]) -> bool:
        """Begin a run; False: there are too many processes."""

        def exited(result: Exit) -> None:
            if pid == self._running:  # otherwise it was stopped meanwhile
                self._running = None
                ended(result)

        self._running = pid = self._processes.start(
            self._argv, self._timeout, exited, credentials=self._credentials, spawned=self._spawned
        )
        return pid is not None

    def stop(self) -> None:
        """End the run that is going on."""
        self._processes.expire(self._running, self._loop.now())
        self._running = None


def script_probe(
    script: Script,
    loop: Loop,
    processes: Processes,
    log: Logger,
    on_change: Callable[[str, bool], None],
    credentials: Credentials | None = None,
) -> Probe:
    """Return the probe that runs a `vrrp_script`."""
    timeout = (script.timeout_ms or script.interval_ms) * MILLISECOND
    command = Command(script.argv, timeout, loop, processes, credentials)
    state = RiseFall(script.rise, script.fall, False if script.init_fail else None)
    return Probe(
        "script", script.name, script.interval_ms * MILLISECOND, command, state, loop, log, on_change
    )
