# SPDX-License-Identifier: GPL-2.0-or-later
"""A simulated pair of routers with services: agents that fail, sessions that break, roles that move.

The truth is kept beside the routers' own view: a service runs on a router from the begin of its start to
the good end of its stop. No service with `where active` ever runs on two routers.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

from tandem.core.limits import ANSWER_LIMIT
from tandem.core.service import Operation, State
from tandem.core.service_claims import Word
from tandem.core.services import Action, Left, Place, Run, Services, Tell
from tandem.core.settings import Service
from tandem.core.timers import MILLISECOND, SECOND

DELAY_MAX = 40 * MILLISECOND  # of a message
GUARDIAN = 15 * SECOND  # until the guardian has stopped what ran, at most
BOOT = 20 * SECOND  # longer than a guardian takes: what was before, a new daemon cannot know
CLAIMED = 4 * SECOND  # the longest probe, and then a claim that was answered
DETECTION = 400 * MILLISECOND  # until a backup takes over from a router that is silent
Message = tuple[dict[str, Word], int, int, int]


class SimRouter:
    """One router: the machine, the truth about its services, and a shell that obeys."""

    def __init__(self, world: World, name: str, other: str) -> None:
        self.world = world
        self.name, self.other = name, other
        self.truth: set[str] = set()
        self.powered = False
        self.life = 0  # what belongs to an earlier life is ignored
        self.place = Place.NONE
        self.core: Services
        self.running: dict[str, tuple[Operation, int]] = {}
        self.following: dict[str, Operation] = {}
        self.acked = -1
        self.left: list[str | None] = []
        self.timer = (0, 0)

    def boot(self) -> None:
        """A new daemon that knows nothing; agents' truth stays what it is."""
        self.life += 1
        self.powered = True
        self.place = Place.NONE
        self.running, self.following, self.left = {}, {}, []
        self.core = Services(self.world.settings, [self.other], self.world.random.getrandbits(40))
        self.do(self.core.start(self.world.now))

    def die(self) -> None:
        """The daemon is gone, and its heartbeats stop."""
        self.life += 1
        life, other = self.life, self.world.routers[self.other]

        def missed() -> None:
            if self.life == life and other.powered:
                other.do(other.core.peer_died(self.name, self.world.now))

        self.world.at(self.world.now + DETECTION, missed)
        self.world.died_at = self.world.now
        self.powered = False
        self.place = Place.NONE

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Run(name, operation):
                    self.run(name, operation)
                case Tell():
                    self.send()
                case Left(group):
                    self.left.append(group)
        self.world.check()
        deadline = self.core.next_deadline()
        if self.powered and deadline is not None and (self.life, deadline) != self.timer:
            self.timer = self.life, deadline
            timer = self.timer
            self.world.at(max(deadline, self.world.now), lambda: self.due(timer))

    def due(self, timer: tuple[int, int]) -> None:
        if self.powered and self.timer == timer:
            self.timer = (0, 0)
            self.do(self.core.due(self.world.now))

    def run(self, name: str, operation: Operation) -> None:
        if name in self.running:
            self.following[name] = operation  # the shell ends the first one, and then runs this
            return
        number = next(self.world.numbers)
        self.running[name] = operation, number
        if operation is Operation.START:
            self.truth.add(name)
        life, takes = self.life, self.world.random.choice((1, 10, 200, 3000)) * MILLISECOND
        self.world.at(self.world.now + takes, lambda: self.end(name, operation, number, life))

    def end(self, name: str, operation: Operation, number: int, life: int) -> None:
        if life != self.life or self.running.get(name) != (operation, number):
            return
        del self.running[name]
        fails = self.world.random.random() < self.world.failing
        status = self.world.random.choice((1, -1, 5)) if fails else 0
        if operation is Operation.STOP:
            if not fails or self.world.random.random() < 0.3:
                self.truth.discard(name)
        elif operation in (Operation.MONITOR, Operation.PROBE) and status == 0:
            status = 0 if name in self.truth else 7
        elif operation is Operation.PROBE and status == 5 and name in self.truth:
            status = 1  # what runs is installed
        if (following := self.following.pop(name, None)) is not None:
            self.run(name, following)
        else:
            self.do(self.core.ended(name, operation, status, "", self.world.now))

    def send(self) -> None:
        if self.world.session:
            claims = self.core.claims
            self.acked = claims.ack(self.other)
            self.world.send(self.name, (dict(claims.words), claims.sequence, self.acked, claims.nonce))

    def receive(self, message: Message) -> None:
        if not self.powered:
            return
        words, sequence, ack, nonce = message
        self.do(self.core.heard(self.other, words, sequence, ack, nonce, self.world.now))
        if self.acked != sequence:
            self.send()

    def put(self, place: Place, handed_over: bool = False) -> None:
        self.place = place
        self.do(self.core.placed("G", place, self.world.now, handed_over))


class World:
    """Two routers, a session between them, and a clock."""

    def __init__(self, settings: list[Service], seed: int, failing: float) -> None:
        self.settings, self.failing = settings, failing
        self.random = random.Random(seed)
        self.now = 0
        self.numbers = count()
        self.session = False
        self.died_at = -SECOND  # when a router died last
        self.silent_at = -SECOND  # when a router took over from silence
        self._session_number = 0
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._wires: dict[str, deque[Message]] = {"A": deque(), "B": deque()}
        self.routers = {"A": SimRouter(self, "A", "B"), "B": SimRouter(self, "B", "A")}
        self.faults = 0
        self.ran = 0
        for router in self.routers.values():
            router.boot()
        self.connect()

    # The clock

    def at(self, when: int, what: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (when, next(self.numbers), what))

    def pass_time(self, ns: int) -> None:
        until = self.now + ns
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = until

    def check(self) -> None:
        for service in self.settings:
            where = [router.name for router in self.routers.values() if service.name in router.truth]
            assert service.where != "active" or len(where) < 2, f"{service.name} runs twice"
            self.ran += len(where)

    # The session

    def connect(self) -> None:
        if self.session or not all(router.powered for router in self.routers.values()):
            return
        self.session = True
        self._session_number += 1
        for router in self.routers.values():
            router.acked = -1
            router.do(router.core.connected(router.other, self.now))
            router.send()

    def disconnect(self, crashed: SimRouter | None = None) -> None:
        if self.session:
            self.session = False
            for wire in self._wires.values():
                wire.clear()
            for router in self.routers.values():
                if router.powered:
                    router.do(router.core.lost(router.other, crashed is self.routers[router.other], self.now))

    def ends(self) -> Callable[[], None]:
        """Return what ends the present session, and no later one."""
        number = self._session_number

        def end() -> None:
            if number == self._session_number:
                self.disconnect()

        return end

    def send(self, sender: str, message: Message) -> None:
        wire, number = self._wires[sender], self._session_number
        wire.append(message)
        receiver = self.routers[self.routers[sender].other]
        delay = self.random.randrange(DELAY_MAX)

        def arrive() -> None:  # in order, whatever the delays are
            if self.session and number == self._session_number and wire:
                receiver.receive(wire.popleft())

        self.at(self.now + delay, arrive)

    # Roles

    def active(self) -> SimRouter | None:
        return next((one for one in self.routers.values() if one.powered and one.place is Place.ACTIVE), None)

    def elect(self, handed_over: bool) -> None:
        """A router that lives takes the role, if nobody has it."""
        alive = [one for one in self.routers.values() if one.powered]
        if not handed_over:
            if self.now < self.died_at + DETECTION:
                self.at(self.died_at + DETECTION, lambda: self.elect(False))
                return
            # Two routers that live and lose all paths at once take each other for dead: they need a witness.
            self.connect()
            self.silent_at = self.now
        if alive and self.active() is None:
            taker = self.random.choice(alive)
            taker.put(Place.ACTIVE, handed_over)
            for other in alive:
                if other is not taker:
                    other.put(Place.BACKUP)

    def settle(self) -> None:
        """All faults are over: both live, one is active, and they talk."""
        self.failing = 0.0
        self.pass_time(6 * SECOND)  # sessions of dead routers end, split segments heal
        for router in self.routers.values():
            if not router.powered:
                router.truth.clear()
                router.boot()
        actives = [one for one in self.routers.values() if one.place is Place.ACTIVE]
        for one in actives:
            one.put(Place.ACTIVE if one is actives[0] else Place.BACKUP)
        self.connect()
        self.elect(handed_over=True)
        for one in self.routers.values():
            one.put(one.place)  # as the shell says after a departure
        for _ in range(4):
            for router in self.routers.values():
                for name, one in router.core.services.items():
                    router.do(router.core.disable(name, False, self.now))
                    if one.banned or one.failures or one.state is State.BLOCKED:
                        router.do(router.core.clear(name, self.now))
            self.pass_time(60 * SECOND)


def fault(world: World) -> None:
    """Let one fault happen."""
    dice, world.faults = world.random, world.faults + 1
    router = dice.choice(list(world.routers.values()))
    other = world.routers[router.other]
    match dice.choice(
        ("power", "power", "kill", "hand over", "hand over", "session", "split", "operator", "died")
    ):
        case "power" if router.powered:
            active = router.place is Place.ACTIVE
            router.die()
            router.truth.clear()
            if world.session and dice.random() < 0.5:  # the session ends only later
                world.at(world.now + 3 * SECOND, world.ends())
            else:
                world.disconnect()
            if active and other.powered:
                world.at(world.now + DETECTION, lambda: other.powered and world.elect(handed_over=False))
        case "power" | "kill" if not router.powered:
            world.pass_time(BOOT)
            world.disconnect()
            router.boot()
            world.connect()
            router.put(Place.BACKUP if world.active() else Place.NONE)
            world.at(world.now + DETECTION, lambda: world.elect(handed_over=False))
            world.pass_time(SECOND)
        case "kill" if router.powered:
            takes = GUARDIAN if world.session else DETECTION
            router.die()
            world.disconnect(crashed=router)
            # Without a session the other router does not learn of the crash.
            world.at(world.now + dice.randrange(takes), router.truth.clear)
            world.at(world.now + DETECTION, lambda: world.elect(handed_over=False))
        case "hand over" if router.place is Place.ACTIVE:
            router.put(Place.NONE)
            if other.powered:
                other.put(Place.ACTIVE, handed_over=True)
                router.put(Place.BACKUP)
        case "session":
            if dice.random() < 0.5:
                world.connect()
            elif world.now - world.silent_at >= CLAIMED:
                world.disconnect()
        case "split" if world.session and other.place is Place.BACKUP and other.powered and router.powered:
            # The segment is broken, but not the channel; whoever was active stays so for some seconds.
            world.silent_at = world.now
            other.put(Place.ACTIVE, handed_over=False)
            world.at(world.now + 5 * SECOND, lambda: _heal(world))
        case "operator" if router.powered:
            name = dice.choice(world.settings).name
            safe = name not in other.truth or world.session
            if dice.random() < 0.6 and safe:
                router.do(router.core.clear(name, world.now))
            elif dice.random() < 0.5:
                router.do(router.core.leave("G", world.now))
            else:
                router.do(router.core.disable(name, dice.random() < 0.4, world.now))
        case "died" if router.powered and router.truth:
            name = dice.choice(sorted(router.truth))
            if router.core.services[name].up:
                router.do(router.core.died(name, "", world.now))
    world.check()
    world.pass_time(dice.choice((0, 1, 20, 300, 2000, 10_000)) * MILLISECOND)


def _heal(world: World) -> None:
    actives = [one for one in world.routers.values() if one.powered and one.place is Place.ACTIVE]
    for one in actives[1:]:
        one.put(Place.BACKUP)


assert 2 * DELAY_MAX < ANSWER_LIMIT, "what the module promises only then"
