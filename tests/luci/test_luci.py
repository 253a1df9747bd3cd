# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's pages in LuCI, used by a browser: two tandemd behind them, and the real plugin of rpcd.

In front of them is LuCI itself, with the rpcd and the uhttpd of its root file system (`genuine`), where there
is one: that root's own LuCI, and each newer one whose sources are there. And everywhere a small stand-in for
LuCI (`standin`), which serves the same views. scenarios.mjs says what a person does, for all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.openwrt_pieces import LUCI, ROOT23, needs
from tests.openwrt_pieces import ROOT as PYTHON_ROOT
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
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of our packages."""
    return genuine.unpacked(tmp_path_factory.mktemp("packages"))


def _sources(release: str) -> Any:
    sources = LUCI / release
    return pytest.param(sources, id=release, marks=needs(sources / "modules/luci-base"))


@pytest.fixture(
    scope="module", params=[pytest.param(None, id="23.05"), *map(_sources, ("24.10", "25.12", "main"))]
)
def luci(request: pytest.FixtureRequest, packages: Path) -> Iterator[Results]:
    """The results of all scenarios with LuCI."""
    with Pair() as pair:
        pair.up().accept()
        for number, router in zip((2, 3), pair.routers, strict=True):
            genuine.boot(router, number, packages, request.param)
        genuine.services(pair)
        yield run(pair, "genuine", request.param.name if request.param else "23.05")


def run(pair: Pair, backend: str, release: str = "") -> Results:
    """Run the scenarios at the pair's desk."""
    shots = str(SHOTS / (release or backend)) if os.environ.get("TANDEM_SHOTS") else ""
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
