# SPDX-License-Identifier: GPL-2.0-or-later
"""Notify scripts: told of every role, one at a time for each instance and group.

The arguments are keepalived's (vrrp_notify.c): a specific script (`notify_master`, ...) gets those
that it was configured with; the generic `notify` script runs after it with four more: INSTANCE or
GROUP, the name, MASTER, BACKUP, FAULT or STOP, and the priority (0 for a group). ACTION, TYPE and
NAME are in the environment as OpenWrt's keepalived package sets them for `hotplug-call`.

keepalived starts the scripts of two quick transitions side by side, and whichever ends last wins.
Here the next one waits for the one before, and only the last role of those that wait is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tandem.effects.process import MILLISECOND, Credentials, Exit, Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.config.schema import Notify
    from tandem.log import Logger
    from tandem.loop import Loop

TIMEOUT = 60_000 * MILLISECOND
INSTANCE = "INSTANCE"
GROUP = "GROUP"

Command = tuple[str, tuple[str, ...], dict[str, str]]  # label for the log, argv, environment


@dataclass(slots=True)
class _Subject:
    """An instance or group with something running or waiting."""

    running: int | None = None  # process id
    commands: list[Command] = field(default_factory=list)  # of the last role told, in order


class Notifier:
    """Runs notify scripts in their order. `superseded` counts roles that were not told because
    another one came first, `failed` scripts that ended badly.
    """

    def __init__(
        self, loop: Loop, processes: Processes, log: Logger, credentials: Credentials | None = None
    ) -> None:
        """`processes` must be its own: it frees the places that the waiting ones need."""
        self.credentials = credentials
        self.failed = 0
        self.superseded = 0
        self._loop = loop
        self._processes = processes
        self._log = log
        self._subjects: dict[tuple[str, str], _Subject] = {}
        self._drained: Callable[[], None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._subjects

    def notify(self, kind: str, name: str, state: str, priority: int, scripts: Notify) -> None:
        """Tell `scripts` that the instance or group `name` is now in `state`.

        `kind` is INSTANCE or GROUP; `state` MASTER, BACKUP, FAULT or STOP.
        """
        commands = commands_for(kind, name, state, priority, scripts)
        subject = self._subjects.get((kind, name))
        if subject is None:
            if not commands:
                return
            subject = self._subjects[kind, name] = _Subject()
        self.superseded += bool(subject.commands)
        subject.commands = commands
        self._run()

    def drain(self, timeout: int, done: Callable[[], None]) -> None:
        """Call `done` once when all has been told, at the latest after `timeout` ns.

        For the end of the daemon: a script that others wait for gets a third of that time,
        and what still runs at the end is killed.
        """
        now = self._loop.now()
        self._drained = done
        for subject in self._subjects.values():
            if subject.commands:
                self._processes.expire(subject.running, now + timeout // 3)
        self._loop.call_at(("notify", id(self)), now + timeout, self._out_of_time)
        self._finish()

    def _run(self) -> None:
        for key, subject in list(self._subjects.items()):
            while subject.running is None and subject.commands and self._start(key, subject):
                pass
            if subject.running is None and not subject.commands:
                del self._subjects[key]
        self._finish()

    def _start(self, key: tuple[str, str], subject: _Subject) -> bool:
        """Start the next command; False when it has to wait until one that runs has ended."""
        label, argv, environment = subject.commands[0]
        subject.running = self._processes.start(
            argv, TIMEOUT, lambda result: self._ended(key, label, argv, result), environment, self.credentials
        )
        if subject.running is None and len(self._processes):
            return False
        self.failed += subject.running is None
        del subject.commands[0]
        return True

    def _ended(self, key: tuple[str, str], label: str, argv: tuple[str, ...], result: Exit) -> None:
        self._subjects[key].running = None
        if not result.ok:
            self.failed += 1
            self._log.limited(("notify", key, str(result)), "warning", f"{label}: {argv[0]}: {result}")
        self._run()

    def _finish(self) -> None:
        if self._drained is not None and self.idle:
            done, self._drained = self._drained, None
            self._loop.call_at(("notify", id(self)), None)
            done()

    def _out_of_time(self, now: int) -> None:
        self._log.warning(f"{len(self._subjects)} notify scripts did not end in time")
        for subject in self._subjects.values():
            subject.commands.clear()
        self._processes.kill()
        if self._drained is not None:
            done, self._drained = self._drained, None
            done()


def commands_for(kind: str, name: str, state: str, priority: int, scripts: Notify) -> list[Command]:
    """What to run for a role, in order: the specific script, then the generic one."""
    environment = {"ACTION": f"NOTIFY_{state}", "TYPE": kind, "NAME": name}
    specific = {
        "MASTER": scripts.master,
        "BACKUP": scripts.backup,
        "FAULT": scripts.fault,
        "STOP": scripts.stop,
    }
    commands = []
    if argv := specific.get(state):
        commands.append((f"{name}: notify_{state.lower()}", argv, environment))
    if scripts.any:
        arguments = (kind, name, state, str(0 if kind == GROUP else priority))
        commands.append((f"{name}: notify", scripts.any + arguments, environment))
    return commands
