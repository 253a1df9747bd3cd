# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of the chaos tests on simulated networks: thousands of faults, the same audits after each.

The faults come at any moment, and what they do to kernels and programs is left to the real walk. The channel
goes over the LAN, as there. Here heartbeats begin without a session, and no connections are replicated.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.events import Failover, Resume, Standby, Stop
from tandem.core.settings import Garp, Instance
from tandem.core.state import Role
from tests.chaos import walk
from tests.chaos.walk import FAULTS, LAN, PORTS, Step
from tests.property.beating import BeatingLan
from tests.property.lan import MILLISECOND, SECOND, Router

INSTANCES = tuple(
    Instance(
        f"VI{lan}", f"eth{lan}", 51, 3, priority=101, advert_int_cs=10, preempt=False, garp=Garp(delay_ms=0)
    )
    for lan in range(len(PORTS))
)
SETTLED = 3 * SECOND  # several times the Active_Down_Interval
STEPS = 20
ABSENT = frozenset({"tiny", "roomy", "clock", "flood", "fill", "drain"})  # of the kernel and the programs


class Simulation(BeatingLan):
    """Two routers on two networks; a method for each step of the walk."""

    def __init__(self, seed: int, compares: bool, holds: bool, lateness: int) -> None:
        routers = [
            Router(
                number, INSTANCES, tuple(bytes((192, 168, lan, 2 + number)) for lan in (1, 0)), plain=False
            )
            for number in range(2)
        ]
        for router in routers:
            router.offset, router.lateness = router.number * 1_234_567, lateness
        super().__init__(routers, len(PORTS), seed, holds, compares)
        self.session = self.random.choice((0, 100 * MILLISECOND, SECOND))
        self.blocked = False
        self.standby: set[int] = set()
        for router in routers:
            self.power_on(router)

    def reaches(self, router: Router) -> bool:
        """The channel goes over the LAN."""
        return router.links[PORTS.index(LAN)]

    def names(self) -> set[str]:
        """The active routers that do not stand still."""
        found = [router for router in self.routers if router.backlog is None]
        return {f"r{router.number + 1}" for router in found if router.role(0) is Role.ACTIVE}

    def do(self, step: Step) -> None:
        """Do one step of the walk."""
        where = [self.routers[step.router == "r2"]] if step.router else []
        port = [PORTS.index(step.port)] if step.port else []
        getattr(self, f"do_{step.what.replace(' ', '_')}")(*where, *port)
        up = all(router.links[PORTS.index(LAN)] for router in self.routers)
        apart = self.blocked or any(wire.sides for wire in self.wires) or self.wires[PORTS.index(LAN)].deaf
        self.cables = {frozenset((0, 1))} if up and not apart else set()

    # The daemon

    def do_kill(self, router: Router) -> None:
        self.power_off(router)

    def do_stop(self, router: Router) -> None:
        self.tell(router, Stop())
        self.power_off(router)

    def do_start(self, router: Router) -> None:
        self.old.discard(router.number)
        self.power_on(router)
        if router.number in self.standby:  # it lasts
            self.tell(router, Standby())

    def do_respawn(self, router: Router) -> None:
        self.power_off(router)
        self.do_start(router)

    def do_upgrade(self, router: Router) -> None:
        self.do_stop(router)
        self.do_start(router)

    def do_downgrade(self, router: Router) -> None:
        self.do_stop(router)
        self.old.add(router.number)
        self.power_on(router)

    do_freeze = BeatingLan.freeze
    do_thaw = BeatingLan.thaw
    do_reload = BeatingLan.reload
    do_power_off = do_kill
    do_power_on = do_start
    do_reboot = do_respawn

    def do_both_die(self) -> None:
        for router in self.routers:
            self.power_off(router)

    def do_standby(self, router: Router) -> None:
        self.standby.add(router.number)
        self.tell(router, Standby())

    def do_resume(self, router: Router) -> None:
        self.standby.discard(router.number)
        self.tell(router, Resume())

    def do_failover(self, router: Router) -> None:
        self.tell(router, Failover())

    # The networks

    def do_cable_out(self, router: Router, port: int) -> None:
        self.set_link(router, port, False)

    def do_cable_in(self, router: Router, port: int) -> None:
        self.set_link(router, port, True)

    def do_provider_dies(self) -> None:
        for router in self.routers:
            self.set_link(router, 1, False)

    def do_deafen(self, router: Router, port: int) -> None:
        self.wires[port].silent |= {(1 - router.number, router.number)}

    def do_deafen_everywhere(self, router: Router) -> None:
        for port in range(len(PORTS)):
            self.do_deafen(router, port)

    def do_one_way(self, router: Router, port: int) -> None:
        self.wires[port].deaf |= {(1 - router.number, router.number)}

    def do_hear(self, router: Router, port: int) -> None:
        wire, heard = self.wires[port], {(1 - router.number, router.number)}
        wire.silent -= heard
        wire.deaf -= heard

    def do_split(self) -> None:
        for wire in self.wires:
            wire.sides = {1: 1}

    def do_heal(self) -> None:
        for wire in self.wires:
            wire.sides = {}

    def do_block(self) -> None:
        self.blocked = True

    def do_unblock(self) -> None:
        self.blocked = False


class World(walk.World):
    """The model, where heartbeats need no session."""

    def meet(self) -> None:
        if self.joined and all(one.alive and not one.old for one in self.routers):
            self.paired = True
            for one in self.routers:
                one.met = True


@pytest.mark.parametrize("lateness", [0, MILLISECOND, 20 * MILLISECOND])
@pytest.mark.parametrize("seed", range(8))
def test_a_split_that_heals_leaves_the_better_router_active(seed: int, lateness: int) -> None:
    """The first one had heard nobody when it started: it left the role, and the other one left it as well."""
    lan, moments = Simulation(seed, True, True, lateness), random.Random(seed)
    lan.run(SETTLED)
    for what in ("split", "heal"):
        lan.run(lan.now + moments.randrange(300 * MILLISECOND))
        lan.do(Step(what))
        end = lan.now + SETTLED
        while lan.now < end:
            lan.run(lan.now + MILLISECOND)
            assert lan.names() >= {"r2"} or what == "split", "the address that is higher decides"
    assert lan.names() == {"r2"}


@given(
    st.integers(0, 1 << 32), st.booleans(), st.booleans(), st.sampled_from((0, MILLISECOND, 20 * MILLISECOND))
)
def test_a_walk(seed: int, compares: bool, holds: bool, lateness: int) -> None:
    holds |= compares  # the model of `compare` knows no second active router, see tests/chaos/faults.py
    without = ABSENT if holds else ABSENT | {"deafen everywhere"}
    walked = walk.Walk(seed, without, compares)
    world = walked.world = World(compares)
    world.meet()
    lan, moments = Simulation(seed, compares, holds, lateness), random.Random(seed)
    done: list[str] = []
    lan.run(SETTLED)
    for _ in range(STEPS):
        able, before = world.near, set(lan.names())
        step = walked.next()
        done.append(str(step))
        lan.run(lan.now + moments.randrange(300 * MILLISECOND))
        lan.do(step)
        lan.run(lan.now + SETTLED)
        active = lan.names()
        explain = f"{active} active of {world.elections} after {done[-6:]}"
        assert active == active & set().union(*world.elections), explain
        assert all(len(active & election) == 1 for election in world.elections), explain
        keeps = before & able & world.near
        assert FAULTS[step.what].moves or keeps <= active, f"{keeps} could have kept the role: {explain}"
