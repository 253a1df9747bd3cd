# SPDX-License-Identifier: GPL-2.0-or-later
"""The pairs of routers that scenarios run on, by name; what can't be had here skips with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qemu import pairs
from qemu.pairs import MissingError
from qemu.router import Pair

LOGS = Path(__file__).resolve().parents[2] / "build/qemu/logs"

LAB = ["lab-x86_64", "lab-aarch64", "lab-armv7", "lab-s390x"]
OPENWRT = ["root-x86_64", "release-x86_64", "release-aarch64"]
MIXED = ["mixed-aarch64-x86_64", "mixed-armv7-x86_64", "mixed-s390x-x86_64"]  # r1 is the first


def make(name: str, request: pytest.FixtureRequest, **options: Any) -> Pair:
    """`pairs.pair`, with the feeds that tests build."""

    def feeds() -> Path:
        found: Path = request.getfixturevalue("router_feeds")
        return found

    with skipped():
        return pairs.pair(name, feeds, **options)


@contextmanager
def skipped() -> Iterator[None]:
    """Skips where the block finds that something is missing."""
    try:
        yield
    except MissingError as error:
        pytest.skip(str(error))


@contextmanager
def booted(name: str, lab: Pair) -> Iterator[Pair]:
    """The pair with both machines up; in the end their logs are in build/qemu/logs/NAME."""
    with lab.up():
        try:
            lab.boot()
            yield lab
        finally:
            for router in lab.routers:
                router.keep_logs(LOGS / name)


def on(*names: Any) -> pytest.MarkDecorator:
    """Runs a scenario on the standing pairs of these names; pytest does all of a pair before the next."""
    return pytest.mark.parametrize("_standing", names, indirect=True, scope="session")
