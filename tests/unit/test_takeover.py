# SPDX-License-Identifier: GPL-2.0-or-later
"""The file by which pppd goes on with a session: there for one start of pppd, and never for another."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

import pytest

from tandem.core.lease import Session
from tandem.core.open_session import READ_WITHIN, UP_WITHIN
from tandem.core.timers import SECOND
from tandem.follow import takeover as module
from tandem.follow.takeover import LOOK_EVERY, Takeover

CONCENTRATOR = "00:90:1a:aa:bb:cc"
SESSION = Session("wan", "02:1a:2b:3c:4d:5e", "203.0.113.7", CONCENTRATOR, 0x0707, True)
LISTED = f"Id       Address              Device\n00000707 {CONCENTRATOR}     wan0\n"


class Stage:
    """The loop, the log and the kernel's list of sessions."""

    def __init__(self) -> None:
        self.time = 0
        self.timer: tuple[int, Any] | None = None
        self.readers: dict[int, Any] = {}
        self.table = ""
        self.failures: list[bool] = []  # whether pppd was stuck
        self.log: list[str] = []

    def now(self) -> int:
        return self.time

    def call_at(self, _key: Any, when: int | None, callback: Any = None) -> None:
        self.timer = None if when is None else (when, callback)

    def add_reader(self, fd: int, callback: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def info(self, text: str) -> None:
        self.log.append(text)

    warning = info

    def limited(self, _key: Any, _level: str, text: str) -> None:
        self.log.append(text)

    def run(self, until: int) -> None:
        """Let time pass, with what the kernel has to say at first."""
        for fd in select.select(list(self.readers), [], [], 0)[0]:
            self.readers[fd]()
        while self.timer is not None and self.timer[0] <= until:
            (self.time, callback), self.timer = self.timer, None
            callback(self.time)
        self.time = until


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    made = Stage()
    monkeypatch.setattr(module, "PPPD", str(tmp_path))
    monkeypatch.setattr(module, "VOLATILE", str(tmp_path / "run"))
    monkeypatch.setattr(module, "kernel_sessions", lambda: made.table)
    return made


@pytest.fixture
def takeover(stage: Stage) -> Takeover:
    anything: Any = stage
    made = Takeover(anything, anything, "wan", "wan0", {"r2"}, stage.failures.append)
    made.prepare()
    made.prepare()
    assert made.problem is None
    return made


def read(tmp_path: Path) -> str | None:
    """What pppd finds; a file that is missing is no error for it."""
    try:
        return (tmp_path / "options.wan0").read_text()
    except FileNotFoundError:
        return None


def test_one_pppd_goes_on_with_the_session(stage: Stage, takeover: Takeover, tmp_path: Path) -> None:
    assert read(tmp_path) is None
    assert not takeover.begin(SESSION)
    options = read(tmp_path)
    assert options is not None and options.splitlines()[:2] == [
        f"rp_pppoe_sess 1799:{CONCENTRATOR}",
        "nopersist",
    ]
    assert (tmp_path / "run/wan0.session").stat().st_mode & 0o777 == 0o600
    stage.table = LISTED
    stage.run(SECOND)
    assert read(tmp_path) is None, "the next one dials"
    takeover.end()
    assert not stage.failures and not stage.readers and stage.timer is None


@pytest.mark.parametrize(
    ("table", "until", "stuck", "why"),
    [("", 2 * SECOND, False, "pppd has given up"), (LISTED, UP_WITHIN + SECOND, True, "goes on in vain")],
)
def test_a_concentrator_that_does_not_go_on(
    stage: Stage, takeover: Takeover, tmp_path: Path, table: str, until: int, stuck: bool, why: str
) -> None:
    takeover.begin(SESSION)
    read(tmp_path)
    stage.table = LISTED
    stage.run(2 * LOOK_EVERY)
    assert not stage.failures
    stage.table = table
    stage.run(until)
    assert stage.failures == [stuck]
    assert why in stage.log[-1] and stage.timer is None and not stage.readers


def test_pppd_that_does_not_start(stage: Stage, takeover: Takeover, tmp_path: Path) -> None:
    takeover.begin(SESSION)
    stage.run(READ_WITHIN)
    assert stage.failures == [False] and read(tmp_path) is None and not stage.readers


def test_a_role_that_comes_back_at_once_finds_its_own_pppd(
    stage: Stage, takeover: Takeover, tmp_path: Path
) -> None:
    stage.table = LISTED
    assert takeover.begin(SESSION)
    assert read(tmp_path) is None
    stage.run(SECOND)
    assert not stage.failures
    stage.table = ""
    stage.run(2 * SECOND)
    assert stage.failures == [False]


def test_a_file_that_cannot_be_written(stage: Stage, takeover: Takeover, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    takeover.begin(SESSION)
    stage.run(0)
    assert stage.failures == [False]


def test_a_file_of_a_daemon_that_died_is_not_used(stage: Stage, takeover: Takeover, tmp_path: Path) -> None:
    takeover.begin(SESSION)
    anything: Any = stage
    again = Takeover(anything, anything, "wan", "wan0", {"r2"}, stage.failures.append)
    again.prepare()
    assert again.problem is None and read(tmp_path) is None
    takeover.end()


def test_the_link_goes_with_the_option(takeover: Takeover, tmp_path: Path) -> None:
    assert os.path.lexists(tmp_path / "options.wan0")
    takeover.close()
    takeover.close()
    assert not os.path.lexists(tmp_path / "options.wan0")


def test_a_file_of_the_user_stays(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "options.wan0").write_text("debug\n")
    anything: Any = stage
    made = Takeover(anything, anything, "wan", "wan0", set(), stage.failures.append)
    made.prepare()
    assert "is another file" in str(made.problem)
    assert not made.ready
    made.close()
    assert read(tmp_path) == "debug\n"


def test_a_router_without_pppd(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PPPD", str(tmp_path / "ppp"))
    anything: Any = stage
    made = Takeover(anything, anything, "wan", "wan0", set(), stage.failures.append)
    made.prepare()
    assert "No such file or directory" in str(made.problem)
    made.close()
