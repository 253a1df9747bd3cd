# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the planner process (`tandem.plan.process`) at every reload, and at a start without a kept plan.

The planner reads files that may be on a disk that answers no more. It is killed when it has taken PATIENCE.
"""

from __future__ import annotations

import os
import select
import signal

from tandem.core.timers import MILLISECOND, SECOND
from tandem.plan.kept import LARGEST
from tandem.plan.result import Plan, PlanError, load_plan, planner_argv
from tandem.programs import PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.loop import Loop
    from tandem.plan.kept import Kept

PATIENCE = 120 * SECOND  # a slow router needs some seconds
REAP_PAUSE = 100 * MILLISECOND
LATE = f"the planner has not ended within {PATIENCE // SECOND} s: it was killed; look for a disk that hangs"


class Planning:
    """Plans `config_file`; `package_dir` holds `tandem/`."""

    def __init__(
        self,
        loop: Loop,
        package_dir: str,
        config_file: str,
        kept: Kept | None = None,
    ) -> None:
        """`kept` is the plan of the last life; None: plan at every start."""
        self._kept = kept
        self._output = b""  # of `first`, as long as there may be no directory for it
        self._loop = loop
        self._package_dir = package_dir
        self._config_file = config_file
        self._running: tuple[int, int, list[bytes]] | None = None  # pid, pipe, output so far
        self._planned: Callable[[Plan | PlanError], None]  # of the last `again`
        self._until = 0  # when it is killed
        self._stale = False  # it may have read the file before it was changed

    def first(self) -> Plan:
        """Wait for the plan. PlanError when there is none in time, OSError when no planner can be started."""
        if self._kept is not None and (plan := self._kept.load()) is not None:
            return plan
        pid, pipe = self._start("")
        chunks: list[bytes] = []
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        with open(pipe, "rb", buffering=0) as output:
            while poll.poll(max(0, self._until - self._loop.now()) // MILLISECOND):
                if not (chunk := output.read(1 << 16)):
                    break
                chunks.append(chunk)
            else:
                os.kill(pid, signal.SIGKILL)
                raise PlanError((LATE,))
        os.waitpid(pid, 0)
        self._output = b"".join(chunks)
        return load_plan(self._output)

    def keep(self) -> None:
        """Keep what `first` has planned for the next start."""
        if self._kept is not None and self._output:
            self._kept.save(self._output)
        self._output = b""

    def again(self, planned: Callable[[Plan | PlanError], None]) -> None:
        """Plan anew, off the loop, and tell `planned`. Asked again meanwhile, plan once more, tell once."""
        self._planned = planned
        if self._running is not None:
            self._stale = True
            return
        try:
            pid, pipe = self._start(self._kept.path if self._kept is not None else "")
        except OSError as error:
            self._planned(PlanError((f"cannot start the planner: {error.strerror}",)))
            return
        os.set_blocking(pipe, False)  # this end only: the planner may wait to be read
        self._running = pid, pipe, []
        self._loop.add_reader(pipe, self._read)
        self._loop.call_at("planner", self._until, lambda _now: self._give_up())

    def _start(self, kept: str) -> tuple[int, int]:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        argv = planner_argv(self._package_dir, self._config_file, kept)
        actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        try:
            pid = os.posix_spawn(argv[0], argv, {"PATH": PATH}, file_actions=actions)
        finally:
            os.close(writing)
        self._until = self._loop.now() + PATIENCE
        return pid, reading

    def _read(self) -> None:
        assert self._running is not None  # its pipe is what woke us
        _, pipe, chunks = self._running
        try:
            chunk = os.read(pipe, 1 << 20)
        except BlockingIOError:
            return
        if chunk and sum(map(len, chunks)) < LARGEST:
            chunks.append(chunk)
            return
        if self._ended():
            return
        try:
            outcome: Plan | PlanError = load_plan(b"".join(chunks))
            self._output = b"".join(chunks)
            self.keep()
        except PlanError as error:
            outcome = error
        self._planned(outcome)

    def _give_up(self) -> None:
        assert self._running is not None  # the timer ends with it
        os.kill(self._running[0], signal.SIGKILL)
        if not self._ended():
            self._planned(PlanError((LATE,)))

    def _ended(self) -> bool:
        """Leave the planner, which has closed its output or was killed; whether the next one runs already."""
        assert self._running is not None  # the callers have looked
        pid, pipe, _ = self._running
        self._running = None
        self._loop.remove_reader(pipe)
        os.close(pipe)
        self._loop.call_at("planner", None)
        self._loop.call_at(("planner", pid), self._loop.now(), lambda now: self._reap(pid, now))
        stale, self._stale = self._stale, False
        if stale:
            self.again(self._planned)
        return stale

    def _reap(self, pid: int, now: int) -> None:
        """Collect the planner, which has closed its output and is about to end."""
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            self._loop.call_at(("planner", pid), now + REAP_PAUSE, lambda later: self._reap(pid, later))
