# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of the chaos tests is reproduced by its seed, comes to every fault, and can always repair."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.faults import Faults
from tests.chaos.walk import FAULTS, LAN, TROUBLES_MAX, WAN, Walk, World

SEEDS = range(20)


def steps(seed: int, count: int = 300, compares: bool = False) -> list[str]:
    walk = Walk(seed, compares=compares)
    return [str(walk.next()) for _ in range(count)]


def test_a_seed_is_a_walk() -> None:
    assert steps(1) == steps(1) != steps(2)


def after(world: World, *steps: str) -> World:
    """Let the model follow steps: a fault, and perhaps a router and a port."""
    for step in steps:
        what = next(what for what in sorted(FAULTS, key=len, reverse=True) if step.startswith(what))
        where = step[len(what) :].split()
        router = next((one for one in world.routers if one.name in where), world.routers[0])
        FAULTS[what].effect(world, router, where[1] if len(where) > 1 else "")
        world.meet()
    return world


@pytest.mark.parametrize("compares", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_something_can_always_be_repaired(seed: int, compares: bool) -> None:
    walk, able = Walk(seed, compares=compares), 0
    for _ in range(300):
        walk.next()
        assert walk.world.troubles <= TROUBLES_MAX + 3, "both routers die at once"
        able += bool(walk.world.near)
    assert able > 150, "half of the time somebody serves the hosts"


def test_every_fault_comes() -> None:
    walks = [steps(seed, compares=compares) for seed in SEEDS for compares in (False, True)]
    found = Counter(step.rsplit(" r", 1)[0] for walk in walks for step in walk)
    assert {what for what in FAULTS if not any(step == what for step in found)} == set()
    assert [what for what in FAULTS if not hasattr(Faults, what.replace(" ", "_"))] == []


def test_routers_whose_split_heals_send_heartbeats_if_they_have_a_session() -> None:
    assert after(World(), "split", "respawn r2", "heal").beats
    assert not after(World(), "block", "split", "respawn r2", "heal").beats
    assert after(World(), "block", "split", "heal").beats, "those of the session that they had"
    assert not after(World(), "downgrade r2", "split", "heal").beats


def test_who_dies_alone_takes_the_connections_along() -> None:
    world = Walk(0).world
    first, second = world.routers
    FAULTS["power off"].effect(world, second, "")
    assert world.near == {"r1"} and world.served({"r1"})
    FAULTS["both die"].effect(world, first, "")
    assert world.near == set() and world.knows == set()
    FAULTS["power on"].effect(world, second, "")
    assert world.near == {"r2"} and not world.served({"r2"})


def test_a_split_has_an_active_router_on_each_side() -> None:
    world = Walk(0).world
    FAULTS["split"].effect(world, world.routers[0], "")
    assert (world.near, world.elections, world.in_step) == ({"r1"}, [{"r1"}, {"r2"}], False)
    assert world.served({"r1"}) and world.knows == {"r1"}
    FAULTS["heal"].effect(world, world.routers[0], "")
    assert world.near == {"r1", "r2"} and world.served({"r2"}), "they have exchanged their connections"


def test_a_router_that_has_started_within_a_split_exchanges_nothing() -> None:
    world = after(World(), "split", "reboot r1")
    world.opened({"r1"})
    assert after(world, "heal").knows == {"r1"}


def test_with_strict_a_router_without_a_cable_is_out() -> None:
    world = after(World(), f"cable out r1 {WAN}")
    assert world.elections == [{"r2"}]
    assert after(world, f"cable out r2 {WAN}").elections == []


def test_with_compare_the_role_stays_where_the_other_router_is_no_better() -> None:
    world = after(World(compares=True), "provider dies")
    assert world.elections == [{"r1", "r2"}] and world.forwarding == set()
    assert (world.answers(LAN, {"r1"}), world.answers(WAN, {"r1"})) == ({"r1"}, set())
    assert after(world, f"cable in r2 {WAN}").elections == [{"r2"}], "the better one"
    assert after(world, "standby r2").elections == [{"r1"}], "which leaves it to the other one"


def test_with_compare_a_router_without_the_channel_could_not_hear_of_a_better_one() -> None:
    world = after(World(compares=True), f"cable out r1 {WAN}", f"cable out r2 {LAN}")
    assert world.elections == [{"r1"}]
    assert after(world, f"cable in r2 {LAN}").elections == [{"r2"}]
    world = after(World(compares=True), f"cable out r2 {LAN}", "power off r1")
    assert world.elections == []
    assert after(world, "power on r1").elections == [{"r1"}]


def test_with_compare_a_router_that_has_met_nobody_is_out_in_its_faults() -> None:
    world = after(World(compares=True), "power off r2", "provider dies")
    assert world.elections == [{"r1"}], "it has met the one that died"
    assert after(world, "respawn r1").elections == []
    assert after(world, "power on r2").elections == [{"r1", "r2"}]


def test_a_full_table_of_a_backup_learns_no_connections() -> None:
    world = World()
    world.served({"r1"})
    assert after(world, "fill r2").knows == {"r1"}
    world.exchanged()
    assert world.knows == {"r1"}
    after(world, "drain r2").exchanged()
    assert world.knows == {"r1", "r2"}
