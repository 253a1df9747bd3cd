# SPDX-License-Identifier: GPL-2.0-or-later
"""CI names the tests that fail once, and more than two of them fail the run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

FLAKY = Path(__file__).parents[2] / ".ci/flaky"


def flaky(tmp_path: Path, first: list[str], second: list[str] | None) -> tuple[int, list[str]]:
    """Exit status and lines, for the tests that failed in the first and the second run."""
    for name, tests in (("first", first), ("second", second)):
        if tests is not None:  # as pytest writes its cache
            (tmp_path / name).write_text(json.dumps(dict.fromkeys(tests, True), indent=2, sort_keys=True))
    done = subprocess.run(
        [FLAKY, tmp_path / "first", tmp_path / "second"], capture_output=True, text=True, env={}
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("second", [[], None], ids=["an empty list", "no list"])
def test_two_are_named(tmp_path: Path, second: list[str] | None) -> None:
    assert flaky(tmp_path, ["a.py::b", "a.py::c[x y]"], second) == (
        0,
        ["flaky: a.py::b", "flaky: a.py::c[x y]"],
    )


def test_three_fail(tmp_path: Path) -> None:
    status, lines = flaky(tmp_path, ["a", "b", "c"], [])
    assert status == 1 and lines == [
        "flaky: a", "flaky: b", "flaky: c", "3 flaky tests: more than two are a failure",
    ]  # fmt: skip


def test_what_fails_twice_is_not_flaky(tmp_path: Path) -> None:
    assert flaky(tmp_path, ["a.b", "axb", "c"], ["a.b", "c"]) == (0, ["flaky: axb"])
    assert flaky(tmp_path, ["a", "b", "c"], ["a", "b", "c"]) == (0, [])
    assert flaky(tmp_path, [], []) == (0, [])


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    assert flaky(tmp_path, ["a[.]"], ["a[x]"]) == (0, ["flaky: a[.]"])
