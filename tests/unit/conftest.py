# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of several unit tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.children import Bench
from tests.unit.fake_daemon import FakeDaemon
from tests.unit.importing import Imported


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A loop with child processes, which end with the test."""
    bench = Bench()
    yield bench
    bench.processes.close()
    bench.loop.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A daemon that answers the command line."""
    daemon = FakeDaemon(tmp_path / "control.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times and widths are the same everywhere."""
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Imported:
    """A run of `tandem import` to be made."""
    return Imported(tmp_path, capsys)
