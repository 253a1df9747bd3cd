# SPDX-License-Identifier: GPL-2.0-or-later
"""A ubusd for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .ubusd import FakeNetifd, Ubusd


@pytest.fixture
def ubusd(tmp_path: Path) -> Iterator[Ubusd]:
    """A running ubusd."""
    daemon = Ubusd(tmp_path)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def netifd(ubusd: Ubusd) -> Iterator[FakeNetifd]:
    """A stand-in for netifd on it."""
    fake = FakeNetifd(ubusd)
    fake.start()
    try:
        yield fake
    finally:
        fake.kill()
