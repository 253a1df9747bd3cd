# SPDX-License-Identifier: GPL-2.0-or-later
"""Hypothesis profiles, the rule about who may make namespaces, and logs in the report of a failure.

`HYPOTHESIS_PROFILE=hunt` looks for new counter-examples for as long as it takes; the default, `gate`,
is small and always the same, so that CI never fails by chance.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import lab as laboratory

settings.register_profile(
    "gate", derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("hunt", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

# A shell starts what it puts into the background with SIGINT and SIGQUIT ignored, and so would be every
# program that a test starts and ends by them. A handler becomes the default in a new program.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

_NEEDS_ROOT = ("chaos", "netns", "interop", "openwrt", "packaging", "luci")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in namespaces are skipped without root: `make test` runs as root and skips none."""
    if os.geteuid() == 0:
        return
    for item in items:
        if any(part in item.path.parts for part in _NEEDS_ROOT):
            item.add_marker(pytest.mark.skip(reason="needs root for network namespaces"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the daemons' logs of every lab that is still open to the report of a failed test."""
    report = yield
    if report.failed:
        for lab in laboratory.OPEN:
            report.sections.append((f"logs of {lab.prefix}", lab.logs()))
    return report


@pytest.fixture
def open_lab() -> Iterator[Callable[[Any], Any]]:
    """Builds a declared lab and keeps it open until the test is over, so that a failure shows its logs."""
    with ExitStack() as stack:
        yield lambda lab: stack.enter_context(lab).up()
