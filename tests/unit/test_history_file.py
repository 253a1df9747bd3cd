# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of the history: the one in memory at each change, the one on the disk seldom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.control import history_file as module
from tandem.control.history import History, entry
from tandem.control.history_file import FIRST_AFTER, PAUSE, SAVE_AFTER, HistoryFile
from tandem.core.actions import Transition


class Time:
    """A loop whose clock the test moves."""

    def __init__(self) -> None:
        self.at = 0
        self.calls: dict[Any, tuple[int, Callable[[int], None]]] = {}

    def now(self) -> int:
        return self.at

    def call_at(self, key: Any, when: int, callback: Callable[[int], None]) -> None:
        self.calls[key] = when, callback

    def advance(self, duration: int) -> None:
        until = self.at + duration
        while due := [(when, key) for key, (when, _) in self.calls.items() if when <= until]:
            self.at, key = min(due, key=lambda one: one[0])
            self.calls.pop(key)[1](self.at)
        self.at = until


class Disk:
    """Stands for every file on the disk, and counts the writes."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, int]] = []
        self.time = Time()

    def __call__(self, _loop: Time, _log: object, path: str) -> Any:
        self.path = path
        return self

    def write(self, data: bytes) -> None:
        Path(self.path).write_bytes(data)
        self.writes.append((Path(self.path).name, self.time.at))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(module, "SavedFile", disk)
    return disk


class Log:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str) -> None:
        self.lines.append(text)

    def limited(self, _key: object, _level: str, text: str) -> None:
        self.lines.append(text)


def started(disk: Disk, where: Path, lasting: bool = True) -> tuple[History, HistoryFile, Log]:
    history, log = History(), Log()
    path = str(where / "disk") if lasting else ""
    return history, HistoryFile(disk.time, log, history, str(where / "run"), path), log  # type: ignore[arg-type]


def change(history: History, file: HistoryFile, at: int) -> None:
    history.note(entry(Transition("I1", "BACKUP", 100, "started"), "I1", 0, 0), at)
    file.changed()


def test_many_changes_are_few_writes_to_the_disk(disk: Disk, tmp_path: Path) -> None:
    history, file, _ = started(disk, tmp_path)
    for _ in range(60):  # an hour, with a change each minute
        change(history, file, disk.time.at)
        disk.time.advance(60 * module.SECOND)
    assert disk.writes == [("disk", FIRST_AFTER + number * PAUSE) for number in range(6)]
    file.close()
    assert len(disk.writes) == 7, "what is not written yet is written at the end"
    file.close()
    assert len(disk.writes) == 7, "and nothing when nothing has changed"


@pytest.mark.parametrize("lost", [(), ("run",), ("run", "disk")])
def test_what_a_later_daemon_finds(disk: Disk, tmp_path: Path, lost: tuple[str, ...]) -> None:
    history, file, _ = started(disk, tmp_path)
    change(history, file, 0)
    disk.time.advance(FIRST_AFTER)
    change(history, file, FIRST_AFTER)
    disk.time.advance(SAVE_AFTER)
    for name in lost:  # a reboot loses the file in memory
        (tmp_path / name).unlink()
    later, _, log = started(disk, tmp_path)
    assert len(later) == 2 - len(lost) and not log.lines


def test_a_file_that_is_not_understood_does_not_hide_the_other(disk: Disk, tmp_path: Path) -> None:
    history, file, _ = started(disk, tmp_path)
    change(history, file, 0)
    disk.time.advance(FIRST_AFTER)
    (tmp_path / "run").write_bytes(b"{")
    later, _, log = started(disk, tmp_path)
    assert len(later) == 1
    assert len(log.lines) == 1 and str(tmp_path / "run") in log.lines[0]


def test_changes_of_a_moment_are_one_write_for_root_alone(disk: Disk, tmp_path: Path) -> None:
    history, file, _ = started(disk, tmp_path, lasting=False)
    change(history, file, 0)
    disk.time.advance(SAVE_AFTER - 1)
    assert not (tmp_path / "run").exists()
    disk.time.advance(1)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_named_and_nothing_else_is_lost(disk: Disk, tmp_path: Path) -> None:
    history, file, log = started(disk, tmp_path)
    (tmp_path / "run").mkdir()
    change(history, file, 0)
    disk.time.advance(FIRST_AFTER)
    assert log.lines == [f"{tmp_path / 'run'}: Is a directory"]
    assert [name for name, _ in disk.writes] == ["disk"]


def test_a_reload_names_another_file(disk: Disk, tmp_path: Path) -> None:
    history, file, _ = started(disk, tmp_path, lasting=False)
    change(history, file, 0)
    disk.time.advance(PAUSE)
    assert not disk.writes
    file.keep_in(str(tmp_path / "other"))
    disk.time.advance(FIRST_AFTER)
    assert [name for name, _ in disk.writes] == ["other"], "it has what happened before as well"
    file.keep_in("")
    change(history, file, disk.time.at)
    file.close()
    assert len(disk.writes) == 1
