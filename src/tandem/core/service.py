# SPDX-License-Identifier: GPL-2.0-or-later
"""One service on this router: its state, and how its failures count.

The words and the defaults are Pacemaker's: `migration_threshold`, `failure_timeout` and `on_fail`. Exit
statuses are those of OCF agents (the Open Cluster Framework's resource agent API 1.1). A failed stop blocks
the service, because the service may still run: nobody starts it, here or on another router, before an
operator has cleared it.

`services` holds all services of a router and decides what each of them shall do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.settings import Service
from tandem.core.timers import MILLISECOND, SECOND


class Operation(Enum):
    """An operation of an agent."""

    PROBE = "probe"  # a monitor that finds out whether the service runs
    START = "start"
    MONITOR = "monitor"
    STOP = "stop"


class Outcome(Enum):
    """The result of an operation, or what became of the service by itself."""

    GOOD = "done"
    ABSENT = "not running"
    BAD = "failed"  # it may work the next time
    UNFIT = "cannot run here"  # a program, a right or a parameter is missing
    IGNORED = "failed, on_fail is ignore"
    BLOCKED = "failed, on_fail is block"
    DIED = "ended by itself"
    CLEARED = "cleared"


class State(Enum):
    """The state of a service on this router, as its agent has told."""

    UNKNOWN = "unknown"  # it may run: nobody has looked
    PROBING = "probing"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    CHECKING = "checking"  # it runs, and a monitor is under way
    FAILED = "failed"  # parts of it may run
    STOPPING = "stopping"
    BLOCKED = "blocked"  # it may run, and nothing more is tried


_S, _O, _R = State, Operation, Outcome
TRANSITIONS: dict[tuple[State, Operation | Outcome], State] = {
    (_S.UNKNOWN, _O.PROBE): _S.PROBING,
    (_S.PROBING, _R.GOOD): _S.RUNNING,
    (_S.PROBING, _R.ABSENT): _S.STOPPED,
    (_S.PROBING, _R.BAD): _S.FAILED,
    (_S.PROBING, _R.UNFIT): _S.STOPPED,  # what is not installed does not run
    (_S.STOPPED, _O.START): _S.STARTING,
    (_S.STOPPED, _R.CLEARED): _S.UNKNOWN,
    (_S.STARTING, _R.GOOD): _S.RUNNING,
    (_S.STARTING, _R.ABSENT): _S.FAILED,
    (_S.STARTING, _R.BAD): _S.FAILED,
    (_S.STARTING, _R.UNFIT): _S.FAILED,
    (_S.STARTING, _R.DIED): _S.FAILED,
    (_S.STARTING, _O.STOP): _S.STOPPING,
    (_S.RUNNING, _O.MONITOR): _S.CHECKING,
    (_S.RUNNING, _O.STOP): _S.STOPPING,
    (_S.RUNNING, _R.DIED): _S.FAILED,
    (_S.RUNNING, _R.BAD): _S.FAILED,  # a check is down
    (_S.RUNNING, _R.BLOCKED): _S.BLOCKED,
    (_S.CHECKING, _R.GOOD): _S.RUNNING,
    (_S.CHECKING, _R.ABSENT): _S.FAILED,
    (_S.CHECKING, _R.BAD): _S.FAILED,
    (_S.CHECKING, _R.UNFIT): _S.FAILED,
    (_S.CHECKING, _R.DIED): _S.FAILED,
    (_S.CHECKING, _R.IGNORED): _S.RUNNING,
    (_S.CHECKING, _R.BLOCKED): _S.BLOCKED,
    (_S.CHECKING, _O.STOP): _S.STOPPING,
    (_S.FAILED, _O.STOP): _S.STOPPING,
    (_S.STOPPING, _R.GOOD): _S.STOPPED,
    (_S.STOPPING, _R.ABSENT): _S.STOPPED,
    (_S.STOPPING, _R.BAD): _S.BLOCKED,
    (_S.STOPPING, _R.UNFIT): _S.BLOCKED,
    (_S.BLOCKED, _R.CLEARED): _S.UNKNOWN,
}
"""The state after an operation has begun, or after an outcome. What is not here changes nothing."""

BUSY = {
    State.PROBING: Operation.PROBE,
    State.STARTING: Operation.START,
    State.CHECKING: Operation.MONITOR,
    State.STOPPING: Operation.STOP,
}
"""The operation that is under way in a state."""

UP = (State.RUNNING, State.CHECKING)

CODES = {
    0: Outcome.GOOD,
    7: Outcome.ABSENT,
    8: Outcome.GOOD,
    190: Outcome.GOOD,
    191: Outcome.GOOD,
} | dict.fromkeys((2, 3, 4, 5, 6), Outcome.UNFIT)
"""The outcome of an agent's exit status; every other status is `Outcome.BAD`."""

RESTART_PAUSE = SECOND  # between two starts: a service that ends at once must not keep a processor busy


@dataclass(slots=True)
class Result:
    """The end of an operation, for people."""

    operation: str
    outcome: str
    reason: str
    at: int  # monotonic ns

    def __str__(self) -> str:
        return f"{self.operation} {self.outcome}" + (f": {self.reason}" if self.reason else "")


class ServiceState:
    """The state of one service; `services` calls its methods, and reads its deadlines."""

    def __init__(self, settings: Service) -> None:
        self.settings = settings
        self.state = State.UNKNOWN
        self.since: int | None = None  # of the state, ns
        self.failures = 0
        self.banned = False  # it has failed here too often, or cannot run here
        self.disabled = False  # an operator has stopped it
        self.granted = False  # no other router starts it, also between a stop and a start here
        self.last: Result | None = None
        self.failure: Result | None = None  # the last one that counts
        self.forgets_at: int | None = None  # when its failures expire
        self.monitor_at: int | None = None
        self.start_at: int | None = None  # not before that

    @property
    def up(self) -> bool:
        """Whether the service runs and works, as far as is known."""
        return self.state in UP

    @property
    def at_rest(self) -> bool:
        """Whether nothing more happens when the service is not wanted here."""
        return self.state in (State.STOPPED, State.BLOCKED)

    def begin(self, operation: Operation, now: int) -> None:
        """Begin an operation, which the table allows."""
        self._move(operation, now)
        if operation is Operation.START:
            self.start_at = now + RESTART_PAUSE

    def take(self, operation: Operation, status: int, reason: str, now: int) -> bool:
        """Take the exit status of an operation, or -1: it was ended. False: it is not under way any more."""
        if BUSY.get(self.state) is not operation:
            return False
        outcome = CODES.get(status, Outcome.BAD)
        self.last = Result(operation.value, outcome.value, reason, now)
        if operation in (Operation.STOP, Operation.PROBE):
            self.banned |= operation is Operation.PROBE and outcome is Outcome.UNFIT
            if outcome not in (Outcome.GOOD, Outcome.ABSENT):
                self.failure = self.last
            elif (
                operation is Operation.STOP and self.failure is not None and self.failure.operation == "probe"
            ):
                self.failure = None  # nobody knew whether it ran; now it does not
            self._move(outcome, now)
        elif outcome is Outcome.GOOD:
            self._move(outcome, now)
        else:
            self._fail(outcome, now)
        return True

    def died(self, reason: str, now: int) -> bool:
        """The service has ended by itself. False: it was not up."""
        if self.state not in (*UP, State.STARTING):
            return False
        self.last = Result("monitor", Outcome.DIED.value, reason, now)
        self._fail(Outcome.DIED, now)
        return True

    def ailed(self, check: str, reason: str, now: int) -> bool:
        """A check of the service is down. False: it was not up."""
        if not self.up:
            return False
        self.last = Result(f"check {check}", Outcome.BAD.value, reason, now)
        self._fail(Outcome.BAD, now)
        return True

    def clear(self, now: int) -> None:
        """Forget the failures, and look anew whether the service runs."""
        self.forget()
        self._move(Outcome.CLEARED, now)

    def forget(self) -> None:
        """Forget the failures."""
        self.failures, self.banned, self.forgets_at, self.failure = 0, False, None, None

    def due(self, now: int) -> None:
        """Forget the failures at their deadline, and the pause between two starts."""
        if self.start_at is not None and self.start_at <= now:
            self.start_at = None
        if self.forgets_at is not None and self.forgets_at <= now:
            self.forget()

    def _fail(self, outcome: Outcome, now: int) -> None:
        """Count a failure of a start or of a running service, and apply on_fail to it."""
        settings, starts = self.settings, self.state is State.STARTING
        self.failure = self.last
        self.failures += 1
        if settings.failure_timeout_ms:
            self.forgets_at = now + settings.failure_timeout_ms * MILLISECOND
        if not starts and settings.on_fail == "ignore" and outcome is not Outcome.DIED:
            outcome = Outcome.IGNORED
        elif not starts and settings.on_fail == "block":
            outcome = Outcome.BLOCKED
        else:
            threshold = settings.migration_threshold
            often = bool(threshold) and self.failures >= threshold
            # Pacemaker's start-failure-is-fatal: what does not start here is tried elsewhere.
            self.banned |= starts or often or outcome is Outcome.UNFIT or settings.on_fail == "failover"
        self._move(outcome, now)

    def _move(self, event: Operation | Outcome, now: int) -> None:
        after = TRANSITIONS.get((self.state, event), self.state)
        if after is not self.state:
            was_up = self.up
            self.state = after
            if not (was_up and self.up):
                self.since = now
        interval = self.settings.monitor_interval_ms
        self.monitor_at = now + interval * MILLISECOND if after is State.RUNNING and interval else None
