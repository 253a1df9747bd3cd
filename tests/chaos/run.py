# SPDX-License-Identifier: GPL-2.0-or-later
"""A run: a walk through a lab with live connections, and all audits after each step."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.chaos.audits import Answers
from tests.chaos.condition import STOPPED, Condition, Measure
from tests.chaos.faults import ChaosLab, Faults, impossible, policies
from tests.chaos.walk import FAULTS, Router, Step
from tests.lab import FAR, LabError, Tandem, wait_until
from tests.netns.live import FAR6, Connections, in_step, settle

BOUND_S = 6  # until exactly one router answers: 1 s is usual, but a frozen one keeps its addresses for 3 s
STEP_S = 15  # until the routers are in step
FLOWS = 6  # of each kind
FLOWS_S = 40  # until data flow again
KERNEL_S = 5  # until a kernel has what belongs to a role
HASTE_S = 1.0  # between two faults of which the second one does not wait for an audit, at most


class Failed(AssertionError):
    """An audit failed; the message says how to repeat the walk."""


class Run:
    """One walk; `tell` gets a line for each step. `without`: faults that do not come.

    `hasty`: every second fault, by chance, comes while the routers still work at the one before. What the
    hosts' connections have known then is not known: they are opened anew.
    """

    def __init__(
        self,
        lab: ChaosLab,
        seed: int,
        release: Path | None,
        measure: Measure,
        tell: Callable[[str], None] = print,
        without: frozenset[str] = frozenset(),
        hasty: bool = False,
    ) -> None:
        self._hasty = random.Random(seed) if hasty else None
        self.without = without | impossible() | (frozenset() if release else frozenset({"downgrade"}))
        self.walk = lab.policies.walk(seed, self.without)
        self.steps: list[Step] = []
        self.answered_s = 0.0  # after the last step
        self.lab = lab
        self._seed = seed
        self._faults = Faults(lab, seed, release)
        self._answers = Answers(lab.client, lab.server)
        self.conditions = {router.name: Condition(router, measure) for router in lab.routers}
        self._flows = Connections()
        self._tell = tell
        self._serving: set[str] = set()
        settle(lab)
        self._open()
        self.audit()

    def go(self, count: int) -> None:
        """Take so many steps."""
        healed = False  # since the last audit
        for number in range(1, count + 1):
            able = self.walk.world.near
            step = self.walk.next()
            keeps = frozenset() if FAULTS[step.what].moves else self._serving & able & self.walk.world.near
            self.steps.append(step)
            began = time.monotonic()
            try:
                self._faults.do(step)
                healed |= step.what == "heal"
                if self._hasty is not None and number < count and self._hasty.random() < 0.5:
                    time.sleep(self._hasty.uniform(0, HASTE_S))
                    self.walk.world.knows.clear()
                    self._serving = set()
                    self._tell(f"{number:5} {'':7}{step!s:24} and before all is well again:")
                    continue
                self.audit(undecided=healed and not self.walk.world.beats)
                healed = False
                assert keeps <= self._serving, f"{keeps} could have kept the role of {self._serving}"
            except (AssertionError, LabError, OSError) as error:
                last = "\n  ".join(map(str, self.steps[-8:]))
                lacks = f" (without {', '.join(sorted(self.without))})" if self.without else ""
                lacks += ", hasty" * (self._hasty is not None)
                where = f"seed {self._seed}{lacks}, step {number}, after\n  {last}"
                raise Failed(f"{where}\n{error}\n{self._turns()}") from error
            conditions = self.conditions.values()
            memory = " ".join(f"{one.memory_kib} KiB {one.descriptors}" for one in conditions)
            took = time.monotonic() - began
            serving = " ".join(sorted(self._serving)) or "nobody"
            answers = f"{serving} answers in {self.answered_s:.1f} s"
            self._tell(f"{number:5} {took:5.1f} s  {step!s:24} {answers:26} {memory}")

    def logs(self) -> str:
        """The last lines of the daemons' logs."""
        return self.lab.logs()

    def _turns(self) -> str:
        """Say for how long the daemons stood still: the machine may have kept one from its work."""
        said = []
        for router in self.lab.routers:
            with suppress(OSError, LabError):
                found = Tandem.request(router, "status")["scheduling"]
                said.append(f"{router.name}: longest turn {found['turn_max_ms']} ms ({found['turn_max_by']})")
        return "; ".join(said)

    def close(self) -> None:
        """Close the connections and the sockets."""
        self._flows.close()
        self._answers.close()

    def audit(self, undecided: bool = False) -> None:
        """Look at everything. AssertionError, LabError, OSError: something is not as the walk says.

        `undecided`: two active routers have met that send each other no heartbeats, and the role may move
        once more meanwhile. One yields to the better router, and one that came up in the split to the router
        that was active before: both may do so.
        """
        world = self.walk.world
        answered = partial(self._answers.audit, world, self.lab.routers)

        def serves() -> bool:
            self._serving = answered()
            return True

        asked = time.monotonic()
        wait_until(serves, BOUND_S, "exactly one router answers, or none", every=0.05)
        self.answered_s = time.monotonic() - asked
        known = world.served(self._serving)
        if self._serving and self._serving <= world.forwarding:
            if not known:
                self._reopen()
            self._flows.all_go_on(FLOWS_S)
        if world.in_step and world.near:
            wait_until(lambda: in_step(self.lab), STEP_S, "the routers are in step", every=0.05)
            world.exchanged()
        for model in world.routers:
            self._audit_router(model)
        try:
            assert answered() == self._serving, "the role has moved once more"
        except AssertionError:
            if not undecided:
                raise
            self.audit()

    def _audit_router(self, model: Router) -> None:
        router = self.lab.router(model.name)
        condition = self.conditions[model.name]
        condition.log()
        role = STOPPED if model.stopped else ""
        if model.alive:
            router.wait_started()
            condition.process(self.walk.world.in_step)
            role = "MASTER" if router.active else "BACKUP"
        if role and not model.out and router.daemon.release is None:
            deadline = time.monotonic() + KERNEL_S
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
                    self.lab.client, self.lab.server, address, FLOWS, server_speaks=speaks,
                    bind="::" if ":" in address else "",
                )  # fmt: skip


@contextmanager
def running(
    seed: int,
    release: Path | None,
    tell: Callable[[str], None] = print,
    without: frozenset[str] = frozenset(),
    hasty: bool = False,
) -> Iterator[Run]:
    """A lab with a run in it; when it fails, the logs are still there."""
    with ChaosLab(policies(seed)).up() as lab:
        measure = Measure()
        Condition(lab.r1, measure).kernel(STOPPED, lambda: False)
        lab.start()
        run = Run(lab, seed, release, measure, tell, without, hasty)
        try:
            yield run
        finally:
            run.close()
