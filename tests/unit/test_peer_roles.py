# SPDX-License-Identifier: GPL-2.0-or-later
"""Who would take over, as the peers tell it."""

from __future__ import annotations

import pytest

from tandem.control.peer_roles import GROUPS_MAX, PeerRoles


def two_routers() -> tuple[PeerRoles, PeerRoles]:
    """r1 is active for G1 and G2; what either sends reaches the other at once."""
    states = {"r1": {"G1": "MASTER", "G2": "MASTER"}, "r2": {"G1": "BACKUP", "G2": "FAULT"}}
    r1 = PeerRoles(lambda: states["r1"], lambda _peer, data: r2.received("r1", data))
    r2 = PeerRoles(lambda: states["r2"], lambda _peer, data: r1.received("r2", data))
    return r1, r2


def test_without_a_peer_nobody_takes_over() -> None:
    r1, r2 = two_routers()
    assert r1.refusal(["G1"]) == "no peer is connected"
    r1.peer_opened("r2")
    r2.peer_opened("r1")
    assert r1.refusal(["G1"]) is None
    r1.peer_closed("r2")
    assert r1.refusal(["G1"]) == "no peer is connected"


def test_a_peer_that_can_not_take_over() -> None:
    r1, r2 = two_routers()
    r1.peer_opened("r2")
    r2.peer_opened("r1")
    assert r1.refusal(["G1", "G2"]) == "G2: r2 is FAULT"
    r2.tell("G2", "BACKUP")
    assert r1.refusal(["G1", "G2"]) is None
    r2.tell("G1", "FAULT")  # standby
    assert r1.refusal(["G1"]) == "G1: r2 is FAULT"
    r1.peer_opened("r3")
    assert r1.refusal(["G1"]) is None  # r3 has told nothing: an older release


def test_who_is_active_as_well() -> None:
    r1, r2 = two_routers()
    r1.peer_opened("r2")
    r2.peer_opened("r1")
    r1.peer_opened("r3")
    assert (r2.active("G1"), r1.active("G1"), r1.active("none")) == (("r1",), (), ())
    r2.tell("G1", "MASTER")
    assert r1.active("G1") == ("r2",)


def test_groups_that_only_one_of_them_has_are_no_reason() -> None:
    r1, r2 = two_routers()
    r1.peer_opened("r2")
    r2.peer_opened("r1")
    assert r1.refusal(["elsewhere"]) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"1", b"[]", b"[1]", b"[1, 2]", b"[2, {}]", b'[1, {"G2": []}]', b"[" * 9000]
)
def test_what_is_not_understood_is_no_reason(data: bytes) -> None:
    r1, _ = two_routers()
    r1.peer_opened("r2")
    r1.received("r2", data)
    assert r1.refusal(["G1"]) is None


def test_what_a_peer_says_is_bounded() -> None:
    r1, _ = two_routers()
    r1.peer_opened("r2")
    for number in range(3 * GROUPS_MAX):
        r1.received("r2", b'[1, {"%d": "FAULT"}]' % number)
    assert len(r1._peers["r2"] or {}) == GROUPS_MAX
