# SPDX-License-Identifier: GPL-2.0-or-later
"""A restart of dnsmasq is never broken off, and there are never two: with real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.dhcp.restart import Restarts
from tandem.effects.process import Exit
from tests.unit.children import SECOND, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def restart(path: Path, word: str) -> tuple[str, ...]:
    """A command that takes a moment, and would leave nothing behind if it was killed in it."""
    script = f"echo begin {word} >>{path}; while ! [ -e {path}.go ]; do sleep 0.02; done"
    return ("/bin/sh", "-c", f"{script}; echo end {word} >>{path}")


def test_one_that_is_wanted_meanwhile_comes_after_it(bench: Bench, tmp_path: Path) -> None:
    done = tmp_path / "done"
    dnsmasq = Restarts(bench.loop, bench.log)
    ends: list[tuple[str, Exit]] = []
    for word in ("first", "replaced", "last"):
        assert dnsmasq.run(restart(done, word), 30 * SECOND, lambda result, w=word: ends.append((w, result)))
    bench.run_until(done.exists)
    finished: list[bool] = []
    dnsmasq.finish(lambda: finished.append(True))
    assert not finished
    (tmp_path / "done.go").touch()
    bench.run_until(lambda: finished)
    assert done.read_text().split("\n") == ["begin first", "end first", "begin last", "end last", ""]
    assert [(word, result.ok) for word, result in ends] == [("first", True), ("last", True)]


def test_with_nothing_to_wait_for_it_is_finished_at_once(bench: Bench) -> None:
    dnsmasq = Restarts(bench.loop, bench.log)
    finished: list[bool] = []
    dnsmasq.finish(lambda: finished.append(True))
    assert finished == [True]
    dnsmasq.run(("/bin/true",), SECOND, lambda _result: None)
    dnsmasq.finish(lambda: finished.append(True))
    assert finished == [True], "the restart still runs"
    bench.run_until(lambda: len(finished) == 2)


def test_nobody_has_to_wait_for_a_restart(bench: Bench) -> None:
    dnsmasq = Restarts(bench.loop, bench.log)
    ends: list[Exit] = []
    for number in (1, 2):
        assert dnsmasq.run(("/bin/true",), 30 * SECOND, ends.append)
        bench.run_until(lambda number=number: len(ends) == number)
    finished: list[bool] = []
    dnsmasq.finish(lambda: finished.append(True))
    assert finished == [True] and not bench.sink.lines
