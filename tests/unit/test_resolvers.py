# SPDX-License-Identifier: GPL-2.0-or-later
"""Which resolvers netifd is told, and which are left alone because they are the user's."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.openwrt.resolvers import Resolvers

OURS, NEXT, USERS = ["192.168.1.4"], ["192.168.1.5"], ["9.9.9.9"]


def status(*dns: str, up: bool = True) -> dict[str, Any]:
    return {"up": up, "data": {"dns": list(dns)} if dns else {}}


@pytest.fixture
def found() -> Resolvers:
    made = Resolvers()
    made.take({"lan": tuple(OURS)})
    return made


@pytest.mark.parametrize("state", [status(), {"up": True}, {"up": True, "data": None}])
def test_a_network_without_resolvers_is_told_ours(found: Resolvers, state: dict[str, Any]) -> None:
    assert found.answer("lan", state) == OURS


@pytest.mark.parametrize(
    "state", [status(up=False), {}, status(*OURS), status(*USERS), status(*OURS, *USERS)]
)
def test_what_is_there_or_the_users_is_left_alone(found: Resolvers, state: dict[str, Any]) -> None:
    assert found.answer("lan", state) is None


def test_a_network_that_nobody_wants_is_left_alone(found: Resolvers) -> None:
    assert found.answer("guest", status()) is None and found.answer("guest", status(*USERS)) is None


def test_our_own_are_replaced_and_taken_back(found: Resolvers) -> None:
    found.answer("lan", status())
    found.take({"lan": tuple(NEXT)})
    assert found.answer("lan", status(*OURS)) == NEXT
    found.take({})
    assert found.names == {"lan"}, "netifd still has ours"
    assert found.answer("lan", status(*OURS)) == [], "netifd had not heard the last word yet"
    assert found.answer("lan", status(*NEXT)) == []
    assert found.answer("lan", status()) is None


def test_the_names_are_those_that_are_wanted_or_were_told(found: Resolvers) -> None:
    assert found.names == {"lan"}
    found.take({"guest": tuple(OURS)})
    assert found.names == {"guest"}


def test_the_last_eight_are_remembered() -> None:
    found = Resolvers()
    for number in range(9):
        found.take({"lan": (f"10.0.0.{number}",)})
        assert found.answer("lan", status()) == [f"10.0.0.{number}"]
        assert found.answer("lan", status()) == [f"10.0.0.{number}"], "said again"
    found.take({"lan": tuple(OURS)})
    assert found.answer("lan", status("10.0.0.0")) is None
    assert found.answer("lan", status("10.0.0.1")) == OURS
