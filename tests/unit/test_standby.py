# SPDX-License-Identifier: GPL-2.0-or-later
"""Standby that lasts, and the file that keeps it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem.control import standby as module
from tandem.control.standby import Standby, parse, text
from tandem.effects.saved import SavedFile
from tandem.log import Logger
from tandem.loop import Loop


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, _level: str, line: str) -> bool:
        self.lines.append(line)
        return True


class Keeper:
    """A Standby on a file that is written at once."""

    def __init__(self, path: Path) -> None:
        self.sink = Lines()
        self.path = path
        self.writes = 0
        self.standby = Standby(str(path), Logger("info", self.sink), self.write)

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.path.write_bytes(data)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def test_it_outlives_the_daemon_until_its_end(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "standby"
    Keeper(path).standby.begin(["G1", "G2"], "root", once=False)
    clock[0] = 2000.0
    second = Keeper(path)
    assert "G1" in second.standby and "G3" not in second.standby
    assert second.standby.of("G1") == (1000, "root", True)
    second.standby.end(["G1"])
    assert second.standby.of("G1") == (None, None, False)
    third = Keeper(path)
    assert "G1" not in third.standby and "G2" in third.standby


def test_once_is_not_written(tmp_path: Path, clock: list[float]) -> None:
    first = Keeper(tmp_path / "standby")
    first.standby.begin(["G1"], "maria", once=True)
    assert first.standby.of("G1") == (1000, "maria", False) and "G1" in first.standby
    first.standby.end(["G1", "G2"])
    assert (first.writes, "G1" in first.standby) == (0, False)


def test_a_second_command_keeps_the_time_and_may_make_it_last(tmp_path: Path, clock: list[float]) -> None:
    first = Keeper(tmp_path / "standby")
    first.standby.begin(["G1"], "maria", once=True)
    clock[0] = 2000.0
    first.standby.begin(["G1"], "root", once=False)
    assert first.standby.of("G1") == (1000, "maria", True)
    first.standby.begin(["G1"], "root", once=True)
    first.standby.begin(["G1"], "root", once=False)
    assert first.standby.of("G1") == (1000, "maria", True)


def test_names_of_people_are_bounded(tmp_path: Path, clock: list[float]) -> None:
    keeper = Keeper(tmp_path / "standby")
    keeper.standby.begin(["G1"], "x" * 1000, once=False)
    assert keeper.standby.of("G1")[1] == "x" * 64
    assert parse(text({"G1": (1, "y" * 100)})) == {"G1": (1, "y" * 64)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[2, {}]",
        b'[1, {"G1": 5}]',
        b'[1, ["G1"]]',
        b"[" * 9999,
        b"\xff",
        b'[1, {"G": ["x", ""]}]',
    ],
)
def test_a_file_that_is_not_understood_is_no_standby(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "standby").write_bytes(data)
    keeper = Keeper(tmp_path / "standby")
    assert "G1" not in keeper.standby
    [line] = keeper.sink.lines
    assert "standby is not understood" in line and line.endswith("no group is put into standby")


# The file on a slow disk


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def until(loop: Loop, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        loop.turn(10_000_000)


def test_the_latest_content_is_what_stays(tmp_path: Path, loop: Loop) -> None:
    path = tmp_path / "new" / "file"
    saved = SavedFile(loop, Logger("info", Lines()), str(path))
    for number in range(20):
        saved.write(b"%d" % number)
    until(loop, lambda: path.exists() and path.read_bytes() == b"19")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    until(loop, lambda: not saved._child)
    assert os.listdir(path.parent) == ["file"]
    saved.write(b"again")
    until(loop, lambda: path.read_bytes() == b"again")


def test_a_disk_that_refuses_is_told(tmp_path: Path, loop: Loop) -> None:
    (tmp_path / "file").write_text("")
    sink = Lines()
    saved = SavedFile(loop, Logger("info", sink), str(tmp_path / "file" / "below"))
    saved.write(b"x")
    until(loop, lambda: sink.lines)
    assert sink.lines == [f"{tmp_path}/file/below can't be written: File exists"]
    assert not saved._child
