# SPDX-License-Identifier: GPL-2.0-or-later
"""Open sessions of PPPoE: which may be taken over, and how an attempt is known to have failed."""

from __future__ import annotations

import pytest

from tandem.core.open_session import (
    LIFETIME,
    LIST_WITHIN,
    READ_WITHIN,
    UP_WITHIN,
    Attempt,
    OpenSession,
    Outcome,
)
from tandem.core.timers import SECOND


def told(peers: set[str]) -> OpenSession:
    """A session that r2 has told, with these peers there."""
    found = OpenSession(peers)
    found.told("r2")
    return found


def test_a_session_is_usable_while_its_router_is_heard_and_for_a_while_afterwards() -> None:
    found = told({"r2"})
    assert found.usable(3600 * SECOND)
    found.closed("r2", 4000 * SECOND)
    assert found.usable(4000 * SECOND + LIFETIME - 1) and not found.usable(4000 * SECOND + LIFETIME)
    found.closed("r2", 9000 * SECOND)
    assert not found.usable(9000 * SECOND), "a peer that comes and goes tells nothing by that"


def test_another_peer_does_not_know_whether_the_session_lives() -> None:
    found = told({"r2", "r3"})
    found.closed("r2", 0)
    found.closed("r3", LIFETIME)
    assert not found.usable(LIFETIME)
    found = told({"r2", "r3"})
    found.closed("r3", 0)
    assert found.usable(3600 * SECOND)


def test_no_session_is_known_after_a_boot() -> None:
    assert not OpenSession({"r2"}).usable(0)


def test_a_session_that_was_ended_is_not_used() -> None:
    found = told({"r2"})
    found.ended()
    assert not found.usable(0)
    found.told("r2")
    assert found.usable(0), "another one"


def test_a_router_may_come_back_to_the_session_that_it_has_left_open() -> None:
    found = OpenSession({"r2"})
    found.left(SECOND)
    assert found.usable(SECOND + LIFETIME - 1) and not found.usable(SECOND + LIFETIME)


def test_a_session_stays_open_for_a_peer_that_may_take_it() -> None:
    peers: set[str] = set()
    found = OpenSession(peers)
    assert not found.wanted(0), "a router without a peer ends its session"
    peers.add("r2")
    assert found.wanted(3600 * SECOND)
    peers.remove("r2")
    found.closed("r2", 3600 * SECOND)
    assert found.wanted(3600 * SECOND + LIFETIME - 1) and not found.wanted(3600 * SECOND + LIFETIME)


def test_an_attempt_that_goes_well_has_no_outcome() -> None:
    attempt = Attempt(0)
    assert attempt.look(False, READ_WITHIN - 1) is None
    attempt.read(READ_WITHIN)
    attempt.read(READ_WITHIN + SECOND)  # another reader changes nothing
    for listed, after in ((False, LIST_WITHIN - 1), (True, LIST_WITHIN), (True, UP_WITHIN - 1)):
        assert attempt.look(listed, READ_WITHIN + after) is None


@pytest.mark.parametrize(
    ("looks", "outcome"),
    [
        ([(True, 1), (False, 2)], Outcome.GONE),
        ([(False, LIST_WITHIN)], Outcome.GONE),
        ([(True, UP_WITHIN)], Outcome.STUCK),
    ],
)
def test_an_attempt_that_fails(looks: list[tuple[bool, int]], outcome: Outcome) -> None:
    attempt = Attempt(0)
    attempt.read(0)
    *before, last = looks
    assert [attempt.look(*look) for look in before] == [None] * len(before)
    assert attempt.look(*last) is outcome


def test_pppd_that_is_not_started() -> None:
    assert Attempt(5).look(True, READ_WITHIN + 5) is Outcome.UNREAD
