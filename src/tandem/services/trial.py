# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out the trial of an agent (core/trial.py), and answers who asked for it."""

from __future__ import annotations

from tandem.core.timers import SECOND
from tandem.core.trial import Trial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.core.service import Operation, State
    from tandem.loop import Loop

    # Runs an operation beside the state machine; None: something else has come in between.
    Run = Callable[[Operation, Callable[[int | None, str], None]], None]

LIMIT = 50 * SECOND  # who asked waits for a minute


class Running:
    """One trial. `disable(bool)` has the service stopped and started, `answer(text)` gets the end."""

    def __init__(
        self, loop: Loop, run: Run, disable: Callable[[bool], None], answer: Callable[[str], None]
    ) -> None:
        self._trial = Trial()
        self._loop = loop
        self._run = run
        self._disable = disable
        self._answer: Callable[[str], None] | None = answer
        self._key = ("trial", id(self))
        loop.call_at(self._key, loop.now() + LIMIT, lambda _now: self._end("it has taken too long"))

    @property
    def over(self) -> bool:
        """Whether the trial has been answered."""
        return self._answer is None

    def go(self) -> None:
        """Take the next step."""
        step = self._trial.step
        if step is None:
            self._end("")
        elif step.own:
            self._disable(step.operation.value == "stop")
        else:
            self._run(step.operation, self._ended)

    def changed(self, state: State) -> None:
        """The service has this state now."""
        if not self.over and self._trial.settled(state):
            self._loop.call_at((self._key, "next"), self._loop.now(), lambda _now: self.go())

    def _ended(self, status: int | None, reason: str) -> None:
        if self.over:
            return
        if status is None:
            self._end("the role has changed")
        else:
            self._trial.ended(status, reason)
            self.go()

    def _end(self, cut: str) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._loop.call_at(self._key, None)
        found = [*self._trial.found, *([f"the trial was cut short: {cut}"] if cut else [])]
        if cut or self._trial.found:
            self._disable(False)
        answer("; ".join(found))
