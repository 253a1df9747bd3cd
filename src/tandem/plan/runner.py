# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the planner process (`tandem.plan.process`) at every reload, and at a start without a kept plan."""

from __future__ import annotations

import os

from tandem.plan.kept import LARGEST
from tandem.plan.result import Plan, PlanError, load_plan, planner_argv
from tandem.programs import PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop
    from tandem.plan.kept import Kept

REAP_PAUSE = 100_000_000  # ns


class Planning:
    """Plans `config_file`; `package_dir` holds `tandem/`; `planned` gets what came of `again`."""

    def __init__(
        self,
        loop: Loop,
        package_dir: str,
        config_file: str,
        planned: Callable[[Plan | PlanError], None],
        kept: Kept | None = None,
    ) -> None:
        """`kept` is the plan of the last life; None: plan at every start."""
        self._kept = kept
        self._output = b""  # of `first`, as long as there may be no directory for it
        self._loop = loop
        self._package_dir = package_dir
        self._config_file = config_file
        self._planned = planned
        self._running: tuple[int, int, list[bytes]] | None = None  # pid, pipe, output so far
        self._stale = False  # it may have read the file before it was changed

    def first(self) -> Plan:
        """Wait for the plan. PlanError when there is none, OSError when the planner can't be started."""
        if self._kept is not None and (plan := self._kept.load()) is not None:
            return plan
        pid, pipe = self._start()
        chunks = []
        with open(pipe, "rb") as output:
            while chunk := output.read(1 << 16):
                chunks.append(chunk)
        os.waitpid(pid, 0)
        self._output = b"".join(chunks)
        return load_plan(self._output)

    def keep(self) -> None:
        """Keep what `first` has planned for the next start."""
        if self._kept is not None and self._output:
            self._kept.save(self._output)
        self._output = b""

    def again(self) -> None:
        """Plan anew, off the loop. What is asked for meanwhile is planned once more, and told once."""
        if self._running is not None:
            self._stale = True
            return
        try:
            pid, pipe = self._start()
        except OSError as error:
            self._planned(PlanError((f"cannot start the planner: {error.strerror}",)))
            return
        os.set_blocking(pipe, False)  # this end only: the planner may wait to be read
        self._running = pid, pipe, []
        self._loop.add_reader(pipe, self._read)

    def _start(self) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        argv = planner_argv(self._package_dir, self._config_file)
        actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        try:
            pid = os.posix_spawn(argv[0], argv, {"PATH": PATH}, file_actions=actions)
        finally:
            os.close(writing)
        return pid, reading

    def _read(self) -> None:
        assert self._running is not None  # its pipe is what woke us
        pid, pipe, chunks = self._running
        try:
            chunk = os.read(pipe, 1 << 20)
        except BlockingIOError:
            return
        if chunk and sum(map(len, chunks)) < LARGEST:
            chunks.append(chunk)
            return
        self._loop.remove_reader(pipe)
        os.close(pipe)
        self._running = None
        self._loop.call_at(("planner", pid), self._loop.now(), lambda now: self._reap(pid, now))
        if self._stale:
            self._stale = False
            self.again()
            return
        try:
            outcome: Plan | PlanError = load_plan(b"".join(chunks))
            self._output = b"".join(chunks)
            self.keep()
        except PlanError as error:
            outcome = error
        self._planned(outcome)

    def _reap(self, pid: int, now: int) -> None:
        """Collect the planner, which has closed its output and is about to end."""
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            self._loop.call_at(("planner", pid), now + REAP_PAUSE, lambda later: self._reap(pid, later))
