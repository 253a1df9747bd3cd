# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager of services: real processes on a real loop, for what the tests in namespaces do not show."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem.core.settings import Service
from tandem.log import Logger
from tandem.loop import Loop
from tandem.services import agents
from tandem.services.manager import Manager
from tests.lab.log import Lines
from tests.lab.wait import wait_until

Make = Callable[..., Manager]


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


@pytest.fixture
def make(loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(agents, "TEMPORARY", str(tmp_path / "rsctmp"))
    made: list[Manager] = []

    def manager(*services: Service) -> Manager:
        one = Manager(loop, Logger("info", Lines()), services, (), "r1", 0, lambda *_: None, lambda *_: None)
        made.append(one)
        one.start()
        return one

    yield manager
    for one in made:
        left: list[bool] = []
        one.leave(None, lambda left=left: left.append(True))  # type: ignore[misc]
        until(loop, lambda left=left: bool(left))  # type: ignore[misc]
        one.close()
        until(loop, lambda one=one: not len(one._commands) + len(one._processes))  # type: ignore[misc]


def until(loop: Loop, condition: Callable[[], bool]) -> None:
    def turned() -> bool:
        loop.turn(5_000_000)
        return condition()

    wait_until(turned, 20, every=0)


def states(manager: Manager) -> dict[str, str]:
    return {one["name"]: one["state"] for one in manager.status()}


def test_a_command_runs_while_its_group_is_active(make: Make, loop: Loop, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {told}\nexec sleep 1000\n")
    program.chmod(0o755)
    manager = make(Service("one", command=(str(program),), group="G", monitor_interval_ms=0))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"} and told.exists() and bool(told.read_text()))
    pid = int(told.read_text())
    os.kill(pid, 0)
    manager.retire("G")
    until(loop, lambda: states(manager) == {"one": "stopped"})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_command_that_ends_says_what_it_printed(make: Make, loop: Loop) -> None:
    words = ("/bin/sh", "-c", "echo no such device >&2; exit 3")
    manager = make(Service("one", command=words, group="G", monitor_interval_ms=0, on_fail="block"))
    manager.serve("G", False)
    until(loop, lambda: bool(manager.health))
    assert manager.health[0].endswith("exit status 3: no such device")


def test_a_missing_agent_is_said_and_blocks_nobody(make: Make, loop: Loop) -> None:
    manager = make(Service("one", "ocf:nobody:nothing", group="G"))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    [one] = manager.status()
    assert one["banned"] and "can't be executed: No such file or directory" in one["failure"]


def test_everybody_who_asked_for_a_departure_hears_of_it(make: Make, loop: Loop) -> None:
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G", monitor_interval_ms=0))
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"})
    heard: list[str] = []
    manager.leave("G", lambda: heard.append("first"))
    manager.leave("G", lambda: heard.append("second"))
    until(loop, lambda: len(heard) == 2)
    assert states(manager) == {"one": "stopped"}


def test_unknown_services(make: Make) -> None:
    manager = make(Service("one", command=("/bin/true",), group="G"))
    for ask in (manager.clear, manager.group_of, lambda name: manager.disable(name, True)):
        with pytest.raises(ValueError, match="no service 'two'; known: one"):
            ask("two")
