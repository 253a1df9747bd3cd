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


QUORUM = {
    "policy": "required", "expected_votes": 3, "quorum": 2, "witness": "third", "witness_answers": True,
    "leases": ["G1", "guest"], "hosts": {"gateway": True, "dns": False}, "lacking": {},
}  # fmt: skip


def test_a_quorum_is_told() -> None:
    page = render_status(STATUS | {"quorum": QUORUM}, 200)
    assert (
        "quorum     2 of 3 votes are needed, witness third answers, its vote is ours for G1 and guest,"
        " witness gateway answers, witness dns does not answer\n"
    ) in page
    alone = QUORUM | {"policy": "advisory", "witness_answers": False, "leases": [], "hosts": {}}
    page = render_status(STATUS | {"quorum": alone}, 200)
    assert "quorum     2 of 3 votes are needed, only advice, witness third does not answer\n" in page
    assert "quorum     2 of 3 votes are needed\n" in render_status(
        STATUS | {"quorum": QUORUM | {"witness": "", "hosts": {}}}, 200
    )


def test_a_network_that_follows_the_role_is_told() -> None:
    away = {
        "name": "wan", "group": "G1", "device": "td-wan", "port": "eth1", "state": "away",
        "address": "203.0.113.7/24", "prefixes": [], "lease_left_s": 3600.0, "problem": None,
    }  # fmt: skip
    prefix = away | {"address": None, "prefixes": ["2001:db8:1::/56"]}
    assert ", lease 2001:db8:1::/56 for 1 h 0 min, " in render_status(STATUS | {"follow": [prefix]}, 200)
    down = "wan        down, follows G1, lease 203.0.113.7/24 for 1 h 0 min, device td-wan on eth1\n"
    assert down in render_status(STATUS | {"follow": [away]}, 200)
    session = away | {"state": "taking", "lease_left_s": None}
    taking = "the session of the peer is negotiated anew, session with 203.0.113.7/24, device"
    assert taking in render_status(STATUS | {"follow": [session]}, 200)
    bound = away | {"state": "bound", "address": None, "device": None, "problem": "no lease"}
    assert "wan        up, no lease\n" in render_status(STATUS | {"follow": [bound]}, 200)


@pytest.mark.parametrize(("lacking", "noted"), [({"G1": "1 of 3 votes"}, True), ({}, False)])
def test_a_quorum_that_is_lacking_is_in_colour(lacking: dict[str, str], noted: bool) -> None:
    page = render_status(STATUS | {"quorum": QUORUM | {"lacking": lacking}}, 200, colour=True)
    assert ("\x1b[33m2 of 3 votes" in page) is noted and "2 of 3 votes" in page


def test_a_group_that_has_changed_too_often_says_for_how_long() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][0]["damped_s"] = 90.0
    row = "    damped     the role has changed too often, does not preempt for 1 min 30 s\n"
    assert row in render_short(status)


def test_a_stranger_is_told_beside_the_peer() -> None:
    status = copy.deepcopy(STATUS)
    status["instances"][0]["stranger"] = {
        "address": "192.168.1.9", "priority": 0, "interval_ms": 1000, "last_advert_s": None,
    }  # fmt: skip
    row = "    stranger   ignored, 192.168.1.9, priority 0 (resigned), every 1 s\n"
    assert row in render_status(status)


def test_a_standby_that_ends_with_the_daemon_says_so() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][1] |= {"standby_lasts": False, "standby_by": None}
    row = "standby    by command, since 2025-07-27 07:06:40, at most until the daemon ends, until:"
    assert row in render_status(status, 200)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ({"up": True, "up_s": 60.0, "rtt_ms": 1.26, "lost": 0}, "10.0.0.3 up for 1 min 0 s (1.3 ms)"),
        ({"up": True, "up_s": 60.0, "rtt_ms": None, "lost": 5}, "10.0.0.3 up for 1 min 0 s (5 lost)"),
        ({"up": True, "up_s": 60.0, "rtt_ms": None}, "10.0.0.3 up for 1 min 0 s,"),
        ({"received": 0}, "10.0.0.3 not heard,"),
    ],
)
def test_a_path_of_heartbeats(path: dict[str, Any], text: str) -> None:
    status = copy.deepcopy(STATUS)
    status["peers"][0]["heartbeats"]["paths"][1] |= path
    assert text in render_status(status, 200)


def test_a_dead_peer_and_timers_that_are_in_time() -> None:
    status = copy.deepcopy(STATUS)
    status["peers"][0]["heartbeats"] |= {"state": "dead", "last_failure": ""}
    status["scheduling"] |= {"late_count": 0, "turn_count": 0, "memory_locked": False, "heartbeat_ms": None}
    assert "\x1b[31mr2 dead" in render_status(status, 200, colour=True)
    page = render_status(status, 200)
    assert "last silence" not in page
    assert "scheduling FIFO 50, at most 34.6 ms late, longest turn 21.3 ms\n" in page
    assert "\n    late " not in page and "\n    turns " not in page


def test_a_problem_of_the_daemon_is_an_alarm() -> None:
    page = render_status(STATUS | {"health": {"netlink": ["refused", "late"]}}, colour=True)
    assert "\x1b[31mnetlink: refused, netlink: late\x1b[m" in page
