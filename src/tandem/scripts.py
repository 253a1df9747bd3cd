# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts: runs the probes and notify scripts of a configuration, each kind with its own set of processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tandem.config.schema import Config, Script
from tandem.core.actions import Contested, GroupTransition, Transition
from tandem.core.settings import Notify
from tandem.effects.notify import CONTESTED, GROUP, INSTANCE, Notifier
from tandem.effects.process import Processes
from tandem.log import Logger
from tandem.loop import Loop
from tandem.programs import Credentials, credentials_of, insecure_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.health.probe import Probe


@dataclass(frozen=True, slots=True)
class Runners:
    """The users that the scripts of a configuration run as; None: the daemon's."""

    notify: Credentials | None
    probes: dict[str, Credentials | None]  # the key is the script's name


class Scripts:
    """Runs the users' scripts; `on_change(kind, name, up)` gets the probes' results."""

    def __init__(
        self, loop: Loop, log: Logger, config: Config, on_change: Callable[[str, str, bool], None]
    ) -> None:
        """Begin; OSError: a user has gone since the plan was made."""
        self.on_change = on_change
        self.runners = self.prepare(config)
        self.probes: dict[str, Probe] = {}
        self._loop = loop
        self._log = log
        self._config = config
        self._processes = Processes(loop, log)
        self._notifier = Notifier(loop, Processes(loop, log), log, self.runners.notify)
        self._notifies: dict[tuple[str, str], Notify] = {}
        self._groups: dict[str, str] = {}  # by the name of an instance or of a group
        self._adopt(config, self.runners)

    def start(self) -> None:
        """Start every probe; a probe with `init_fail` is down at once."""
        for script in self._config.scripts:
            self._start(script)

    @staticmethod
    def prepare(config: Config) -> Runners:
        """Return the users that the scripts of `config` run as. OSError: a user has gone."""
        user, group = config.globals.script_user, config.globals.script_group
        return Runners(
            _credentials(user, group),
            {
                script.name: _credentials(script.user, script.group)
                if script.user is not None
                else _credentials(user, group)
                for script in config.scripts
            },
        )

    def reload(self, config: Config, runners: Runners) -> None:
        """Change to `config` with its `runners`; probes whose script did not change continue."""
        before, self.runners = self.runners, runners
        settings = {script.name: script for script in self._config.scripts}
        self._config = config
        self._adopt(config, runners)
        wanted = {script.name: script for script in config.scripts}
        for name, probe in list(self.probes.items()):
            if wanted.get(name) != settings[name] or before.probes.get(name) != runners.probes[name]:
                probe.stop()
                del self.probes[name]
        for name, script in wanted.items():
            if name not in self.probes:
                self._start(script)

    def state(self, name: str) -> bool | None:
        """Return whether the script is up; None until its first run has ended."""
        return self.probes[name].up if name in self.probes else None

    def notify(self, transition: Transition | GroupTransition | Contested) -> None:
        """Run the notify and hotplug scripts of a transition, or of an active router that was contested."""
        if isinstance(transition, GroupTransition):
            kind, name, priority = GROUP, transition.group, 0
        else:
            kind, name, priority = INSTANCE, transition.instance, transition.priority
        state = CONTESTED if isinstance(transition, Contested) else transition.state
        scripts = self._notifies.get((kind, name))
        if scripts is not None:
            self._notifier.notify(kind, name, state, priority, scripts, self._groups.get(name))

    def stop(self, timeout: int, done: Callable[[], None]) -> None:
        """End the probes and call `done` when the last notify script has ended, within `timeout` ns."""
        for probe in self.probes.values():
            probe.stop()
        self._notifier.drain(timeout, done)

    def _start(self, script: Script) -> None:
        from tandem.health.script import script_probe  # most routers have no scripts to track

        probe = script_probe(
            script,
            self._loop,
            self._processes,
            self._log,
            lambda name, up: self.on_change("script", name, up),
            self.runners.probes[script.name],
        )
        self.probes[script.name] = probe
        if probe.up is not None:
            self.on_change("script", script.name, probe.up)
        probe.start()

    def _adopt(self, config: Config, runners: Runners) -> None:
        self._notifies = {(INSTANCE, instance.name): instance.notify for instance in config.instances}
        self._notifies |= {(GROUP, group.name): group.notify for group in config.groups if not group.implicit}
        self._groups = {name: group.name for group in config.groups for name in (group.name, *group.members)}
        self._notifier.credentials = runners.notify
        commands = [script.argv for script in config.scripts]
        for notify in self._notifies.values():
            commands += [notify.master, notify.backup, notify.fault, notify.stop, notify.any]
            commands.append(notify.master_rx_lower_pri)
        for path in dict.fromkeys(command[0] for command in commands if command):
            if reason := insecure_path(path):
                self._log.warning(f"{path} can be replaced by users other than root: {reason}")


def _credentials(user: str | None, group: str | None) -> Credentials | None:
    try:
        return credentials_of(user, group)
    except KeyError as error:
        raise OSError(f"scripts cannot be run: {error.args[0]}; correct option user or script_user") from None
