# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's pages in LuCI, used by a browser: two tandemd behind them, and the real plugin of rpcd.

In front of them is LuCI itself, with the rpcd and the uhttpd of its root file system (`genuine`), where there
is one; and everywhere a small stand-in for LuCI (`standin`), which serves the same views. scenarios.mjs says
what a person does, for both.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.openwrt_pieces import ROOT as PYTHON_ROOT
from tests.openwrt_pieces import ROOT23, needs
from tests.packaging.router_feeds import no_planner

from . import genuine
from .rig import HERE, ROOT, Pair

SCENARIOS = [
    line.split("'")[1]
    for line in (HERE / "scenarios.mjs").read_text().splitlines()
    if line.startswith("\tasync '")
]
SHOTS = ROOT / "build/luci"
TIMEOUT_S = 500
# All scenarios run in the set-up of the first test.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_S + 100)]

needs_browser = pytest.mark.skipif(
    not (HERE / "node_modules/playwright-core").exists() or not Path("/usr/bin/chromium").exists(),
    reason="no chromium, or no npm packages: `make luci` installs them",
)

Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def standin() -> Iterator[Results]:
    """The results of all scenarios with the stand-in for LuCI."""
    with Pair() as pair:
        pair.up().accept()
        pair.serve()
        yield run(pair, "standin")


@pytest.fixture(scope="module")
def luci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """The results of all scenarios with LuCI."""
    data = genuine.unpacked(tmp_path_factory.mktemp("packages"))
    with Pair() as pair:
        pair.up().accept()
        for number, router in zip((2, 3), pair.routers, strict=True):
            genuine.boot(router, number, data)
        genuine.services(pair)
        yield run(pair, "genuine")


def run(pair: Pair, backend: str) -> Results:
    """Run the scenarios at the pair's desk."""
    shots = str(SHOTS / backend) if os.environ.get("TANDEM_SHOTS") else ""
    browser = pair.browse(backend, shots, os.environ.get("TANDEM_ONLY", ""))
    log = pair.directory / "browser.log"
    with log.open("w") as errors:
        done = subprocess.run(
            ["ip", "netns", "exec", pair.desk.namespace, *browser],
            stdout=subprocess.PIPE, stderr=errors, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert found, log.read_text()
    return {one["name"]: one for one in found}


def check(results: Results, scenario: str) -> None:
    """Fail with what the browser said."""
    if os.environ.get("TANDEM_ONLY") and scenario not in results:
        pytest.skip("TANDEM_ONLY")
    result = results[scenario]
    print(json.dumps(result["figures"]))
    assert result["ok"], result["error"]


@needs_browser
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_a_stand_in_for_luci(standin: Results, scenario: str) -> None:
    check(standin, scenario)


@needs_browser
@needs(ROOT23 / "www/luci-static", PYTHON_ROOT / "usr/bin/python3")
@pytest.mark.skipif(no_planner() is not None, reason=str(no_planner()))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_with_luci(luci: Results, scenario: str) -> None:
    check(luci, scenario)
