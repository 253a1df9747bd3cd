# SPDX-License-Identifier: GPL-2.0-or-later
"""A run: a walk through a lab with live connections, and all audits after each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.chaos.audits import Answers, Condition
from tests.chaos.faults import ChaosLab, Faults, impossible, policies
from tests.chaos.walk import FAULTS, Walk
from tests.lab import FAR, LabError, wait_until
from tests.netns.live import FAR6, Connections, in_step, settle

BOUND_S = 10  # until exactly one router answers; a frozen one keeps its addresses for 3 s
STEP_S = 15  # until the routers are in step
FLOWS = 6  # of each kind
FLOWS_S = 40  # until data flow again


class Failed(AssertionError):
    """An audit failed; the message says how to repeat the walk."""


class Run:
    """One walk; `tell` gets a line for each step."""

    def __init__(
        self, lab: ChaosLab, seed: int, release: Path | None, tell: Callable[[str], None] = print
    ) -> None:
        without = impossible() | (frozenset() if release else frozenset({"downgrade"}))
        if lab.policies.partition == "split":  # who hears no adverts at all is active as well then
            without |= {"deafen everywhere"}
        self.walk = Walk(seed, without, lab.policies.fault == "compare")
        self.steps: list[str] = []
        self._lab = lab
        self._seed = seed
        self._faults = Faults(lab, seed, release)
        self._answers = Answers(lab.client, lab.server)
        self._conditions = {router.name: Condition(router) for router in lab.routers}
        self._flows = Connections()
        self._tell = tell
        self._serving: set[str] = set()
        settle(lab)
        self._open()
        self._audit()

    def go(self, count: int) -> None:
        """Take so many steps."""
        for number in range(1, count + 1):
            able = self.walk.world.near
            step = self.walk.next()
            keeps = frozenset() if FAULTS[step.what].moves else self._serving & able & self.walk.world.near
            self.steps.append(str(step))
            began = time.monotonic()
            try:
                self._faults.do(step)
                for condition in self._conditions.values() if step.what == "flood" else ():
                    condition.flooded()
                self._audit()
                assert keeps <= self._serving, f"{keeps} could have kept the role of {self._serving}"
            except (AssertionError, LabError, OSError) as error:
                last = "\n  ".join(self.steps[-8:])
                raise Failed(f"seed {self._seed}, step {number}, after\n  {last}\n{error}") from error
            memory = " ".join(str(one.memory_kib) for one in self._conditions.values())
            took = time.monotonic() - began
            serving = " ".join(sorted(self._serving)) or "nobody"
            self._tell(f"{number:5} {took:5.1f} s  {step!s:24} {serving:8} {memory} KiB")

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return self._lab.logs()

    def close(self) -> None:
        """Close the connections and the sockets."""
        self._flows.close()
        self._answers.close()

    def _audit(self) -> None:
        world = self.walk.world
        answered = partial(self._answers.audit, world, self._lab.routers)

        def serves() -> bool:
            self._serving = answered()
            return True

        wait_until(serves, BOUND_S, "exactly one router answers, or none", every=0.05)
        known = world.served(self._serving)
        if self._serving and self._serving <= world.forwarding:
            if not known:
                self._reopen()
            self._flows.all_go_on(FLOWS_S)
        if world.in_step and world.near:
            wait_until(lambda: in_step(self._lab), STEP_S, "the routers are in step", every=0.05)
            world.exchanged()
        for model in world.routers:
            self._audit_router(model.name, model.alive, bool(model.out))
        assert answered() == self._serving, "the role has moved once more"

    def _audit_router(self, name: str, alive: bool, cut: bool) -> None:
        router = self._lab.router(name)
        condition = self._conditions[name]
        condition.log()
        if alive:
            router.wait_started()
            condition.process()
            if not cut and router.daemon.release is None:
                role = "MASTER" if router.active else "BACKUP"
                deadline = time.monotonic() + 5
                condition.kernel(role, lambda: time.monotonic() < deadline)

    def _reopen(self) -> None:
        """Open new connections instead of those that are lost with their router, if it has room for them."""
        world = self.walk.world
        self._flows.close()
        self._flows = Connections()
        if not any(one.full for one in world.routers if one.name in self._serving):
            self._open()
            world.opened(self._serving)

    def _open(self) -> None:
        for address in (FAR, FAR6):
            for speaks in (True, False):
                self._flows.add(
                    self._lab.client, self._lab.server, address, FLOWS, server_speaks=speaks,
                    bind="::" if ":" in address else "",
                )  # fmt: skip


@contextmanager
def running(seed: int, release: Path | None, tell: Callable[[str], None] = print) -> Iterator[Run]:
    """A lab with a run in it; when it fails, the logs are still there."""
    with ChaosLab(policies(seed)).up() as lab:
        lab.start()
        run = Run(lab, seed, release, tell)
        try:
            yield run
        finally:
            run.close()
