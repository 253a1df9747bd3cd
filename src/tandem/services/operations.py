# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations: runs the programs of agents, and says how each operation has ended.

The init scripts of procd return early: procd ends a process after the script of the stop has ended, and a
script may start nothing, and succeed. So a start or stop of such an agent ends with what its monitor says.
"""

from __future__ import annotations

from tandem.core.service import Operation
from tandem.core.timers import MILLISECOND
from tandem.effects.process import Exit, Processes
from tandem.programs import PATH, find_program
from tandem.services import agents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.core.settings import Service
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.services.guardian import Stop

    Ended = Callable[[int, str], None]  # the exit status of OCF, or -1, and the reason

PROCESSES_MAX = 64  # at one time, also those that are ended
LOOK_PAUSE = 50 * MILLISECOND  # between two looks whether a service has ended


class Operations:
    """The operations of this router's services, one at a time for each service."""

    def __init__(self, loop: Loop, log: Logger, router: str) -> None:
        self._loop = loop
        self._router = router
        self._processes = Processes(loop, log, PROCESSES_MAX)
        self._pids: dict[str, int] = {}  # of the services with an operation under way
        self._blind: set[str] = set()  # services whose init script has no `running`

    def __len__(self) -> int:
        return len(self._processes)

    def begin(self, service: Service, operation: Operation, ended: Ended) -> None:
        """Run an operation, and call `ended` once, in another turn of the loop."""
        until = self._loop.now() + agents.timeout_ms(service, operation) * MILLISECOND

        def finished(result: Exit) -> None:
            status, reason = self._meaning(service, operation, result)
            if status == 0 and operation in (Operation.START, Operation.STOP) and self.waits(service):
                self._look(service, operation, until, ended)
            else:
                ended(status, reason)

        self._start(service, operation, until, finished)

    def cut(self, name: str) -> None:
        """End the operation that is under way."""
        self._processes.expire(self._pids.get(name), self._loop.now())

    def close(self) -> None:
        """End them all; nobody is told."""
        self._processes.close()

    def waits(self, service: Service) -> bool:
        """Whether the monitor has to say that a start or stop has ended."""
        return agents.returns_early(service) and service.name not in self._blind

    def stop(self, service: Service) -> Stop:
        """Return what the guardian stops a service with."""
        variables = {"PATH": PATH} | agents.environment(service, Operation.STOP, self._router)
        timeout = agents.timeout_ms(service, Operation.STOP) * MILLISECOND
        running = _argv(service, Operation.MONITOR) if self.waits(service) else ()
        return _argv(service, Operation.STOP), variables, 0, timeout, running

    def _start(
        self, service: Service, operation: Operation, until: int, finished: Callable[[Exit], None]
    ) -> None:
        name, now = service.name, self._loop.now()

        def over(result: Exit) -> None:
            self._pids.pop(name, None)
            finished(result)

        pid = self._processes.start(
            _argv(service, operation),
            max(until - now, 1),
            over,
            agents.environment(service, operation, self._router),
            outlives=operation is Operation.STOP,
            output=True,
        )
        if pid is None:
            refused = Exit(-1, 0, output=b"the process cannot be started")
            self._loop.call_at(("operation", name), now, lambda _now: finished(refused))
        else:
            self._pids[name] = pid

    def _meaning(self, service: Service, operation: Operation, result: Exit) -> tuple[int, str]:
        """Return the exit status of OCF, and the reason."""
        if result.error is not None:  # the agent itself is missing
            return agents.NOT_INSTALLED, f"{agents.line(service, operation)[0]} {result.error}"
        if result.timed_out:
            return -1, f"timed out after {agents.timeout_ms(service, operation) / 1000:g} s"
        if operation in (Operation.PROBE, Operation.MONITOR) and agents.is_blind(service, result.output):
            self._blind.add(service.name)
            return (1, agents.BLIND) if operation is Operation.PROBE else (0, "")
        status = agents.status_of(service, operation, result.status, result.output)
        return status, agents.reason_of(result.output) or ("" if result.ok else str(result))

    def _look(self, service: Service, operation: Operation, until: int, ended: Ended) -> None:
        """Look whether the service runs after its start, or look until it has ended after its stop."""

        def looked(result: Exit) -> None:
            status, reason = self._meaning(service, Operation.MONITOR, result)
            if operation is Operation.START:
                ended(*((1, agents.STARTS_NOTHING) if status == agents.NOT_RUNNING else (status, reason)))
            elif status in (agents.NOT_RUNNING, agents.NOT_INSTALLED) or not self.waits(service):
                ended(0, "")
            elif self._loop.now() >= until:
                ended(-1, f"it still runs after {agents.timeout_ms(service, operation) / 1000:g} s")
            else:
                key, when = ("operation", service.name), self._loop.now() + LOOK_PAUSE
                self._loop.call_at(key, when, lambda _now: self._look(service, operation, until, ended))

        self._start(service, Operation.MONITOR, until, looked)


def _argv(service: Service, operation: Operation) -> tuple[str, ...]:
    program, *words = agents.line(service, operation)
    return (program if program.startswith("/") else find_program(program), *words)
