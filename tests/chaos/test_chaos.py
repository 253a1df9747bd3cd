# SPDX-License-Identifier: GPL-2.0-or-later
"""150 faults in three walks; a failure names the seed: `make chaos SEED=` walks the same way again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import running
from tests.lab import release

FAULTS = 50


@pytest.mark.parametrize("seed", [1, 2, 4])  # see policies(): the defaults, strict, split
def test_a_walk_over_faults(seed: int, tmp_path: Path) -> None:
    with running(seed, release.unpack(tmp_path)) as run:
        run.go(FAULTS)
