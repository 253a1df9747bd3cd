# SPDX-License-Identifier: GPL-2.0-or-later
"""152 faults in four walks; a failure names the seed: `make chaos SEED=` walks the same way again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import policies
from tests.chaos.run import running
from tests.chaos.walk import FAULTS
from tests.lab import release

STEPS = 38
SEEDS = (141, 294, 188, 605)  # see policies(): the defaults, strict, split, lasting


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_over_faults(seed: int, tmp_path: Path) -> None:
    with running(seed, release.unpack(tmp_path)) as run:
        run.go(STEPS)


def test_the_walks_have_every_fault_and_all_policies() -> None:
    walks = [policies(seed).walk(seed) for seed in SEEDS]
    assert {walk.next().what for walk in walks for _ in range(STEPS)} == set(FAULTS)
    assert len({policies(seed)[:2] for seed in SEEDS}) == 3 and any(policies(seed).lasting for seed in SEEDS)


def test_a_seed_always_takes_the_same_steps() -> None:
    for seed in SEEDS:
        one, other = policies(seed).walk(seed), policies(seed).walk(seed)
        assert [one.next() for _ in range(300)] == [other.next() for _ in range(300)]
