# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of `tandem history`: one paragraph for each change of a group."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.control.history_page import render_history

pytestmark = pytest.mark.usefixtures("utc")

TIMES: dict[str, Any] = dict.fromkeys(
    ("detection_ms", "restore_ms", "address_ms", "announce_ms", "connections")
)
HEARD = "no advertisement from an active router: 192.168.1.3, priority 101, interval 1 s"


def one(name: str, state: str, after: float, **more: Any) -> dict[str, Any]:
    entry = {"time": 1753611190.5 + after, "kind": "instance", "name": name, "group": "G1", "priority": 100}
    return entry | {"state": state, "why": HEARD, "seen": "advert"} | TIMES | more


def of_group(state: str, after: float) -> dict[str, Any]:
    return one("G1", state, after, kind="group", why="", seen="", priority=0)


TAKEOVER = {"detection_ms": 3109.4, "restore_ms": 4.14, "connections": 1234}
HISTORY = [
    one("I1", "BACKUP", 0, why="started", seen="start"),
    one("E1", "BACKUP", 0, why="started", seen="start"),
    of_group("BACKUP", 0),
    one("I1", "MASTER", 60, **TAKEOVER, address_ms=5.01, announce_ms=5.31),
    one("E1", "MASTER", 60, **TAKEOVER, address_ms=5.22, announce_ms=None),
    of_group("MASTER", 60),
    one("guest", "FAULT", 60.1, group="guest", why="interface br-guest down", seen="fault"),
]
PAGE = """\
2025-07-27 10:14:10  guest  FAULT
    cause      interface br-guest down
    seen by    this router itself
2025-07-27 10:14:10  G1     MASTER
    cause      no advertisement from an active router: 192.168.1.3, priority
               101, interval 1 s
    seen by    adverts that have not come for 3.1 s
    took       4.1 ms until 1234 connections were restored,
               5.2 ms until the addresses were there,
               5.3 ms until hosts were told
2025-07-27 10:13:10  G1     BACKUP
    cause      started
    seen by    the start of the daemon
"""


def test_members_of_a_group_are_one_change() -> None:
    assert render_history(HISTORY) == PAGE


def test_the_same_state_later_is_another_change() -> None:
    again = [one("I1", "FAULT", 0), one("I1", "FAULT", 10)]
    assert render_history(again).count("FAULT") == 2


def test_entries_of_an_earlier_release() -> None:
    known = ("time", "kind", "name", "state", "priority", "why")
    old = [{name: entry[name] for name in known} for entry in HISTORY[3:5]]
    text = render_history(old)
    assert "I1  MASTER\n    cause      no adv" in text and "E1  MASTER\n" in text and "took" not in text


@pytest.mark.parametrize(("ms", "shown"), [(99.94, "99.9 ms"), (100.0, "100 ms"), (1500.0, "1.5 s")])
def test_a_step_that_took_long(ms: float, shown: str) -> None:
    takeover = one("I1", "MASTER", 0, connections=1, restore_ms=ms)
    assert f"took       {shown} until 1 connection was restored\n" in render_history([takeover])


def test_nothing_yet() -> None:
    assert render_history([]) == "nothing has happened yet\n"
