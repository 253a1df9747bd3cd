# SPDX-License-Identifier: GPL-2.0-or-later
"""The states that neighbours say: which of them would take over, and which is active as well."""

from __future__ import annotations

import pytest

from tandem.control.peer_roles import PeerRoles
from tandem.core import neighbour
from tandem.core.neighbour import GROUPS_MAX, Neighbours
from tandem.core.packet import Advertisement
from tandem.core.timers import SECOND


class Side:
    """One router's knowledge of the others."""

    def __init__(self, states: dict[str, str], *others: str) -> None:
        self.known = Neighbours()
        self.known.expect(dict.fromkeys(others, frozenset()), ["lan"])
        self.other: tuple[str, Side] | None = None
        self.roles = PeerRoles(lambda: states, self.send, self.known.say)

    def send(self, _peer: str, data: bytes) -> None:
        if self.other is not None:
            name, other = self.other
            other.roles.received(name, data)

    def meets(self, name: str, event: str = neighbour.OPENED) -> None:
        found = self.known.get(name)
        assert found is not None
        found.handle(event, 0)
        self.roles.peer_opened(name) if event == neighbour.OPENED else self.roles.peer_closed(name)


def two_routers() -> tuple[Side, Side]:
    """r1 is active for G1 and G2; what either sends reaches the other at once."""
    r1 = Side({"G1": "MASTER", "G2": "MASTER"}, "r2", "r3")
    r2 = Side({"G1": "BACKUP", "G2": "FAULT"}, "r1")
    r1.other, r2.other = ("r1", r2), ("r2", r1)
    return r1, r2


def connected() -> tuple[Side, Side]:
    r1, r2 = two_routers()
    r1.meets("r2")
    r2.meets("r1")
    r2.roles.tell("G1", "BACKUP")
    r2.roles.tell("G2", "FAULT")
    return r1, r2


def test_a_peer_without_a_session_is_told_nothing() -> None:
    told: list[str] = []
    roles = PeerRoles(dict, lambda peer, _data: told.append(peer), lambda _peer, _states: None)
    roles.peer_opened("r2")
    roles.peer_opened("r3")
    roles.peer_closed("r2")
    told.clear()
    roles.tell("G1", "BACKUP")
    assert told == ["r3"]


def test_without_a_peer_nobody_takes_over() -> None:
    r1, _ = two_routers()
    assert r1.known.refusal(["G1"]) == "no peer is connected"
    r1, _ = connected()
    assert r1.known.refusal(["G1"]) is None
    r1.meets("r2", neighbour.LOST)
    assert r1.known.refusal(["G1"]) == "no peer is connected"


def test_where_no_peer_is_configured_nobody_refuses() -> None:
    assert Neighbours().refusal(["G1"]) is None


def test_a_peer_that_can_not_take_over() -> None:
    r1, r2 = connected()
    assert r1.known.refusal(["G1", "G2"]) == "G2: r2 is FAULT"
    r2.roles.tell("G2", "BACKUP")
    assert r1.known.refusal(["G1", "G2"]) is None
    r2.roles.tell("G1", "FAULT")  # standby
    assert r1.known.refusal(["G1"]) == "G1: r2 is FAULT"
    r2.roles.tell("G1", "MASTER")
    assert r1.known.refusal(["G1"]) is None
    r2.roles.tell("G1", "FAULT")
    r1.meets("r3")
    assert r1.known.refusal(["G1"]) is None  # r3 has told nothing: an older release


def test_who_is_active_as_well_and_is_not_heard() -> None:
    r1, r2 = connected()
    r1.meets("r3")
    unheard = [r2.known.unheard("G1", "lan"), r1.known.unheard("G1", "lan"), r1.known.unheard("none", "lan")]
    assert unheard == [("r1",), (), ()]
    r2.roles.tell("G1", "MASTER")
    assert r1.known.unheard("G1", "lan") == ("r2",)
    r1.known.told("r2", [(51, b"r2")])
    r1.known.advert("lan", (51, b"r2"), Advertisement(3, 51, 100, 100, ()), 100, 0)
    assert r1.known.unheard("G1", "lan") == () and r1.known.unheard("G1", "dmz") == ("r2",)
    r1.known.due(SECOND * 5 // 4)
    assert r1.known.unheard("G1", "lan") == (), "it is only late"
    r1.known.due(4 * SECOND)
    assert r1.known.unheard("G1", "lan") == ("r2",)
    r1.meets("r2", neighbour.LOST)
    assert r1.known.unheard("G1", "lan") == (), "what it says now is not known"


def test_a_new_session_begins_with_nothing_said() -> None:
    r1, r2 = connected()
    assert r1.known.refusal(["G2"]) is not None
    r2.other = None
    r1.meets("r2")
    assert r1.known.refusal(["G2"]) is None
    r1.known.say("nobody", {"G1": "FAULT"})


def test_groups_that_only_one_of_them_has_are_no_reason() -> None:
    r1, _ = connected()
    assert r1.known.refusal(["elsewhere"]) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"1", b"[]", b"[1]", b"[1, 2]", b"[2, {}]", b'[1, {"G2": []}]', b"[" * 9000]
)
def test_what_is_not_understood_is_no_reason(data: bytes) -> None:
    r1, _ = connected()
    r1.roles.received("r2", data)
    assert r1.known.refusal(["G1"]) is None


def test_what_a_peer_says_is_bounded() -> None:
    r1, _ = connected()
    for number in range(3 * GROUPS_MAX):
        r1.roles.received("r2", b'[1, {"%d": "FAULT"}]' % number)
    found = r1.known.get("r2")
    assert found is not None and len(found.states or {}) == GROUPS_MAX
