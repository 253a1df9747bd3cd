# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts that run at every change of role: notify scripts and OpenWrt's hotplug scripts, one at a time.

The arguments are keepalived's (vrrp_notify.c): a specific script (`notify_master`, ...) gets those
that it was configured with; the generic `notify` script runs after it with four more: INSTANCE or
GROUP, the name, MASTER, BACKUP, FAULT or STOP, and the priority (0 for a group). ACTION, TYPE and
NAME are in the environment as OpenWrt's keepalived package sets them for `hotplug-call`; so are they
for the scripts in /etc/hotplug.d/tandem, which `/sbin/hotplug-call tandem` runs as root.

keepalived starts the scripts of two quick transitions side by side, and whichever ends last wins.
Here the next one waits for the one before, and only the last role of those that wait is told. Notify
scripts wait for those of the same instance or group, hotplug scripts for all of their group: they
are shared, so that two instances of one group would run the same script at once.

Scripts run as root and cost much, and an attacker who forges adverts can change roles. After `BURST` roles of
an instance or group, scripts therefore run at most once each `DISTANCE`, for the last role.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from tandem.core.budget import Budget
from tandem.core.timers import MILLISECOND
from tandem.effects.process import Exit, Processes
from tandem.programs import Credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.core.settings import Notify
    from tandem.log import Logger
    from tandem.loop import Loop

TIMEOUT = 60_000 * MILLISECOND
BURST = 4  # roles of one subject whose scripts run at once
DISTANCE = 5_000 * MILLISECOND  # between two later ones
_BUDGETS_MAX = 1024
INSTANCE = "INSTANCE"
GROUP = "GROUP"
HOTPLUG = "HOTPLUG"
CONTESTED = "MASTER_RX_LOWER_PRI"  # keepalived's word for an active router that has met a lesser one

Subject = tuple[str, str]  # INSTANCE or GROUP, and the name


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to run."""

    label: str  # for the log
    argv: tuple[str, ...]
    environment: dict[str, str]
    credentials: Credentials | None = None
    judged: bool = True  # whether an exit status other than 0 is a failure


@dataclass(slots=True)
class _Lane:
    """Commands of which one runs at a time."""

    running: int | None = None  # process id
    begun: Subject | None = None  # the subject whose commands are not all done
    waiting: dict[Subject, list[Command]] = field(default_factory=dict)  # of the last role told, in order


class Notifier:
    """Runs notify scripts in their order. `superseded` counts roles that were not told because
    another one came first, `failed` scripts that ended badly.
    """

    def __init__(
        self,
        loop: Loop,
        processes: Processes,
        log: Logger,
        credentials: Credentials | None = None,
        root: str = "/",
    ) -> None:
        """`processes` must be its own: it frees the places that the waiting ones need. `credentials`
        are the notify scripts'. `root` is where sbin/hotplug-call is looked for, now, and
        etc/hotplug.d/tandem, at every role.
        """
        self.credentials = credentials
        self.failed = 0
        self.superseded = 0
        self._loop = loop
        self._processes = processes
        self._log = log
        hotplug = os.path.join(root, "sbin/hotplug-call")
        self._hotplug = (hotplug, "tandem") if os.access(hotplug, os.X_OK) else None
        self._hotplug_scripts = os.path.join(root, "etc/hotplug.d/tandem")
        self._lanes: dict[Subject, _Lane] = {}
        self._budgets: dict[tuple[Subject, Subject], Budget] = {}  # by lane and subject
        self._drained: Callable[[], None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._lanes

    def notify(
        self, kind: str, name: str, state: str, priority: int, scripts: Notify, group: str | None = None
    ) -> None:
        """Tell `scripts`, and those of hotplug, that the instance or group `name` is now in `state`.

        `kind` is INSTANCE or GROUP; `state` MASTER, BACKUP, FAULT, STOP or CONTESTED; `group` the group
        that it is or is in (None: none).
        """
        subject = CONTESTED if state == CONTESTED else kind, name
        self._tell(
            (kind, name), subject, commands_for(kind, name, state, priority, scripts, self.credentials)
        )
        if self._hotplug is not None:
            lane = HOTPLUG, name if group is None else group
            self._tell(lane, subject, self._hotplug_commands(self._hotplug, kind, name, state))
        self._run()

    def _hotplug_commands(self, argv: tuple[str, ...], kind: str, name: str, state: str) -> list[Command]:
        if not os.path.isdir(self._hotplug_scripts):
            return []
        # The status of hotplug-call is that of the last test in the last script: no failure.
        return [Command(f"{name}: hotplug", argv, _environment(kind, name, state), judged=False)]

    def _tell(self, key: Subject, subject: Subject, commands: list[Command]) -> None:
        """Put `commands` in the place of what still waits for `subject` in the lane `key`."""
        lane = self._lanes.get(key)
        if lane is None:
            if not commands:
                return
            lane = self._lanes[key] = _Lane()
        self.superseded += lane.waiting.pop(subject, None) is not None
        contested = CONTESTED, subject[1]  # the next role makes it obsolete
        lane.waiting.pop(contested, None)
        if lane.begun in (subject, contested):
            lane.begun = None
        if commands:
            lane.waiting[subject] = commands

    def drain(self, timeout: int, done: Callable[[], None]) -> None:
        """Call `done` once when all has been told, at the latest after `timeout` ns.

        For the end of the daemon: a script that others wait for gets a third of that time,
        and what still runs at the end is killed.
        """
        now = self._loop.now()
        self._drained = done
        for lane in self._lanes.values():
            if lane.waiting:
                self._processes.expire(lane.running, now + timeout // 3)
        self._loop.call_at(("notify", id(self)), now + timeout, self._out_of_time)
        self._run()

    def _run(self) -> None:
        for key, lane in list(self._lanes.items()):
            while lane.running is None and lane.waiting and self._start(key, lane):
                pass
            if lane.running is None and not lane.waiting:
                del self._lanes[key]
        self._finish()

    def _start(self, key: Subject, lane: _Lane) -> bool:
        """Start the next command; False when it has to wait, for another one or for its budget."""
        subject = lane.begun or next((one for one in lane.waiting if self._may_begin(key, one)), None)
        if subject is None:
            budgets = [found for one in lane.waiting if (found := self._budgets.get((key, one)))]
            first = min((budget.ready_at for budget in budgets), default=self._loop.now() + DISTANCE)
            self._loop.call_at(("notify", id(self), key), first, lambda _now: self._run())
            return False
        lane.begun = subject
        commands = lane.waiting[subject]
        command = commands[0]
        lane.running = self._processes.start(
            command.argv,
            TIMEOUT,
            lambda result: self._ended(key, command, result),
            command.environment,
            command.credentials,
        )
        if lane.running is None and len(self._processes):
            return False
        self.failed += lane.running is None
        del commands[0]
        if not commands:
            del lane.waiting[subject]
            lane.begun = None
        return True

    def _may_begin(self, key: Subject, subject: Subject) -> bool:
        """Whether the scripts of another role may start; they need not wait when the daemon ends."""
        if self._drained is not None:
            return True
        if len(self._budgets) >= _BUDGETS_MAX:
            self._budgets.clear()
        budget = self._budgets.get((key, subject))
        if budget is None:
            budget = self._budgets[key, subject] = Budget(BURST, DISTANCE)
        return budget.take(self._loop.now())

    def _ended(self, key: Subject, command: Command, result: Exit) -> None:
        self._lanes[key].running = None
        if not result.ok and (command.judged or result.error or result.timed_out or result.status < 0):
            self.failed += 1
            text = f"{command.label}: {command.argv[0]}: {result}"
            self._log.limited(("notify", key, str(result)), "warning", text)
        self._run()

    def _finish(self) -> None:
        if self._drained is not None and self.idle:
            done, self._drained = self._drained, None
            self._loop.call_at(("notify", id(self)), None)
            done()

    def _out_of_time(self, now: int) -> None:
        self._log.warning(f"{len(self._lanes)} notify scripts did not end in time")
        for lane in self._lanes.values():
            lane.waiting.clear()
        self._processes.kill()
        if self._drained is not None:
            done, self._drained = self._drained, None
            done()


def commands_for(
    kind: str, name: str, state: str, priority: int, scripts: Notify, credentials: Credentials | None = None
) -> list[Command]:
    """Return the commands for a role, in order: the specific script, then the generic one."""
    environment = _environment(kind, name, state)
    specific = {
        "MASTER": scripts.master,
        "BACKUP": scripts.backup,
        "FAULT": scripts.fault,
        "STOP": scripts.stop,
        CONTESTED: scripts.master_rx_lower_pri,
    }
    commands = []
    if argv := specific.get(state):
        commands.append(Command(f"{name}: notify_{state.lower()}", argv, environment, credentials))
    if scripts.any:
        arguments = (kind, name, state, str(0 if kind == GROUP else priority))
        commands.append(Command(f"{name}: notify", scripts.any + arguments, environment, credentials))
    return commands


def _environment(kind: str, name: str, state: str) -> dict[str, str]:
    return {"ACTION": f"NOTIFY_{state}", "TYPE": kind, "NAME": name}
