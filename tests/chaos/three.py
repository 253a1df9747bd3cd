# SPDX-License-Identifier: GPL-2.0-or-later
"""A seeded walk over the faults of three routers: exactly one is active, and no connection ends.

    python -m tests.chaos.three [--seed 1] [--faults 80]

At most two routers are in trouble at a time, each by one fault. The others follow the active one before the
next fault comes, so that whoever takes over has all connections.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.chaos.command import run
from tests.chaos.condition import Condition
from tests.chaos.faults import BOOT_S
from tests.lab import FAR, LabError, Router, SeedLab, Tandem, wait_until
from tests.netns.live import Connections, sync
from tests.netns.test_replication_three import ADDRESSES, daemon

BOUND_S = 8  # until exactly one is active: the kernel of a dead daemon keeps the addresses for 3 s
QUIET_S = 0.5  # then the role stays where it is
STEP_S = 20  # until the others follow
FLOWS_S = 40  # until data flow again
FLOWS = 6  # of each kind
TROUBLES_MAX = 2
REPAIRS = 0.5  # of the steps while a router is in trouble
REPAIR = {
    "kill": "start",
    "stop": "start",
    "freeze": "thaw",
    "power off": "power on",
    "cable out": "cable in",
    "standby": "resume",
}
MOVES = ("reboot", "respawn", "failover")  # the role may move, though the active router is well afterwards
STAYS = ("reload",)


class Walk:
    """The routers, and the trouble of each."""

    def __init__(self, lab: SeedLab, seed: int) -> None:
        self.lab = lab
        self._random = random.Random(seed)
        self._trouble: dict[Router, str] = {}
        self._conditions = [(router, Condition(router)) for router in lab.routers]
        self._flows = Connections()
        self._active = wait_until(self._only_active, BOUND_S, "one is active", explain=lab.logs)
        for speaks in (True, False):
            self._flows.add(lab.client, lab.server, FAR, FLOWS, server_speaks=speaks)
        self.audit()

    def close(self) -> None:
        """Close the connections."""
        self._flows.close()

    def go(self, count: int, tell: Callable[[str], None] = lambda _line: None) -> None:
        """Take so many steps. AssertionError: something is not as it must be; the message says the steps."""
        done: list[str] = []
        for number in range(1, count + 1):
            what, router = self._next()
            done.append(f"{what} {router.name}")
            began, before = time.monotonic(), self._active
            try:
                self._do(what, router)
                self.audit()
                kept = self._active is before or before in self._trouble or what in MOVES
                assert kept, f"{before.name} could have kept the role of {self._active.name}"
            except (AssertionError, LabError, OSError) as error:
                raise AssertionError(f"step {number}, after {done[-8:]}\n{error}") from error
            tell(f"{number:5} {time.monotonic() - began:5.1f} s  {done[-1]:14} {self._active.name} is active")

    @property
    def _able(self) -> list[Router]:
        """The routers that can be active."""
        return [router for router in self.lab.routers if router not in self._trouble]

    def _next(self) -> tuple[str, Router]:
        repairs = [(REPAIR[what], router) for router, what in self._trouble.items()]
        full = len(repairs) == TROUBLES_MAX
        if repairs and (full or self._random.random() < REPAIRS):
            return self._random.choice(repairs)
        return self._random.choice([*REPAIR, *MOVES, *STAYS]), self._random.choice(self._able)

    def _do(self, what: str, router: Router) -> None:
        if what in REPAIR:
            self._trouble[router] = what
        elif what in REPAIR.values():
            del self._trouble[router]
        getattr(self, f"_{what.replace(' ', '_')}")(router)

    # Audits

    def audit(self) -> None:
        """Look at everything. AssertionError, LabError, OSError: something is not as it must be."""
        self._active = wait_until(self._only_active, BOUND_S, "one is active", explain=self.lab.logs)
        time.sleep(QUIET_S)
        assert self._only_active() is self._active, "the role has moved once more"
        self._flows.all_go_on(FLOWS_S)
        wait_until(self._in_step, STEP_S, "the others follow", every=0.1, explain=self.lab.logs)
        for router, condition in self._conditions:
            condition.log()
            if router in self._able:
                condition.process()

    def _only_active(self) -> Router:
        active = [router for router in self.lab.routers if router.powered and router.active]
        names, able = [[router.name for router in some] for some in (active, self._able)]
        assert len(names) == 1 and names[0] in able, f"{names} are active, one of {able} can be"
        return active[0]

    def _in_step(self) -> bool:
        """Whether every router that can be active holds all connections, as the active one says."""
        peers = sync(self._active)["channel"]["peers"]
        held = {peer["name"] for peer in peers if peer.get("in_step")}
        others = {ADDRESSES[int(router.name[1:])] for router in self._able if router is not self._active}
        assert others <= held, f"{sorted(others - held)} are not in step with {self._active.name}"
        return True

    # Faults and repairs

    def _kill(self, router: Router) -> None:
        router.kill()

    def _stop(self, router: Router) -> None:
        assert router.stop(15) == 0

    def _start(self, router: Router) -> None:
        router.start()
        router.wait_started()

    def _freeze(self, router: Router) -> None:
        router.freeze()

    def _thaw(self, router: Router) -> None:
        router.thaw()

    def _power_off(self, router: Router) -> None:
        router.power_off()

    def _power_on(self, router: Router) -> None:
        router.power_on()
        router.wait_started()

    def _cable_out(self, router: Router) -> None:
        self.lab.cut(router, self._random.choice(router.devices))

    def _cable_in(self, router: Router) -> None:
        for device in router.devices:
            self.lab.plug(router, device)

    def _standby(self, router: Router) -> None:
        Tandem.request(router, "standby", force="yes", by="chaos")

    def _resume(self, router: Router) -> None:
        Tandem.request(router, "resume")

    def _reboot(self, router: Router) -> None:
        router.power_off()
        time.sleep(BOOT_S)
        self._power_on(router)

    def _respawn(self, router: Router) -> None:
        router.kill()
        self._start(router)

    def _failover(self, router: Router) -> None:
        with suppress(LabError):  # it is not active
            Tandem.request(router, "failover")

    def _reload(self, router: Router) -> None:
        Tandem.request(router, "reload")


@contextmanager
def running(seed: int) -> Iterator[Walk]:
    """A lab with a walk in it; when it fails, the logs are still there."""
    with SeedLab(daemon, "chaos3", count=3).up() as lab:
        lab.start()
        walk = Walk(lab, seed)
        try:
            yield walk
        finally:
            walk.close()


if __name__ == "__main__":
    sys.exit(run("tests.chaos.three", __doc__, 80, running))
