# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts: the probes and notify scripts of a configuration, with one set of processes each."""

from __future__ import annotations

from collections.abc import Callable

from tandem.config.schema import Config, Notify, Script
from tandem.core.actions import GroupTransition, Transition
from tandem.effects.notify import GROUP, INSTANCE, Notifier
from tandem.effects.process import Credentials, Processes, credentials_of, insecure_path
from tandem.health.script import ScriptProbe
from tandem.log import Logger
from tandem.loop import Loop


class Scripts:
    """Runs what users have written; `on_change(kind, name, up)` gets the probes' results."""

    def __init__(self, loop: Loop, log: Logger, config: Config) -> None:
        self.on_change: Callable[[str, str, bool], None] = lambda _kind, _name, _up: None
        self.probes: dict[str, ScriptProbe] = {}
        self._loop = loop
        self._log = log
        self._config = config
        self._processes = Processes(loop, log)
        self._notifier = Notifier(loop, Processes(loop, log), log, self._credentials(None, None))
        self._notifies: dict[tuple[str, str], Notify] = {}
        self._groups: dict[str, str] = {}  # of instances and of groups themselves
        self._adopt(config)

    def start(self) -> None:
        """Start every probe; those with `init_fail` say at once that they are down."""
        for script in self._config.scripts:
            self._start(script)

    def reload(self, config: Config) -> None:
        """Go over to `config`; probes whose script did not change go on."""
        self._config = config
        self._adopt(config)
        wanted = {script.name: script for script in config.scripts}
        for name, probe in list(self.probes.items()):
            if wanted.get(name) != probe.script:
                probe.stop()
                del self.probes[name]
        for name, script in wanted.items():
            if name not in self.probes:
                self._start(script)

    def state(self, name: str) -> bool | None:
        """Whether the script is up; None until its first run has ended."""
        return self.probes[name].up if name in self.probes else None

    def notify(self, transition: Transition | GroupTransition) -> None:
        """Run the notify and hotplug scripts of a transition."""
        if isinstance(transition, Transition):
            kind, name, priority = INSTANCE, transition.instance, transition.priority
        else:
            kind, name, priority = GROUP, transition.group, 0
        scripts = self._notifies.get((kind, name))
        if scripts is not None:
            self._notifier.notify(kind, name, transition.state, priority, scripts, self._groups.get(name))

    def stop(self, timeout: int, done: Callable[[], None]) -> None:
        """End the probes and call `done` when the last notify script has ended, within `timeout` ns."""
        for probe in self.probes.values():
            probe.stop()
        self._notifier.drain(timeout, done)

    def _start(self, script: Script) -> None:
        probe = ScriptProbe(
            script,
            self._loop,
            self._processes,
            self._log,
            lambda name, up: self.on_change("script", name, up),
            self._credentials(script.user, script.group),
        )
        self.probes[script.name] = probe
        if probe.up is not None:
            self.on_change("script", script.name, probe.up)
        probe.start()

    def _adopt(self, config: Config) -> None:
        self._notifies = {(INSTANCE, instance.name): instance.notify for instance in config.instances}
        self._notifies |= {(GROUP, group.name): group.notify for group in config.groups if not group.implicit}
        self._groups = {name: group.name for group in config.groups for name in (group.name, *group.members)}
        self._notifier.credentials = self._credentials(None, None)
        commands = [script.argv for script in config.scripts]
        for notify in self._notifies.values():
            commands += [notify.master, notify.backup, notify.fault, notify.stop, notify.any]
        for path in dict.fromkeys(command[0] for command in commands if command):
            if reason := insecure_path(path):
                self._log.warning(f"{path} could be replaced by others than root: {reason}")

    def _credentials(self, user: str | None, group: str | None) -> Credentials | None:
        """Those of a script, else of `script_user`. OSError for one who has gone since the plan was made."""
        settings = self._config.globals
        if user is None:
            user, group = settings.script_user, settings.script_group
        try:
            return credentials_of(user, group)
        except KeyError as error:
            raise OSError(f"unknown user or group: {error}") from None
