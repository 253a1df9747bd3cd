# SPDX-License-Identifier: GPL-2.0-or-later
"""One fault of each kind on a pair with services; `python -m tests.chaos.services` does more of them."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.services import running


def test_nothing_runs_twice(tmp_path: Path) -> None:
    with running(tmp_path, 1) as pair:
        pair.go(len(pair.faults))
