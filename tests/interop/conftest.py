# SPDX-License-Identifier: GPL-2.0-or-later
"""`-m "not slow"` leaves out what takes more than about 5 s a test."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker."""
    config.addinivalue_line("markers", "slow: whole seconds between adverts, or many failovers in a row")
