# SPDX-License-Identifier: GPL-2.0-or-later
"""A ubusd for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .ubusd import Ubusd


@pytest.fixture
def ubusd(tmp_path: Path) -> Iterator[Ubusd]:
    """A running ubusd."""
    daemon = Ubusd(tmp_path)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.close()
