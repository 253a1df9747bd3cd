# SPDX-License-Identifier: GPL-2.0-or-later
"""The marker of slow tests: `-m "not slow"` leaves out those that take more than about 5 s."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Register our marker."""
    config.addinivalue_line("markers", "slow: whole seconds between adverts, or many failovers in a row")
