# SPDX-License-Identifier: GPL-2.0-or-later
"""One service: every row of its table, OCF's exit statuses, and Pacemaker's rules about failures."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.core.service import BUSY, CODES, TRANSITIONS, Operation, Outcome, ServiceState, State
from tandem.core.settings import Service
from tandem.core.timers import SECOND

S, O, R = State, Operation, Outcome
ROWS = {
    S.UNKNOWN: {O.PROBE: S.PROBING},
    S.PROBING: {R.GOOD: S.RUNNING, R.ABSENT: S.STOPPED, R.BAD: S.FAILED, R.UNFIT: S.STOPPED},
    S.STOPPED: {O.START: S.STARTING, R.CLEARED: S.UNKNOWN},
    S.STARTING: {
        R.GOOD: S.RUNNING, R.ABSENT: S.FAILED, R.BAD: S.FAILED, R.UNFIT: S.FAILED, R.DIED: S.FAILED,
        O.STOP: S.STOPPING,
    },
    S.RUNNING: {
        O.MONITOR: S.CHECKING, O.STOP: S.STOPPING, R.DIED: S.FAILED, R.BLOCKED: S.BLOCKED,
        R.BAD: S.FAILED,
    },
    S.CHECKING: {
        R.GOOD: S.RUNNING, R.ABSENT: S.FAILED, R.BAD: S.FAILED, R.UNFIT: S.FAILED, R.DIED: S.FAILED,
        R.IGNORED: S.RUNNING, R.BLOCKED: S.BLOCKED, O.STOP: S.STOPPING,
    },
    S.FAILED: {O.STOP: S.STOPPING},
    S.STOPPING: {R.GOOD: S.STOPPED, R.ABSENT: S.STOPPED, R.BAD: S.BLOCKED, R.UNFIT: S.BLOCKED},
    S.BLOCKED: {R.CLEARED: S.UNKNOWN},
}  # fmt: skip


def test_the_table() -> None:
    assert {
        (state, event): after for state, row in ROWS.items() for event, after in row.items()
    } == TRANSITIONS


def service(state: State, **settings: Any) -> ServiceState:
    """A service that has come to a state."""
    one = ServiceState(Service("web", "ocf:heartbeat:nginx", **settings))
    one.state = state
    return one


@pytest.mark.parametrize("state", BUSY, ids=lambda state: state.value)
@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 190, 191, 255, -1])
def test_every_exit_status_of_every_operation(state: State, status: int) -> None:
    outcome = CODES.get(status, R.BAD)
    assert outcome is {0: R.GOOD, 8: R.GOOD, 190: R.GOOD, 191: R.GOOD, 7: R.ABSENT}.get(
        status, R.UNFIT if 2 <= status <= 6 else R.BAD
    )
    one = service(state)
    assert one.take(BUSY[state], status, "why", 5)
    assert one.state is ROWS[state][outcome]
    assert (one.last and one.last.reason, one.failures) == (
        "why",
        int(one.state is S.FAILED and state is not S.PROBING),
    )


def test_the_end_of_another_operation_changes_nothing() -> None:
    one = service(S.STOPPING)
    assert not one.take(O.START, 0, "", 5) and one.state is S.STOPPING and one.last is None
    assert not one.died("", 5) and one.state is S.STOPPING


@pytest.mark.parametrize(
    ("on_fail", "state", "banned"),
    [
        ("restart", S.FAILED, False),
        ("failover", S.FAILED, True),
        ("ignore", S.RUNNING, False),
        ("block", S.BLOCKED, False),
    ],
)
def test_on_fail(on_fail: str, state: State, banned: bool) -> None:
    one = service(S.CHECKING, on_fail=on_fail)
    one.take(O.MONITOR, 1, "", 5)
    assert (one.state, one.banned, one.failures) == (state, banned, 1)


def test_a_process_that_is_gone_cannot_be_ignored() -> None:
    one = service(S.RUNNING, on_fail="ignore")
    assert one.died("exit status 1", 5) and one.state is S.FAILED
    assert str(one.failure) == "monitor ended by itself: exit status 1"


@pytest.mark.parametrize("state", [S.RUNNING, S.CHECKING])
@pytest.mark.parametrize(
    ("on_fail", "after"), [("restart", S.FAILED), ("ignore", S.RUNNING), ("block", S.BLOCKED)]
)
def test_a_check_that_is_down_is_a_failure(state: State, on_fail: str, after: State) -> None:
    one = service(state, on_fail=on_fail)
    assert one.ailed("page", "status 503", 5)
    assert (one.state, one.failures) == (after, 1)
    assert str(one.failure) == "check page failed: status 503"
    assert not service(S.STOPPING).ailed("page", "status 503", 5), "it is no longer its service"


def test_a_failed_start_bans_at_once_and_failures_do_so_at_the_threshold() -> None:
    one = service(S.STARTING)
    one.take(O.START, 1, "", 5)
    assert one.banned
    one = service(S.CHECKING, migration_threshold=2)
    one.take(O.MONITOR, 7, "", 5)
    assert not one.banned
    one.state = S.CHECKING
    one.take(O.MONITOR, 7, "", 5)
    assert one.banned and one.failures == 2


def test_what_cannot_run_here_is_banned_by_its_probe() -> None:
    one = service(S.PROBING)
    one.take(O.PROBE, 5, "not installed", 5)
    assert (
        one.banned and one.state is S.STOPPED and str(one.failure) == "probe cannot run here: not installed"
    )


def test_failures_expire_after_the_last_one() -> None:
    one = service(S.CHECKING, failure_timeout_ms=3000, migration_threshold=1)
    one.take(O.MONITOR, 1, "", 5 * SECOND)
    one.due(8 * SECOND - 1)
    assert one.banned and one.forgets_at == 8 * SECOND
    one.due(8 * SECOND)
    assert (one.banned, one.failures, one.forgets_at, one.failure) == (False, 0, None, None)


def test_a_monitor_follows_the_last_one_after_the_interval() -> None:
    one = service(S.STARTING, monitor_interval_ms=2000)
    one.take(O.START, 0, "", 5 * SECOND)
    assert one.monitor_at == 7 * SECOND and one.since == 5 * SECOND
    one.begin(O.MONITOR, 7 * SECOND)
    assert one.monitor_at is None and one.up
    one.take(O.MONITOR, 0, "", 8 * SECOND)
    assert one.monitor_at == 10 * SECOND and one.since == 5 * SECOND, "it was up all the time"


def test_the_pause_before_a_start_ends_at_its_time() -> None:
    one = service(S.STOPPED)
    one.begin(O.START, 5)
    assert one.start_at == 5 + SECOND
    one.due(5 + SECOND - 1)
    assert one.start_at == 5 + SECOND
    one.due(5 + SECOND)
    assert one.start_at is None, "a time that is over would wake the router for ever"


def test_clear_looks_anew() -> None:
    one = service(S.BLOCKED)
    one.failures, one.banned = 3, True
    one.clear(5)
    assert (one.state, one.failures, one.banned) == (S.UNKNOWN, 0, False)
