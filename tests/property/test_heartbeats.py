# SPDX-License-Identifier: GPL-2.0-or-later
"""Routers with heartbeats on bad LANs: the dead are replaced, and nobody else is.

A LAN may lose everything, carry one way only or be split. As long as a cable between the routers works, one
router alone is active, also while the faults last.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.core.events import Failover, Resume, Standby
from tandem.core.settings import Garp, Instance
from tests.property.beating import INTERVAL, MISS, BeatingLan
from tests.property.lan import MILLISECOND, SECOND, Router

# Three adverts of 1 s with the skew, thrice: see test_election.py.
BOUND = 12 * SECOND
DEAD = (MISS + 2) * INTERVAL  # until a silence is seen: the limit, the phase of both routers


@dataclass(frozen=True)
class Fault:
    """A fault so long after the one before: a kind, routers, a LAN."""

    after: int
    kind: str
    router: int
    other: int
    lan: int


def simulation(seed: int, routers: int, lans: int, lateness: int = 0) -> BeatingLan:
    made = []
    for number in range(routers):
        instances = tuple(
            Instance(f"VI{lan}", f"eth{lan}", 51, 3, priority=200 - 50 * number, garp=Garp(delay_ms=0))
            for lan in range(lans)
        )
        sources = tuple(bytes((192, 168, lan, 9 - number)) for lan in range(lans))
        router = Router(number, instances, sources, plain=False)
        router.offset, router.lateness = number * 1_234_567, lateness
        made.append(router)
    return BeatingLan(made, lans, seed)


def apply(lan: BeatingLan, fault: Fault) -> None:
    router = lan.routers[fault.router % len(lan.routers)]
    other = lan.routers[fault.other % len(lan.routers)]
    wire = lan.wires[fault.lan % len(lan.wires)]
    if fault.kind == "off":
        lan.power_off(router)
    elif fault.kind == "on":
        lan.power_on(router)
    elif fault.kind == "failover":
        lan.tell(router, Failover())
    elif fault.kind == "deaf" and router is not other:
        wire.deaf |= {(other.number, router.number)}
    elif fault.kind == "split":
        wire.sides[router.number] = wire.sides.get(router.number, 0) ^ 1
    elif fault.kind == "loss":
        wire.loss = 0.3 if wire.loss == 0 else 1.0 if wire.loss < 1 else 0.0


def repair(lan: BeatingLan) -> None:
    for wire in lan.wires:
        wire.sides, wire.deaf, wire.loss = {}, frozenset(), 0.0
    for router in lan.routers:
        lan.power_on(router)
        lan.tell(router, Resume())


faults = st.lists(
    st.builds(
        Fault, st.integers(0, 3 * SECOND),
        st.sampled_from(("off", "on", "deaf", "split", "loss", "failover")),
        st.integers(0, 2), st.integers(0, 2), st.integers(0, 1),
    ),
    max_size=8,
)  # fmt: skip


@given(
    st.integers(0, 1 << 16), st.integers(2, 3), st.integers(1, 2), st.integers(0, 20 * MILLISECOND), faults
)
def test_one_router_is_active_while_faults_last_and_after_them(
    seed: int, routers: int, lans: int, lateness: int, orders: list[Fault]
) -> None:
    lan = simulation(seed, routers, lans, lateness)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(BOUND)
    off_at: dict[int, int] = {}
    for fault in orders:
        lan.run(lan.now + fault.after)
        apply(lan, fault)
        off_at |= {r.number: lan.now for r in lan.routers if not r.groups and r.number not in off_at}
    for repaired in (False, True):
        if repaired:
            repair(lan)
        lan.run(lan.now + BOUND)
        powered = any(router.groups for router in lan.routers)
        assert len(lan.active) == powered, f"active {lan.active}, repaired {repaired}"
        assert repaired is False or lan.active == [0], "the best one"
    for when, _, dead in lan.deaths:
        assert dead in off_at and when >= off_at[dead], "taken for dead, and was not"


@given(st.integers(0, 1 << 16), st.integers(2, 3), st.integers(0, SECOND))
def test_the_best_of_those_that_are_left_takes_over_before_vrrp_could(
    seed: int, routers: int, when: int
) -> None:
    lan = simulation(seed, routers, 2)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(BOUND + when)
    assert lan.active == [0]
    lan.power_off(lan.routers[0])
    changes = len(lan.changes)
    lan.run(lan.now + DEAD)
    assert lan.active == [1]
    assert {(number, state) for _, number, state in lan.changes[changes:]} == {(1, "MASTER")}


@settings(max_examples=40)
@given(
    st.integers(0, 1 << 16),
    st.integers(2, 3),
    st.integers(0, SECOND),
    st.integers(0, 20 * MILLISECOND),
    st.lists(st.sampled_from(("failover", "standby", "resume")), min_size=1, max_size=4),
)
def test_somebody_has_the_addresses_all_the_time_while_roles_are_handed_over(
    seed: int, routers: int, when: int, lateness: int, orders: list[str]
) -> None:
    """Preemption after `resume` is a hand-over, too."""
    lan = simulation(seed, routers, 2, lateness)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(BOUND + when)
    assert lan.active == [0]
    lan.bare.clear()
    for order in orders:
        ready = [router for router in lan.routers if not router.groups[0].group.standby]
        if order == "resume":
            lan.tell(
                next((router for router in lan.routers if router not in ready), lan.routers[0]), Resume()
            )
        elif len(ready) > 1:
            lan.tell(lan.routers[lan.active[0]], Failover() if order == "failover" else Standby())
        lan.run(lan.now + BOUND)
        assert len(lan.active) == 1
    assert lan.bare == []


@settings(max_examples=40)
@given(
    st.integers(0, 1 << 16),
    st.integers(2, 3),
    st.integers(0, 20 * MILLISECOND),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, SECOND)), min_size=1, max_size=6),
)
def test_the_router_with_the_fewest_faults_is_active(
    seed: int, routers: int, lateness: int, links: list[tuple[int, int, int]]
) -> None:
    """Links of two LANs go down and up. A router with neither can't be active; the others compare."""
    lan = simulation(seed, routers, 2, lateness)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(BOUND)
    for number, place, after in links:
        lan.run(lan.now + after)
        router = lan.routers[number % routers]
        lan.set_link(router, place, not router.links[place])
    lan.run(lan.now + BOUND)
    faults = {router.number: router.links.count(False) for router in lan.routers if any(router.links)}
    assert len(lan.active) == bool(faults)
    assert all(faults[number] == min(faults.values()) for number in lan.active)
    changes = len(lan.changes)
    lan.run(lan.now + BOUND)
    assert len(lan.changes) == changes, "nobody moves any more"
