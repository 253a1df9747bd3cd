# SPDX-License-Identifier: GPL-2.0-or-later
"""The trial of an agent: every step with every outcome, and where it ends."""

from __future__ import annotations

import pytest

from tandem.core.service import CODES, Outcome, State
from tandem.core.trial import STEPS, Trial


def at(number: int) -> Trial:
    """A trial that has come to a step without a complaint."""
    trial = Trial()
    for step in STEPS[:number]:
        if step.own:
            assert trial.settled(State.STOPPED if step.operation.value == "stop" else State.RUNNING)
        else:
            trial.ended(0 if Outcome.GOOD in step.good else 7, "")
    return trial


def test_a_good_agent() -> None:
    trial = at(len(STEPS))
    assert trial.step is None and trial.found == []


@pytest.mark.parametrize("number", [number for number, step in enumerate(STEPS) if not step.own])
@pytest.mark.parametrize("status", [0, 1, 5, 7, -1])
def test_every_outcome_of_every_step(number: int, status: int) -> None:
    trial, step = at(number), STEPS[number]
    trial.ended(status, "why")
    assert trial.found == ([] if CODES.get(status, Outcome.BAD) in step.good else [f"{step.wrong}: why"])
    assert trial.step is STEPS[number + 1], "the service is stopped and started all the same"


@pytest.mark.parametrize("number", [number for number, step in enumerate(STEPS) if step.own])
@pytest.mark.parametrize("state", list(State))
def test_every_state_while_the_service_stops_or_starts(number: int, state: State) -> None:
    trial, step = at(number), STEPS[number]
    wanted = State.STOPPED if step.operation.value == "stop" else State.RUNNING
    ends = state in (wanted, State.BLOCKED, State.FAILED)
    assert trial.settled(state) is ends
    assert trial.found == ([f"{step.wrong}: {state.value}"] if ends and state is not wanted else [])
    if state in (State.BLOCKED, State.FAILED):
        assert trial.step is None


def test_a_state_between_steps_of_the_trial_itself_is_none_of_its_business() -> None:
    assert not at(0).settled(State.RUNNING)
    assert not at(len(STEPS)).settled(State.STOPPED)
