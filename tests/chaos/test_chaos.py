# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks over faults; a failure names the seed: `make chaos SEED=` walks the same way again.

Their routers, all with real-time priority, have much to do at once. So these walks are in one file, of which
`make test` runs one test at a time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import line, run, services, three
from tests.chaos.faults import policies
from tests.chaos.walk import FAULTS
from tests.lab import LAN_GATEWAY, WAN_ADDRESS, release
from tests.netns.shared_line import SharedLine

STEPS = 30
SEEDS = (441, 378, 992, 605)  # see policies(): the defaults, strict, split, lasting


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_over_faults(seed: int, tmp_path: Path) -> None:
    """120 faults in four walks; with those of the other walks here there are more than 150."""
    with run.running(seed, release.unpack(tmp_path)) as walk:
        walk.go(STEPS)


def test_the_walks_have_every_fault_and_all_policies() -> None:
    walks = [policies(seed).walk(seed) for seed in SEEDS]
    assert {walk.next().what for walk in walks for _ in range(STEPS)} == set(FAULTS)
    assert len({policies(seed)[:2] for seed in SEEDS}) == 3 and any(policies(seed).lasting for seed in SEEDS)


def test_a_seed_always_takes_the_same_steps() -> None:
    for seed in SEEDS:
        one, other = policies(seed).walk(seed), policies(seed).walk(seed)
        assert [one.next() for _ in range(300)] == [other.next() for _ in range(300)]


def test_one_of_three_is_active_and_no_connection_ends() -> None:
    """`python -m tests.chaos.three` walks further."""
    with three.running(1) as walk:
        walk.go(24)


def test_a_second_active_router_of_three_is_found() -> None:
    with three.running(1) as walk:
        other = next(router for router in walk.lab.routers if not router.active)
        other.ip(f"address add {LAN_GATEWAY}/24 dev br-lan", f"address add {WAN_ADDRESS}/24 dev eth0.2")
        with pytest.raises(AssertionError, match=f"{other.name}.*active"):
            walk.audit()


def test_ten_failovers_and_reboots_on_a_shared_line() -> None:
    """Never do both routers speak with the MAC address of the line, and never neither for long.

    The same on genuine netifd, with IPv6: tests/openwrt/test_follow_ipv6.py.
    """
    with SharedLine().up() as lab:
        lab.start()
        line.walk(lab)


def test_no_service_runs_twice(tmp_path: Path) -> None:
    """One fault of each kind; `python -m tests.chaos.services` does more of them."""
    with services.running(tmp_path, 1) as pair:
        pair.go(len(pair.faults))
