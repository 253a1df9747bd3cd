# SPDX-License-Identifier: GPL-2.0-or-later
"""The status page letter by letter."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tandem.console import printable
from tandem.control.page import duration
from tandem.control.status_page import render_short, render_status
from tests.unit.status_snapshot import PAGE_80, SHORT_80, STATUS

pytestmark = pytest.mark.usefixtures("utc")


def test_status_page_at_80_columns() -> None:
    assert render_status(STATUS) == PAGE_80


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 80, 100, 200])
def test_rows_keep_to_the_width_and_nothing_is_lost(width: int) -> None:
    page = render_status(STATUS, width)
    rows = [line for line in page.splitlines() if line.startswith("    ")]
    assert all(len(row) <= max(width, 35) for row in rows)
    assert "".join(page.split()) == "".join(PAGE_80.split())


def test_colour_changes_nothing_but_colour() -> None:
    page = render_status(STATUS, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", page) == PAGE_80
    assert "\x1b[1;32mMASTER\x1b[m" in page
    assert "\x1b[1;31mFAULT \x1b[m" in page
    assert "\x1b[31minterface br-guest down, no address on br-guest\x1b[m" in page


def test_the_short_form() -> None:
    assert render_short(STATUS) == SHORT_80


def test_a_group_on_probation_says_why() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][1] |= {"probation": "no route", "standby": False, "faults": []}
    row = "    probation  does not preempt after no route, until that has changed\n"
    assert row in render_short(status) and row in render_status(status)


def test_status_without_routers() -> None:
    nothing = {"groups": [], "instances": [], "history": [], "counters": {}, "router_id": ""}
    page = render_status(STATUS | nothing)
    assert page.startswith("active       no virtual routers are configured\n")
    assert "\n\ntandemd 0.1.0 on this router, pid 1234" in page
    assert page.endswith("\n\nNo virtual routers are configured.\n")


def test_data_can_not_act_on_the_terminal() -> None:
    def poison(value: Any) -> Any:
        match value:
            case dict():
                return {name: poison(item) for name, item in value.items()}
            case list():
                return [poison(item) for item in value]
            case str():
                return value + "\x1b[2J\x07\r\n\u202e\udcff\xa0"
        return value

    status = poison(STATUS)
    for instance in status["instances"]:
        instance["counters"]["\x1b[31m"] = 1
    assert all(char == "\n" or char.isprintable() for char in render_status(status))


def test_long_words_are_broken_not_cut() -> None:
    status = copy.deepcopy(STATUS)
    reason = "E1: " + "a very long reason why an effect has failed, " * 3
    status["groups"][0]["faults"] = [reason.strip(), "x" * 100]
    page = render_status(status)
    assert max(map(len, page.splitlines())) <= 80
    assert " ".join(page.split()).count("very long reason") == 3
    assert "".join(page.split()).count("x" * 100) == 1


def test_group_faults_are_not_said_again_by_members() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][0]["faults"] = ["interface eth0.2 down"]
    status["instances"][0]["faults"] = ["interface eth0.2 down"]
    status["instances"][1]["faults"] = ["interface eth0.2 down", "its own"]
    page = render_status(status)
    assert page.count("interface eth0.2 down") == 1
    assert "    faults     its own\n" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0204, "20 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (100000000, "1157 d 9 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_printable() -> None:
    assert printable("Süd \x1b[2J\n\udcff\\") == "Süd \\x1b[2J\\n\\udcff\\"


def test_dhcp_is_told() -> None:
    dhcp = {
        "leases": 2, "answering": ["I1"], "waiting": False, "restarts": 3, "refused": 0, "problem": "",
        "told": ["192.168.1.3"], "sent": 5, "received": 0, "malformed": 0, "resent": 0,
    }  # fmt: skip
    page = render_status(STATUS | {"dhcp": dhcp}, 200)
    assert "2 leases, answered by I1, replicated to 192.168.1.3, restarts 3, sent 5" in page
    waiting = dhcp | {"leases": 0, "answering": [], "waiting": True, "told": [], "problem": "exit status 3"}
    page = render_status(STATUS | {"dhcp": waiting}, 200)
    assert "no lease, silent, dnsmasq is to read leases, exit status 3, restarts 3" in page
    assert "dhcp" not in render_status(STATUS, 200)
