# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of several tests on the real kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import netns


@pytest.fixture
def where() -> Iterator[str]:
    """A namespace with nothing but a conntrack table."""
    name = f"{netns.prefix('table')}only"
    netns.ip_batch([f"netns add {name}"])
    netns.write_sysctls(name, {"netfilter/nf_conntrack_events": 1})
    try:
        yield name
    finally:
        netns.remove([name])
