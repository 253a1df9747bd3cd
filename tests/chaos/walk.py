# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk: a model of two routers between a LAN and a WAN, and the fault that comes next. Pure and seeded.

The model knows which routers can be active, and which of them know the connections. From this follows what
must be so after each step: who answers, whether connections live on, and whether the role may have moved.

With `fault_policy strict` a router whose cable is out can't be active. With `compare` it can as long as the
other one, as its heartbeats say, is no better. Where it does not hear the other one, it must be able to hear
of one that comes back: the channel goes over the LAN.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

LAN, WAN = "br-lan", "eth0.2"
PORTS = (LAN, WAN)
TROUBLES_MAX = 3  # at the same time
REPAIRS = 0.5  # of the steps while something is broken
REPAIRS_DOWN = 0.8  # while no router can be active


@dataclass(slots=True)
class Router:
    """One router, as the walk has left it."""

    name: str
    powered: bool = True
    running: bool = True  # its daemon
    stopped: bool = False  # in good order, so that it has left nothing behind
    frozen: bool = False  # SIGSTOP
    standby: bool = False
    old: bool = False  # it runs an earlier release
    tiny: bool = False  # with buffers that overflow at once
    full: bool = False  # its kernel has no room for a connection more
    met: bool = False  # its daemon has heard heartbeats of the other one
    out: set[str] = field(default_factory=set)  # its cables that are unplugged
    deaf: set[str] = field(default_factory=set)  # where it hears no adverts
    lost: set[str] = field(default_factory=set)  # and nothing else of the other router, which hears this one

    @property
    def alive(self) -> bool:
        """Whether its daemon does something."""
        return self.powered and self.running and not self.frozen

    @property
    def troubles(self) -> int:
        """How many things are broken here."""
        single = (
            not self.powered, not self.running, self.frozen, self.standby, self.old, self.tiny, self.full
        )  # fmt: skip
        return sum(single) + len(self.out) + len(self.deaf)


class World:
    """Both routers and what lies between them. In a split the hosts are on the side of r1.

    `compares`: the fault policy is `compare`.
    """

    def __init__(self, compares: bool = False) -> None:
        self.compares = compares
        self.routers = (Router("r1"), Router("r2"))
        self.split = False
        self.blocked = False  # the channel
        self.knows = {"r1", "r2"}  # routers with all connections of the hosts
        self.active: set[str] = set()  # routers that serve the hosts
        self.paired = False  # these daemons have had a session, so that heartbeats go on without it
        self.meet()

    def able(self, one: Router) -> bool:
        """Whether a router can be active."""
        if not one.alive or one.standby:
            return False
        hears = self.talk or LAN not in one.out  # the other one, or would when it comes back
        if one.out and not (self.compares and one.met and hears and len(one.out) < len(PORTS)):
            return False
        other = _other(self, one)
        better = self.talk and not other.standby and len(other.out) < len(one.out)
        return not better

    @property
    def joined(self) -> bool:
        """Whether a segment connects the routers."""
        out = self.routers[0].out | self.routers[1].out
        return not self.split and len(out) < len(PORTS)

    @property
    def beats(self) -> bool:
        """Whether the routers send each other heartbeats: an earlier release does not."""
        return self.paired and not any(one.old for one in self.routers)

    @property
    def talk(self) -> bool:
        """Whether the routers hear each other's heartbeats."""
        return self.paired and self.joined and all(one.alive for one in self.routers)

    @property
    def near(self) -> set[str]:
        """The routers that may be active on the side of the hosts."""
        return {one.name for one in self.routers if self.able(one) and (one.name == "r1" or not self.split)}

    @property
    def forwarding(self) -> set[str]:
        """The routers that may be active there, and reach both networks."""
        return {one.name for one in self.routers if one.name in self.near and not one.out}

    @property
    def elections(self) -> list[set[str]]:
        """Sets of routers: exactly one of each is active, and no other router is."""
        able = [one.name for one in self.routers if self.able(one)]
        return [set(able)] if able and self.joined else [{name} for name in able]

    def answers(self, port: str, active: Iterable[str]) -> set[str]:
        """Return who answers the hosts on a segment when these routers are active."""
        plugged = {one.name for one in self.routers if port not in one.out}
        return self.near & plugged & set(active)

    @property
    def in_step(self) -> bool:
        """Whether the routers can exchange their connections: the channel goes over the LAN."""
        open_ = not (self.split or self.blocked or any(LAN in one.lost for one in self.routers))
        return open_ and all(one.alive and LAN not in one.out for one in self.routers)

    @property
    def troubles(self) -> int:
        """How many things are broken now."""
        return sum(one.troubles for one in self.routers) + self.split + self.blocked

    def served(self, active: set[str]) -> bool:
        """Note who serves the hosts now; return whether the hosts' connections must have lived on."""
        known = active <= self.knows
        self.active, self.knows = set(active), set(active) if known else set()
        return known

    def opened(self, active: set[str]) -> None:
        """The hosts have new connections, through this router."""
        self.knows = set(active)

    def exchanged(self) -> None:
        """The routers have exchanged their connections. A kernel that is full gets none."""
        self.knows |= {one.name for one in self.routers if self.knows and not one.full}

    def meet(self) -> None:
        """Both daemons have a session, if they can."""
        if self.in_step:
            self.paired = True
            for one in self.routers:
                one.met = True


@dataclass(frozen=True, slots=True)
class Step:
    """One fault or repair: what, and where."""

    what: str
    router: str = ""
    port: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.what, self.router, self.port)))


Test = Callable[[World, Router, str], bool]
Effect = Callable[[World, Router, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table: when a fault is possible, its effect on the model, and how often it is taken."""

    possible: Test
    effect: Effect
    weight: int = 1
    where: str = "router"  # or "port", or "world"
    repairs: bool = False
    moves: bool = False  # the role may move, though the active router could have kept it
    ends: bool = False  # a daemon ends


def _set(**values: bool) -> Effect:
    def effect(_world: World, router: Router, _port: str) -> None:
        for name, value in values.items():
            setattr(router, name, value)

    return effect


def _start(world: World, router: Router, _port: str = "") -> None:
    """A daemon of this release begins a new life."""
    router.running, router.stopped, router.old, router.met = True, False, False, False
    world.paired = False


def _world(**values: bool) -> Effect:
    def effect(world: World, _router: Router, _port: str) -> None:
        for name, value in values.items():
            setattr(world, name, value)

    return effect


def _lose(world: World, router: Router) -> None:
    router.powered = router.running = router.stopped = router.frozen = router.full = False
    world.knows.discard(router.name)


def _power_off(world: World, router: Router, _port: str) -> None:
    _lose(world, router)


def _power_on(world: World, router: Router, _port: str) -> None:
    router.powered = True
    _start(world, router)


def _reboot(world: World, router: Router, _port: str) -> None:
    _lose(world, router)
    _power_on(world, router, "")


def _both_die(world: World, _router: Router, _port: str) -> None:
    for router in world.routers:
        if router.powered:
            _lose(world, router)


def _heal(world: World, _router: Router, _port: str) -> None:
    """Two active routers that have been in step exchange their connections before one yields."""
    world.split, paired = False, world.paired
    world.meet()
    able = all(world.able(one) for one in world.routers)
    if paired and able and world.in_step and "r1" in world.knows:
        world.exchanged()


def _fill(world: World, router: Router, _port: str) -> None:
    """What came last may not be in a backup's kernel yet, and gets no room now."""
    router.full = True
    if router.name not in world.active:
        world.knows.discard(router.name)


def _provider_dies(world: World, _router: Router, _port: str) -> None:
    for router in world.routers:
        router.out.add(WAN)


def _other(world: World, router: Router) -> Router:
    return world.routers[1] if router is world.routers[0] else world.routers[0]


def _alive(_world: World, router: Router, _port: str) -> bool:
    return router.alive


def _replaceable(world: World) -> bool:
    """Whether a router may end, as it starts without heartbeats.

    A router that hears no advert at all is kept from a second active role by heartbeats alone. So is one that
    is deaf where another router is active in spite of its faults.
    """
    return not any(len(one.deaf) >= (1 if world.compares else len(PORTS)) for one in world.routers)


def _cut(_world: World, router: Router, port: str) -> None:
    router.out.add(port)


def _plugged(world: World, router: Router, port: str) -> bool:
    """Whether a cable can be unplugged: not the last one by which a router hears of a better one."""
    hears = not (world.compares and any(one.lost for one in world.routers))
    return hears and router.powered and port not in router.out


def _deafen(_world: World, router: Router, port: str) -> None:
    router.deaf.add(port)


def _lose_one_way(_world: World, router: Router, port: str) -> None:
    router.deaf.add(port)
    router.lost.add(port)


def _hear(_world: World, router: Router, port: str) -> None:
    router.deaf.discard(port)
    router.lost.discard(port)


def _one_way(world: World, router: Router, port: str) -> bool:
    return _hears(world, router, port) and not (world.compares and any(one.out for one in world.routers))


def _may_end(world: World, router: Router, _port: str) -> bool:
    return router.alive and _replaceable(world)


def _may_lose_power(world: World, router: Router, _port: str) -> bool:
    return router.powered and (not router.running or _may_end(world, router, ""))


def _one_may_end(world: World, _router: Router, _port: str) -> bool:
    return any(_may_end(world, one, "") for one in world.routers)


def _hears(world: World, router: Router, _port: str) -> bool:
    safe = world.in_step or not world.compares
    return safe and router.powered and not world.split and not any(one.deaf for one in world.routers)


def _beats(world: World, router: Router, _port: str) -> bool:
    """A router that hears no advert at all needs heartbeats, which an earlier release does not send."""
    return _hears(world, router, "") and world.in_step and not any(one.old for one in world.routers)


FAULTS: dict[str, Fault] = {
    "kill": Fault(_may_end, _set(running=False), 3, ends=True),
    "stop": Fault(_may_end, _set(running=False, stopped=True), 2, ends=True),
    "start": Fault(lambda _w, r, _p: r.powered and not r.running, _start, 4, repairs=True),
    "respawn": Fault(_may_end, _start, 2, moves=True, ends=True),
    "freeze": Fault(_may_end, _set(frozen=True), 2),
    "thaw": Fault(lambda _w, r, _p: r.frozen, _set(frozen=False), 4, repairs=True),
    "power off": Fault(_may_lose_power, _power_off, 3, ends=True),
    "both die": Fault(_one_may_end, _both_die, 1, "world", ends=True),
    "power on": Fault(lambda _w, r, _p: not r.powered, _power_on, 4, repairs=True),
    "reboot": Fault(_may_end, _reboot, 2, moves=True, ends=True),
    "cable out": Fault(_plugged, _cut, 2, "port"),
    "cable in": Fault(
        lambda _w, r, p: p in r.out, lambda _w, r, p: r.out.discard(p), 4, "port", repairs=True
    ),
    "provider dies": Fault(
        lambda w, _r, _p: w.compares and all(_plugged(w, r, WAN) for r in w.routers),
        _provider_dies, 3, "world", moves=True,  # who loses it last may have had the role for a moment
    ),
    "deafen": Fault(_hears, _deafen, 1, "port"),
    "one way": Fault(_one_way, _lose_one_way, 1, "port"),
    "deafen everywhere": Fault(_beats, lambda _w, r, _p: r.deaf.update(PORTS), 2),
    "hear": Fault(lambda _w, r, p: p in r.deaf, _hear, 4, "port", repairs=True),
    "split": Fault(
        lambda w, _r, _p: not w.split and not any(r.deaf for r in w.routers), _world(split=True), 3, "world"
    ),
    "heal": Fault(lambda w, _r, _p: w.split, _heal, 4, "world", repairs=True, moves=True),
    "block": Fault(
        lambda w, _r, _p: not w.blocked and w.routers[0].powered and _replaceable(w),
        _world(blocked=True),
        1,
        "world",
    ),
    "unblock": Fault(lambda w, _r, _p: w.blocked, _world(blocked=False), 4, "world", repairs=True),
    "standby": Fault(lambda _w, r, _p: r.alive and not r.old and not r.standby, _set(standby=True), 2),
    "resume": Fault(lambda _w, r, _p: r.alive and r.standby, _set(standby=False), 4, repairs=True),
    "failover": Fault(_alive, _set(), 2, moves=True),
    "reload": Fault(_alive, _set(), 2),
    "tiny": Fault(lambda _w, r, _p: r.alive and not r.old and not r.tiny, _set(tiny=True), 1),
    "roomy": Fault(lambda _w, r, _p: r.alive and r.tiny, _set(tiny=False), 4, repairs=True),
    "clock": Fault(_alive, _set(), 2),
    "flood": Fault(lambda w, _r, _p: bool(w.near), _set(), 2, "world"),
    # The kernel works so long at these that a router, which shares the processors, may stand still.
    "fill": Fault(lambda _w, r, _p: r.alive and not r.full, _fill, 1, moves=True),
    "drain": Fault(lambda _w, r, _p: r.powered and r.full, _set(full=False), 4, repairs=True, moves=True),
    "downgrade": Fault(
        lambda w, r, _p: _may_end(w, r, "") and not (w.compares or r.old or r.standby or r.tiny),
        _set(old=True), 1, moves=True, ends=True,
    ),
    "upgrade": Fault(lambda _w, r, _p: r.alive and r.old, _start, 4, repairs=True, moves=True),
}  # fmt: skip
ENDING = frozenset(what for what, fault in FAULTS.items() if fault.ends)


class Walk:
    """Steps without end; `without` names faults that this machine can't do.

    `compares`: the fault policy is `compare`, which needs a peer with heartbeats.
    """

    def __init__(self, seed: int, without: frozenset[str] = frozenset(), compares: bool = False) -> None:
        self.world = World(compares)
        self._random = random.Random(seed)
        self._without = without

    def next(self) -> Step:
        """Choose a step and let the model follow it."""
        found = list(self._possible())
        repairs = [row for row in found if FAULTS[row[0].what].repairs]
        faults = [row for row in found if not FAULTS[row[0].what].repairs]
        share = REPAIRS if self.world.near else REPAIRS_DOWN
        if repairs and (self.world.troubles >= TROUBLES_MAX or self._random.random() < share):
            faults = repairs
        weights = [FAULTS[step.what].weight for step, _, _ in faults]
        step, router, port = self._random.choices(faults, weights)[0]
        FAULTS[step.what].effect(self.world, router, port)
        self.world.meet()
        return step

    def _possible(self) -> Iterator[tuple[Step, Router, str]]:
        for what, fault in FAULTS.items():
            if what in self._without:
                continue
            for router in self.world.routers if fault.where != "world" else self.world.routers[:1]:
                for port in PORTS if fault.where == "port" else ("",):
                    if fault.possible(self.world, router, port):
                        name = router.name if fault.where != "world" else ""
                        yield Step(what, name, port), router, port
