# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers and their dnsmasq, played through: nobody gets an address that somebody else still has.

The clock, the channel, dnsmasq and its restarts are played; the lease files, and who still writes to
a file that was replaced, are real. The truth of this test is each client's belief about its address.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from unittest import mock

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tandem.config.schema import DhcpGateway
from tandem.dhcp import gateway as module
from tandem.dhcp.gateway import SECOND, Gateway
from tandem.effects.process import Exit
from tandem.log import Logger
from tandem.plan.result import LeasePlan
from tests.property.dhcp_stand_ins import Guard, Timers

NETWORK = {"I1": ((4, 0xC0A80100, 0xFFFFFF00),)}
POOL = [f"192.168.1.{number}" for number in range(1, 9)]
LEASE_TIME = 600
EPOCH = 1_700_000_000


class Time:
    """The monotonic time of both routers."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND


class Loop(Timers):
    """The timers of one router."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self.time = time

    def now(self) -> int:
        return self.time.now


class Dnsmasq:
    """Reads its file when it starts, writes it in place, and knows nothing else."""

    def __init__(self, path: Path, wall: Callable[[], int], changed: Callable[[], None]) -> None:
        path.touch()
        self.changed = changed  # what inotify tells
        self.file: IO[str] = path.open("r+")
        self.wall = wall
        self.leases: dict[str, tuple[int, str]] = {}  # address: when it ends, who has it
        for line in self.file.read().splitlines():
            ends, client, address, *_ = line.split()
            self.leases[address] = int(ends), client

    def request(self, client: str) -> str | None:
        """The address that a client gets, by a DISCOVER and a REQUEST, or None."""
        self.prune()  # dnsmasq looks at the time when there is a packet
        mine = [address for address, (_, who) in self.leases.items() if who == client]
        free = [address for address in POOL if address not in self.leases]
        address = next(iter(mine + free), None)
        if address is not None:
            self.leases[address] = self.wall() + LEASE_TIME, client
            self.write()
        return address

    def release(self, client: str) -> None:
        self.leases = {address: lease for address, lease in self.leases.items() if lease[1] != client}
        self.write()

    def prune(self) -> None:
        now = self.wall()
        if any(ends <= now for ends, _ in self.leases.values()):
            self.leases = {address: lease for address, lease in self.leases.items() if lease[0] > now}
            self.write()

    def write(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write("".join(f"{ends} {who} {a} * *\n" for a, (ends, who) in self.leases.items()))
        self.file.flush()
        self.changed()


class Silent:
    def write(self, level: str, line: str) -> bool:
        return True


class Router:
    """One router from boot to power loss."""

    def __init__(self, name: str, path: Path, time: Time, skew: int) -> None:
        self.name, self.path, self.time, self.skew = name, path, time, skew
        path.unlink(missing_ok=True)
        self.loop = Loop(time)
        self.guard = Guard()
        self.dnsmasq = Dnsmasq(path, self.wall, self.written)
        self.master = False
        self.pause = SECOND
        self.peer: Router | None = None
        plan = LeasePlan(str(path), (str(path.parent / f"{name}.conf"), "text"), None, (), NETWORK, {})
        settings = DhcpGateway(restart=("/restart",), restart_delay_ms=1000)
        log = Logger("error", Silent())
        self.gateway = Gateway(self.loop, log, settings, plan, self.guard, self)  # type: ignore[arg-type]
        self.call(lambda: self.gateway.start(()))
        self.gateway.exchange._channel = self  # type: ignore[assignment]

    def wall(self) -> int:
        return EPOCH + self.skew + self.time.now // SECOND

    def call(self, function: Callable[[], Any]) -> Any:
        with mock.patch.object(module.time, "time", self.wall):
            return function()

    # Stands for the restarts of dnsmasq.

    def run(self, argv: Any, timeout: int, on_exit: Callable[[Exit], None]) -> bool:
        def end(_now: int) -> None:
            self.dnsmasq = Dnsmasq(self.path, self.wall, self.written)
            on_exit(Exit(0, 0))

        self.loop.call_at("restart", self.time.now + self.pause, end)
        return True

    # Stands for the channel.

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        other = self.peer
        assert other is not None
        other.loop.call_at(  # after what was sent before, by its key
            ("arrives", self.time.now, len(other.loop.timers)),
            self.time.now + 1,
            lambda _now: other.gateway.exchange.received(self.name, data),
        )
        return True

    # Its clients

    @property
    def answers(self) -> bool:
        return self.master and "I1" not in self.guard.delayed

    def written(self) -> None:
        self.gateway._file._soon()


class Pair(RuleBasedStateMachine):
    """One MASTER at a time; routers reboot, clients come, renew, release and go."""

    @initialize(skew=st.integers(-5000, 5000))
    def begin(self, skew: int) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="tandem-dhcp-property-")
        self.time = Time()
        self.believed: dict[str, tuple[str, int]] = {}  # client: address, and until when, s
        self.routers = [self.boot("r1", 0), self.boot("r2", skew)]
        self.meet()
        self.advance(5)
        self.promote(0)

    def boot(self, name: str, skew: int) -> Router:
        return Router(name, Path(self.directory.name) / name, self.time, skew)

    def meet(self) -> None:
        one, other = self.routers
        one.peer, other.peer = other, one
        for router in self.routers:
            router.call(lambda router=router: router.gateway.exchange.peer_opened("peer"))

    def promote(self, number: int) -> None:
        for index, router in enumerate(self.routers):
            router.master = index == number
            state = "MASTER" if router.master else "BACKUP"
            router.call(lambda router=router, state=state: router.gateway.role("I1", state))

    def advance(self, seconds: float) -> None:
        until = self.time.now + int(seconds * SECOND)
        while True:
            due = [
                (when, n, key) for n, r in enumerate(self.routers) for key, (when, _) in r.loop.timers.items()
            ]
            if not due or (first := min(due, key=lambda item: item[:2]))[0] > until:
                break
            when, number, key = first
            router = self.routers[number]
            _, callback = router.loop.timers.pop(key)
            self.time.now = max(self.time.now, when)
            router.call(lambda callback=callback: callback(self.time.now))
            router.dnsmasq.prune()  # it does so by itself as well
        self.time.now = until

    @property
    def master(self) -> Router:
        return next(router for router in self.routers if router.master)

    @rule(client=st.integers(1, 6))
    def ask(self, client: int) -> None:
        if self.master.answers:
            mac = f"02:00:00:00:00:{client:02x}"
            address = self.master.dnsmasq.request(mac)
            if address is not None:
                self.believed[mac] = address, self.time.now // SECOND + LEASE_TIME
        self.advance(0.1)

    @rule(client=st.integers(1, 6))
    def release(self, client: int) -> None:
        mac = f"02:00:00:00:00:{client:02x}"
        if self.master.answers and mac in self.believed:
            del self.believed[mac]
            self.master.dnsmasq.release(mac)
        self.advance(0.1)

    @rule(seconds=st.sampled_from((0.1, 1.0, 4.0, 60.0, 290.0)))
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule()
    def hand_over(self) -> None:
        self.promote(self.routers.index(self.master) ^ 1)

    @rule(of_master=st.booleans(), skew=st.integers(-5000, 5000))
    def reboot(self, of_master: bool, skew: int) -> None:
        """The other takes over at once; the one that comes back finds an empty lease file."""
        at = self.routers.index(self.master)
        if of_master:
            self.promote(at ^ 1)
        else:
            at ^= 1
        self.routers[at].gateway.stop()
        self.routers[at] = self.boot(self.routers[at].name, skew)
        self.meet()
        self.advance(0.1)

    @rule(pause=st.sampled_from((0.2, 1.0, 3.0)))
    def restarts_take(self, pause: float) -> None:
        for router in self.routers:
            router.pause = int(pause * SECOND)

    @rule(seconds=st.sampled_from((-4000, 3000, 10**7)))
    def set_the_clock_of_the_backup(self, seconds: int) -> None:
        next(router for router in self.routers if not router.master).skew += seconds
        self.advance(6)

    @invariant()
    def no_address_twice(self) -> None:
        if not hasattr(self, "believed"):
            return
        now = self.time.now // SECOND
        alive = [address for address, until in self.believed.values() if until > now]
        assert len(alive) == len(set(alive)), self.believed

    def teardown(self) -> None:
        """Given time, both dnsmasq know every lease that a client believes in, and the same ones."""
        if not hasattr(self, "believed"):
            return
        self.advance(30)
        for router in self.routers:
            router.gateway.stop()
        self.directory.cleanup()
        now = self.time.now // SECOND
        truth = {address: who for who, (address, until) in self.believed.items() if until > now + 5}
        for router in self.routers:
            known = {address: who for address, (_, who) in router.dnsmasq.leases.items()}
            assert truth.items() <= known.items(), (router.name, truth, known)
            assert not router.guard.delayed


TestPair = Pair.TestCase
TestPair.settings = settings(stateful_step_count=30)
