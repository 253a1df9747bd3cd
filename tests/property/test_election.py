# SPDX-License-Identifier: GPL-2.0-or-later
"""Two to five routers on one to three bad LANs: when the faults stop, one of them is the gateway.

The bound. With `longest`, the longest Active_Down_Interval (3 intervals + skew) that any of the
routers has or learns, after the last fault the slowest way to the end is
  1. a restart with a startup delay, or a wait for an active that is gone: `longest`;
  2. the preempt delay of the best router, and the timer that its last followed advert set: `longest`;
  3. two that took over together and do not agree who is better: until the second LAN may decide
     because the first was silent, and the next advert there: `longest`.
So: startup delay + preempt delay + 3 * longest. (2 * longest held in 10,000 runs of `hunt`.)

Routers that replicate connections wait as well: to be in step before they preempt, and for each other when
two were active. Here nobody ever gets in step, but by chance, so that each waits as long as it may.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import example, given
from hypothesis import strategies as st

from tandem.core.events import Failover, Partner, Resume, Reunited, Standby
from tandem.core.limits import ANNOUNCE_LIMIT
from tandem.core.settings import Garp, Instance
from tandem.core.state import Role
from tandem.core.timers import CENTISECOND, active_down_interval
from tests.property.lan import MILLISECOND, SECOND, Lan, Router, Wire

WAITS = 3
STAYS = 10  # intervals without a change after the bound


@dataclass(frozen=True)
class Setup:
    """One router of a scenario."""

    priorities: tuple[int, ...]  # on each LAN
    interval_cs: int = 100
    preempt: bool = True
    preempt_delay_ms: int = 0
    initial_master: bool = False
    plain: bool = False
    offset: int = 0
    start_delay: int = 0


@dataclass(frozen=True)
class Fault:
    """A fault at `when` (ns): a kind, a router, a LAN and a number that says how bad."""

    when: int
    kind: str
    router: int
    lan: int
    amount: int = 0


@dataclass(frozen=True)
class Scenario:
    """All that makes a run; the same scenario is the same run to the nanosecond."""

    version: int
    routers: tuple[Setup, ...]
    ranks: tuple[tuple[int, ...], ...]  # for each LAN: the last octet of each router's address
    delays: tuple[tuple[int, int], ...] = ((20_000, 200_000),) * 3
    lateness: int = 0
    faults: tuple[Fault, ...] = field(default=())
    seed: int = 0
    dead: frozenset[int] = frozenset()  # never come back
    unplugged: frozenset[tuple[int, int]] = frozenset()  # links that stay down
    deaf: frozenset[tuple[int, int]] = frozenset()  # who does not hear whom on the first LAN, ever
    patience: int = 0  # ns, of routers that replicate; 0: they do not

    @property
    def longest(self) -> int:
        """The longest Active_Down_Interval in ns."""
        slowest = max(setup.interval_cs for setup in self.routers)
        return max(
            active_down_interval(self.version, priority, slowest)
            for r in self.routers
            for priority in r.priorities
        )

    @property
    def bound(self) -> int:
        """How long after the last fault one router is active, in ns."""
        start = max(setup.start_delay for setup in self.routers)
        preempt = max(setup.preempt_delay_ms for setup in self.routers) * MILLISECOND
        reunions = 2 * ANNOUNCE_LIMIT + self.patience if self.patience else 0
        return start + preempt + WAITS * self.longest + reunions

    @property
    def slowest(self) -> int:
        """The longest advertisement interval in ns."""
        return max(setup.interval_cs for setup in self.routers) * CENTISECOND


def build(scenario: Scenario) -> Lan:
    """Routers and LANs, powered off."""
    routers = []
    lans = len(scenario.ranks)
    for number, setup in enumerate(scenario.routers):
        instances = tuple(
            Instance(
                f"VI{lan}", f"eth{lan}", 51, scenario.version,
                priority=setup.priorities[lan], advert_int_cs=setup.interval_cs, preempt=setup.preempt,
                preempt_delay_ms=setup.preempt_delay_ms, initial_master=setup.initial_master,
                garp=Garp(delay_ms=700, refresh_ms=900 * (number % 2)),
            )
            for lan in range(lans)
        )  # fmt: skip
        sources = tuple(bytes((192, 168, lan, scenario.ranks[lan][number])) for lan in range(lans))
        router = Router(number, instances, sources, setup.plain)
        router.offset, router.start_delay = setup.offset, setup.start_delay
        router.lateness, router.patience = scenario.lateness, scenario.patience
        routers.append(router)
    lan = Lan(routers, lans, scenario.seed)
    for wire, delay in zip(lan.wires, scenario.delays, strict=False):
        wire.delay = delay
    lan.wires[0].deaf = scenario.deaf
    return lan


def inflict(lan: Lan, fault: Fault) -> None:
    """One fault."""
    router, wire = lan.routers[fault.router], lan.wires[fault.lan]
    match fault.kind:
        case "crash":
            lan.power_off(router)
        case "restart":
            lan.power_off(router)
            lan.power_on(router)
        case "link down":
            lan.set_link(router, fault.lan, False)
        case "link up":
            lan.set_link(router, fault.lan, True)
        case "partition":  # the bits of `amount` say who is on the other side
            wire.sides = {r.number: fault.amount >> r.number & 1 for r in lan.routers}
        case "heal":
            wire.sides = {}
        case "loss":
            wire.loss = fault.amount / 255
        case "duplicate":
            wire.duplicate = fault.amount / 255
        case "overtake":
            wire.overtake = True
            wire.delay = (wire.delay[0], wire.delay[1] + fault.amount * MILLISECOND)
        case "failover":
            lan.tell(router, Failover())
        case "standby":
            lan.tell(router, Standby())
        case "resume":
            lan.tell(router, Resume())
        case "partner":
            lan.tell(router, Partner(known=bool(fault.amount & 1), in_step=bool(fault.amount & 2)))
        case "reunited":
            lan.tell(router, Reunited())
        case _:
            raise ValueError(fault.kind)


KINDS = (
    "crash", "restart", "link down", "link up", "partition", "heal", "loss", "duplicate", "overtake",
    "failover", "standby", "resume", "partner", "reunited",
)  # fmt: skip


def play(scenario: Scenario) -> Lan:
    """Run the faults, stop them, and wait for the bound."""
    lan = build(scenario)
    for router in lan.routers:
        lan.power_on(router)
    end = 0
    for fault in sorted(scenario.faults, key=lambda fault: fault.when):
        lan.run(fault.when)
        inflict(lan, fault)
        end = fault.when
    lan.run(end + SECOND)  # what is on the way arrives, however late
    for wire, delay in zip(lan.wires, scenario.delays, strict=False):
        wire.delay, wire.loss, wire.duplicate, wire.overtake, wire.sides = delay, 0.0, 0.0, False, {}
    for router in lan.routers:
        if router.number in scenario.dead:
            lan.power_off(router)
            continue
        for number in range(len(lan.wires)):
            lan.set_link(router, number, (router.number, number) not in scenario.unplugged)
        lan.power_on(router)
        lan.tell(router, Resume())
    lan.run(lan.now + scenario.bound)
    return lan


def actives(lan: Lan, number: int) -> list[Router]:
    """The state of a LAN: its active routers."""
    return [router for router in lan.routers if router.role(number) is Role.ACTIVE]


def check_stays(lan: Lan, scenario: Scenario) -> None:
    """Nobody changes for ten more intervals."""
    seen = len(lan.changes)
    lan.run(lan.now + STAYS * scenario.slowest)
    assert lan.changes[seen:] == []


# Scenarios ------------------------------------------------------------------------------------


def _faults(routers: int, lans: int, span: int) -> st.SearchStrategy[tuple[Fault, ...]]:
    fault = st.builds(
        Fault,
        when=st.integers(0, span),
        kind=st.sampled_from(KINDS),
        router=st.integers(0, routers - 1),
        lan=st.integers(0, lans - 1),
        amount=st.integers(0, 255),
    )
    return st.lists(fault, max_size=12).map(tuple)


@st.composite
def scenarios(
    draw: st.DrawFn, plain: bool = False, nopreempt: bool = False, crossed: bool = False
) -> Scenario:
    """Any scenario. `plain`: some routers know no groups. `crossed`: no LAN agrees with another."""
    version = draw(st.sampled_from((2, 3)))
    count = draw(st.integers(2, 5 if not plain else 3))
    lans = draw(st.integers(2 if plain or crossed else 1, 3))
    same = draw(st.sampled_from((1, 10, 100)))
    setups = []
    for number in range(count):
        one = draw(st.integers(1, 254) if not crossed else st.sampled_from((100, 101)))
        each = st.tuples(*[st.integers(1, 254)] * lans)
        setups.append(
            Setup(
                priorities=draw(each) if crossed and draw(st.booleans()) else (one,) * lans,
                interval_cs=100 if version == 2 else same * draw(st.integers(1, 4)),
                preempt=not (nopreempt and draw(st.booleans())),
                preempt_delay_ms=draw(st.sampled_from((0, 0, 500, 3000))),
                initial_master=draw(st.booleans()),
                plain=plain and (number == 0 or draw(st.booleans())),
                offset=draw(st.integers(-(10**12), 10**15)),
                start_delay=draw(st.sampled_from((0, 0, 500 * MILLISECOND, 2 * SECOND))),
            )
        )
    ranks = tuple(tuple(draw(st.permutations(range(1, count + 1)))) for _ in range(lans))
    least = st.integers(1_000, MILLISECOND)
    delays = tuple(
        (low, low + draw(st.sampled_from((0, 100_000, MILLISECOND))))
        for low in draw(st.tuples(*[least] * lans))
    )
    slowest = max(setup.interval_cs for setup in setups) * CENTISECOND
    dead: frozenset[int] = frozenset()
    unplugged: frozenset[tuple[int, int]] = frozenset()
    if not plain:  # where all are in groups, some may be gone for good
        dead = frozenset(draw(st.sets(st.integers(0, count - 1), max_size=count - 1)))
        unplugged = frozenset(
            draw(st.sets(st.tuples(st.integers(1, count - 1), st.integers(0, lans - 1)), max_size=2))
        )
    return Scenario(
        version, tuple(setups), ranks, delays,
        draw(st.sampled_from((0, 50_000, MILLISECOND))),
        draw(_faults(count, lans, 12 * slowest)),
        draw(st.integers(0, 2**32)), dead, unplugged,
    )  # fmt: skip


def _check_one_gateway(lan: Lan, scenario: Scenario) -> Router | None:
    """Exactly one router is active, on every LAN, among those that can be."""
    eligible = [router for router in lan.routers if router.eligible]
    on_each = [actives(lan, number) for number in range(len(lan.wires))]
    assert all(len(who) == (1 if eligible else 0) for who in on_each), [
        [router.number for router in who] for who in on_each
    ]
    assert all(who == on_each[0] for who in on_each), "not the same router on every LAN"
    return on_each[0][0] if eligible else None


# Tests ----------------------------------------------------------------------------------------

CROSSED = Scenario(  # equal priorities, each the better one on one LAN, the first LAN the slower one
    3, (Setup((100, 100)),) * 2, ((2, 1), (1, 2)), ((500_000, 500_000), (100_000, 100_000))
)  # fmt: skip
INVERTED = Scenario(
    3, (Setup((100, 150)), Setup((150, 100))), ((2, 1), (2, 1)), ((500_000, 500_000), (100_000, 100_000))
)  # fmt: skip


@given(scenarios())
def test_the_best_router_becomes_the_gateway(scenario: Scenario) -> None:
    lan = play(scenario)
    gateway = _check_one_gateway(lan, scenario)
    if gateway is not None:
        eligible = [router.instances[0].priority for router in lan.routers if router.eligible]
        assert gateway.instances[0].priority == max(eligible)
    check_stays(lan, scenario)


@given(scenarios(), st.sampled_from((50 * MILLISECOND, SECOND, 7 * SECOND)))
def test_routers_that_replicate_and_never_meet_have_one_gateway(scenario: Scenario, patience: int) -> None:
    scenario = replace(scenario, patience=patience)
    lan = play(scenario)
    gateway = _check_one_gateway(lan, scenario)
    if gateway is not None:
        eligible = [router.instances[0].priority for router in lan.routers if router.eligible]
        assert gateway.instances[0].priority == max(eligible)
    check_stays(lan, scenario)


@given(scenarios(crossed=True), st.sampled_from((50 * MILLISECOND, SECOND, 7 * SECOND)))
@example(CROSSED, 7 * SECOND)
@example(INVERTED, 7 * SECOND)
def test_routers_that_replicate_on_lans_that_disagree(scenario: Scenario, patience: int) -> None:
    scenario = replace(scenario, patience=patience)
    lan = play(scenario)
    _check_one_gateway(lan, scenario)
    check_stays(lan, scenario)


@given(scenarios(plain=True), st.sampled_from((SECOND, 7 * SECOND)))
def test_routers_that_replicate_beside_each_other_without_groups(scenario: Scenario, patience: int) -> None:
    scenario = replace(scenario, patience=patience)
    lan = play(scenario)
    for number in range(len(lan.wires)):
        assert len(actives(lan, number)) == 1, [router.number for router in actives(lan, number)]
    check_stays(lan, scenario)


@given(scenarios(nopreempt=True))
def test_with_nopreempt_one_router_is_the_gateway(scenario: Scenario) -> None:
    lan = play(scenario)
    gateway = _check_one_gateway(lan, scenario)
    if gateway is not None:
        for router in lan.routers:
            if router.eligible and scenario.routers[router.number].preempt:
                assert router.instances[0].priority <= gateway.instances[0].priority
    check_stays(lan, scenario)


@given(scenarios(crossed=True))
@example(CROSSED)
@example(INVERTED)
def test_lans_that_disagree_who_is_better_agree_in_the_end(scenario: Scenario) -> None:
    lan = play(scenario)
    _check_one_gateway(lan, scenario)
    check_stays(lan, scenario)


ONE_WAY = Scenario(  # router 0 is the better one on the first LAN, where router 1 does not hear it
    3, (Setup((100, 100)),) * 2, ((2, 1), (1, 2)), seed=1,
    faults=(Fault(0, "partition", 0, 0, 1), Fault(0, "partition", 0, 1, 1)),
)  # fmt: skip


@given(scenarios(crossed=True), st.permutations((0, 1, 2, 3, 4)))
@example(ONE_WAY, [0, 1, 2, 3, 4])
@example(Scenario(2, (Setup((101,) * 3),) * 2, ((1, 2), (2, 1), (1, 2))), [1, 0, 2, 3, 4])  # in step
def test_of_a_lan_that_carries_one_way_only_one_router_is_the_gateway(
    scenario: Scenario, order: list[int]
) -> None:
    sender, receiver, *_ = [number for number in order if number < len(scenario.routers)]
    deaf = frozenset({(sender, receiver)})
    scenario = replace(scenario, dead=frozenset(), unplugged=frozenset(), deaf=deaf)
    lan = play(scenario)
    lan.run(lan.now + len(lan.wires) * scenario.longest)  # until who is not heard stops deciding
    _check_one_gateway(lan, scenario)
    check_stays(lan, scenario)


@given(scenarios(plain=True))
def test_beside_routers_without_groups_every_lan_has_one_gateway(scenario: Scenario) -> None:
    lan = play(scenario)
    for number in range(len(lan.wires)):
        assert len(actives(lan, number)) == 1, [router.number for router in actives(lan, number)]
    check_stays(lan, scenario)


@given(
    st.integers(2, 5),
    st.permutations((1, 2, 3, 4, 5)),
    st.sampled_from((2, 3)),
    st.integers(0, 50_000),
    st.integers(0),
)
def test_of_equal_routers_that_start_together_the_highest_address_wins(
    count: int, ranks: list[int], version: int, delay: int, seed: int
) -> None:
    rank = tuple(ranks[:count])
    scenario = Scenario(version, (Setup((100, 100)),) * count, (rank, rank), ((delay, delay),) * 2, seed=seed)
    lan = build(scenario)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(scenario.bound)
    gateway = _check_one_gateway(lan, scenario)
    assert gateway is not None and rank[gateway.number] == max(rank)
    check_stays(lan, scenario)


@given(st.integers(0, 2**32), st.sampled_from((10, 100)), st.integers(1, 3), st.integers(0, 2))
def test_a_failing_link_moves_the_whole_group_in_milliseconds(
    seed: int, interval_cs: int, lans: int, which: int
) -> None:
    setups = (Setup((150,) * lans, interval_cs), Setup((100,) * lans, interval_cs))
    scenario = Scenario(3, setups, ((2, 1),) * lans, seed=seed)
    lan = build(scenario)
    for router in lan.routers:
        lan.power_on(router)
    lan.run(10 * SECOND)
    assert actives(lan, 0) == [lan.routers[0]]
    lan.set_link(lan.routers[0], which % lans, False)
    lan.run(lan.now + 2 * MILLISECOND if lans > 1 else lan.now + scenario.bound)
    assert _check_one_gateway(lan, scenario) is lan.routers[1]


def test_the_simulation_is_deterministic() -> None:
    faults = (
        Fault(SECOND, "loss", 0, 0, 80),
        Fault(2 * SECOND, "partition", 0, 1, 5),
        Fault(9 * SECOND, "crash", 1, 0),
    )
    scenario = Scenario(
        3, (Setup((100, 100)), Setup((120, 120)), Setup((90, 90))), ((1, 2, 3), (3, 2, 1)), faults=faults
    )
    assert play(scenario).changes == play(scenario).changes != []


def test_the_simulation_loses_what_it_should() -> None:
    wire = Wire(loss=1.0)
    lan = build(Scenario(3, (Setup((100,)), Setup((120,))), ((1, 2),)))
    lan.wires[0] = wire
    for router in lan.routers:
        lan.power_on(router)
    lan.run(20 * SECOND)
    assert actives(lan, 0) == lan.routers, "two halves that hear nothing of each other"
