# SPDX-License-Identifier: GPL-2.0-or-later
"""A trial of a service's agent: is a start of what runs, and a stop of what is stopped, a success?

Tandem relies on that, as Pacemaker does: after a crash of the daemon nobody knows what has been done already.
The steps are a table. Those that the service itself takes (`own`) go through its state machine and its
claims, so that a trial never has it run twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.core.service import CODES, Operation, Outcome, State


@dataclass(frozen=True, slots=True)
class Step:
    """One operation. `good`: its outcomes when the agent is right; `wrong`: what it means when it is not."""

    operation: Operation
    good: tuple[Outcome, ...]
    wrong: str
    own: bool = False  # the service's state machine starts or stops it


_START, _STOP, _MONITOR = Operation.START, Operation.STOP, Operation.MONITOR
STEPS = (
    Step(_START, (Outcome.GOOD,), "a start of what runs fails"),
    Step(_MONITOR, (Outcome.GOOD,), "it does not run any more after a second start"),
    Step(_STOP, (Outcome.GOOD,), "it does not stop", own=True),
    Step(_STOP, (Outcome.GOOD, Outcome.ABSENT), "a stop of what is stopped fails"),
    Step(_MONITOR, (Outcome.ABSENT,), "monitor does not say that it is stopped"),
    Step(_START, (Outcome.GOOD,), "it does not start again", own=True),
)


class Trial:
    """One trial, from `STEPS[0]` on; `found` says what is wrong with the agent."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._at = 0

    @property
    def step(self) -> Step | None:
        """The step that is next; None: the trial is over."""
        return STEPS[self._at] if self._at < len(STEPS) else None

    def ended(self, status: int, reason: str) -> None:
        """The present step has ended with an exit status of OCF."""
        step = STEPS[self._at]
        outcome = CODES.get(status, Outcome.BAD)
        if outcome not in step.good:
            self._wrong(step, reason or outcome.value)
        self._at += 1

    def settled(self, state: State) -> bool:
        """The service has this state now; return whether that ends the present step, which is its own."""
        step = self.step
        if step is None or not step.own:
            return False
        if state is (State.STOPPED if step.operation is _STOP else State.RUNNING):
            self._at += 1
            return True
        if state in (State.BLOCKED, State.FAILED):
            self._wrong(step, state.value)
            self._at = len(STEPS)
            return True
        return False

    def _wrong(self, step: Step, why: str) -> None:
        self.found.append(f"{step.wrong}: {why}")
