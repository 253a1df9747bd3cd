# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of the chaos tests is reproduced by its seed, comes to every fault, and can always repair."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.walk import FAULTS, TROUBLES_MAX, Walk

SEEDS = range(20)


def steps(seed: int, count: int = 300) -> list[str]:
    walk = Walk(seed)
    return [str(walk.next()) for _ in range(count)]


def test_a_seed_is_a_walk() -> None:
    assert steps(1) == steps(1) != steps(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_something_can_always_be_repaired(seed: int) -> None:
    walk, able = Walk(seed), 0
    for _ in range(300):
        walk.next()
        assert walk.world.troubles <= TROUBLES_MAX + 3, "both routers die at once"
        able += bool(walk.world.near)
    assert able > 150, "half of the time somebody serves the hosts"


def test_every_fault_comes() -> None:
    found = Counter(step.rsplit(" r", 1)[0] for seed in SEEDS for step in steps(seed))
    assert {what for what in FAULTS if not any(step == what for step in found)} == set()


def test_who_dies_alone_takes_the_connections_along() -> None:
    world = Walk(0).world
    first, second = world.routers
    FAULTS["power off"].effect(world, second, "")
    assert world.near == {"r1"} and world.served("r1")
    FAULTS["both die"].effect(world, first, "")
    assert world.near == set() and world.knows == set()
    FAULTS["power on"].effect(world, second, "")
    assert world.near == {"r2"} and not world.served("r2")


def test_a_split_has_an_active_router_on_each_side() -> None:
    world = Walk(0).world
    FAULTS["split"].effect(world, world.routers[0], "")
    assert (world.near, world.far, world.in_step) == ({"r1"}, {"r2"}, False)
    assert world.served("r1") and world.knows == {"r1"}
    FAULTS["heal"].effect(world, world.routers[0], "")
    assert world.near == {"r1", "r2"} and world.served("r2"), "they have exchanged their connections"
