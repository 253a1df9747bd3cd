# SPDX-License-Identifier: GPL-2.0-or-later
"""The history of transitions, and the file that keeps it over a restart."""

from __future__ import annotations

import json

import pytest

from tandem.control import history as module
from tandem.control.history import LENGTH, SIZE_MAX, History, entry
from tandem.core.actions import Cause, Course, GroupTransition, Transition

SECOND = 1_000_000_000
MS = 1_000_000
BOOT = "8c6f0c5e"
NO_TIMES = dict.fromkeys(("detection_ms", "restore_ms", "address_ms", "announce_ms", "connections"))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def kept() -> History:
    history = History()
    started = Transition("I1", "BACKUP", 100, "started", None, "start")
    history.note(entry(started, "G1", 0, 0), 10 * SECOND)
    history.note(entry(GroupTransition("G1", "BACKUP"), "G1", 0, 0), 12 * SECOND)
    return history


def test_times_are_reckoned_from_the_clock_of_now(clock: list[float]) -> None:
    history = kept()
    assert [entry["time"] for entry in history.entries(20 * SECOND)] == [999_990.0, 999_992.0]
    clock[0] = 2_000_000.0
    first, second = history.entries(20 * SECOND)
    assert first == {
        "time": 1_999_990.0,
        "state": "BACKUP",
        "kind": "instance",
        "name": "I1",
        "priority": 100,
        "why": "started",
        "group": "G1",
        "seen": "start",
        **NO_TIMES,
    }
    assert (second["kind"], second["name"], second["priority"], second["why"]) == ("group", "G1", 0, "")


def test_the_last_hundred_are_kept() -> None:
    history = History()
    for number in range(105):
        history.note(entry(GroupTransition("", "BACKUP"), f"G{number}", 0, 0), number)
    assert [found["name"] for found in history.entries(200)] == [f"G{number}" for number in range(5, 105)]


def test_durations_have_hundredths_of_a_millisecond() -> None:
    course = Course(2_345_678, heard=1_111_111)
    found = entry(Transition("I1", "MASTER", 100, "", None, "advert", course), "G1", 2_355_000, 2_400_000)
    assert [found[name] for name in ("detection_ms", "address_ms", "announce_ms")] == [1.23, 0.01, 0.05]


def test_the_router_that_was_the_cause_is_named() -> None:
    cause = Cause(bytes((192, 168, 1, 3)), 101, 150)
    better = Transition("I1", "BACKUP", 100, "a better router is active", cause)
    assert module.reason(better) == "a better router is active: 192.168.1.3, priority 101, interval 1.5 s"


def test_a_restart_keeps_it(clock: list[float]) -> None:
    data = kept().text(BOOT, 20 * SECOND)
    clock[0] = 2_000_000.0  # the clock has been set meanwhile
    later = History()
    later.take(data, BOOT)
    later.note(entry(Transition("I1", "MASTER", 100, ""), "G1", 0, 0), 30 * SECOND)
    assert [(entry["time"], entry["state"]) for entry in later.entries(30 * SECOND)] == [
        (1_999_980.0, "BACKUP"),
        (1_999_982.0, "BACKUP"),
        (2_000_000.0, "MASTER"),
    ]


def test_a_reboot_keeps_the_time_of_day(clock: list[float]) -> None:
    data = kept().text(BOOT, 20 * SECOND)
    clock[0] = 3_000_000.0
    later = History()
    later.take(data, "another")
    again = History()
    again.take(later.text("another", 5 * SECOND), "another")
    assert [entry["time"] for entry in again.entries(5 * SECOND)] == [999_990.0, 999_992.0]


def test_it_is_bounded() -> None:
    history = History()
    for number in range(LENGTH + 5):
        long = Transition("x" * 64, "BACKUP", number, "y" * 1000)
        history.note(entry(long, "x" * 64, 0, 0), number)
    data = history.text(BOOT, 0)
    assert len(data) < SIZE_MAX
    history.take(data, BOOT)
    found = history.entries(0)
    assert (len(found), found[0]["priority"]) == (LENGTH, 5)


@pytest.mark.parametrize(
    ("course", "installed", "announced", "expected"),
    [
        (None, 9 * SECOND, 9 * SECOND, {}),
        (
            Course(8 * SECOND, 5 * SECOND, 8 * SECOND + 4 * MS, 1234),
            8 * SECOND + 5 * MS,
            8 * SECOND + 6 * MS,
            {"detection_ms": 3000, "restore_ms": 4, "address_ms": 5, "announce_ms": 6, "connections": 1234},
        ),
        (Course(8 * SECOND), 8 * SECOND + MS, 7 * SECOND, {"address_ms": 1}),  # nobody was told yet
    ],
)
def test_the_course_of_a_promotion(
    course: Course | None, installed: int, announced: int, expected: dict[str, float]
) -> None:
    found = entry(Transition("I1", "MASTER", 100, "", None, "advert", course), "G1", installed, announced)
    assert {name: found[name] for name in NO_TIMES} == NO_TIMES | expected  # type: ignore[literal-required]
    later = History()
    before = History()
    before.note(found, 0)
    later.take(before.text(BOOT, 0), BOOT)
    assert later.entries(0) == before.entries(0)


def test_a_file_of_an_earlier_release() -> None:
    history = History()
    old = {"time": 1.0, "kind": "instance", "name": "I1", "state": "MASTER", "priority": 9, "why": ""}
    data = json.dumps([1, "b", [[1, old]]]).encode()
    history.take(data, "b")
    assert history.entries(0)[0]["group"] == "I1"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'[2, "", []]',
        b'[1, "", [1]]',
        b'[1, "", [[1, {}]]]',
        b"[" * 9999,
        b'[1, "8c6f0c5e", [["x", {}]]]',
        b'[1, "", [[1, []]]]',
    ],
)
def test_a_file_of_something_else(data: bytes) -> None:
    history = kept()
    with pytest.raises(ValueError):
        history.take(data, BOOT)
    assert len(history.entries(0)) == 2
