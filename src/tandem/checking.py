# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking: which checks are made now, and who hears of them. Only `config check` loads this module.

A check that a group tracks is always made, and so is that of a real server. A check of a service is made
while the service runs here: it begins as up, so that a service has `fall` tries of time until it answers.
The targets of a way out are tried while this router uses it, see core/internet.py.
"""

from __future__ import annotations

import time
from dataclasses import replace

from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tandem.config.schema import Check, Config
    from tandem.core.internet import Internet
    from tandem.core.settings import RealServer
    from tandem.health.prober_link import Key, Known, ProberLink
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.router import Router
    from tandem.status_schema import CheckStatus

# The first part of the key of a check is who uses it: groups, or "internet NAME", and likewise service and
# real_server.
TRACKED = ""
PORTS = {"http": 80, "https": 443, "dns": 53}


class Checking:
    """The checks, when there are any.

    `failed(service, check, reason)` hears of a service that fails one, `checked(server, check, up)` of the
    checks of real servers.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        router: Router,
        failed: Callable[[str, str, str], None],
        checked: Callable[[str, str, bool], None],
        running: Callable[[], Collection[str]],
    ) -> None:
        """`running()` names the services that run here."""
        self._loop = loop
        self._log = log
        self._router = router
        self._failed = failed
        self._checked = checked
        self._prober: ProberLink | None = None
        self._plan: Plan | None = None
        self._services = running
        self._internets: dict[str, Internet] = {}
        self._of: dict[str, object] = {}  # the settings of each

    def follow(self, plan: Plan) -> None:
        """Make the checks of `plan`, on the devices of now."""
        self._plan = plan
        if plan.config.checks and self._prober is None:
            from tandem.health.prober_link import ProberLink

            self._prober = ProberLink(self._loop, self._log, self._changed)
        self._take_ways_out(plan.config)
        self.roles()

    def roles(self) -> None:
        """The role of a group may have changed: judge the ways out that this router uses."""
        if self._plan is None:
            return
        config, now = self._plan.config, self._loop.now()
        for internet in config.internets:
            one = self._internets[internet.name]
            groups = [group.name for group in config.groups if internet.network in group.follow]
            running = [self._router.groups.get(name) for name in groups]  # None: it has not started yet
            if all(group is not None and group.state == "MASTER" for group in running):
                one.begin(now)
            else:
                one.end(now)
            self._judged(internet.name)
        self.update()

    def _take_ways_out(self, config: Config) -> None:
        """Have a machine for each way out; one whose settings stay the same goes on."""
        wanted = {internet.name: internet for internet in config.internets}
        for name in [name for name in self._internets if self._of[name] != wanted.get(name)]:
            self._loop.call_at(("internet", name), None)
            del self._internets[name]
        self._of = dict(wanted)
        if not wanted:
            return
        from tandem.core.internet import Internet

        for name, internet in wanted.items():
            if name not in self._internets:
                settle, memory = internet.settle_ms * MILLISECOND, internet.memory_ms * MILLISECOND
                every = internet.policy == "all"
                self._internets[name] = Internet(internet.checks, every, settle, memory)

    def _judged(self, name: str) -> None:
        """Tell the groups whether a way out works, and wait for its next deadline."""
        one = self._internets[name]
        why = f"{' and '.join(one.missed)} not reached" if one.missed else ""
        self._router.tracker_changed("internet", name, one.up, why)
        self._loop.call_at(("internet", name), one.next_deadline(), lambda now: self._due(name, now))

    def _due(self, name: str, now: int) -> None:
        self._internets[name].due(now)
        self._judged(name)

    def update(self) -> None:
        """Make the checks that are wanted now: a service has started or ended."""
        if self._prober is not None and self._plan is not None:
            self._prober.want(self._wanted(self._plan))

    def _wanted(self, plan: Plan) -> dict[Key, tuple[Check, bool | None]]:
        """Return the checks to make, each with the state that it begins with."""
        config = plan.config
        checks = {check.name: self._placed(check) for check in config.checks}
        tracks = [track for group in config.groups for track in group.tracks]
        tracks += [track for instance in config.instances for track in instance.tracks]
        found: dict[Key, tuple[Check, bool | None]] = {
            (TRACKED, track.name): (checks[track.name], None) for track in tracks if track.kind == "check"
        }
        for internet in config.internets:
            if self._internets[internet.name].judged:
                found |= {
                    (f"internet {internet.name}", name): (self._placed(checks[name], internet.network), None)
                    for name in internet.checks
                }
        running = self._services()
        for service in config.services:
            if service.name in running:
                of = f"service {service.name}"
                found |= {(of, name): (checks[name], True) for name in service.checks}
        ports = {name: virtual.port for virtual in config.virtual_servers for name in virtual.servers}
        for server in config.real_servers:
            of = f"real_server {server.name}"
            for name in server.checks:
                found[of, name] = _aimed(checks[name], server, ports[server.name]), None
        return found

    def _placed(self, check: Check, network: str = "") -> Check:
        """Return the check with the device of its network, by default of `network`."""
        name = check.interface or network
        device = self._router.links.device(name) or name
        return replace(check, interface=device) if device != check.interface else check

    def _changed(self, key: Key, up: bool, text: str) -> None:
        of, name = key
        user, _, owner = of.partition(" ")
        whose = f" of {of}" if of else ""
        self._log.change(("check", *key), "info", f"check {name}{whose} is {'up' if up else 'down'} ({text})")
        if of == TRACKED:
            self._router.tracker_changed("check", name, up, "" if up else f"failed: {text}")
        elif user == "real_server":
            self._checked(owner, name, up)
        elif user == "internet":
            if owner in self._internets:
                self._internets[owner].target(name, up, self._loop.now())
                self._judged(owner)
        elif not up:
            self._failed(owner, name, text)

    def status(self) -> list[CheckStatus]:
        """Return the state of each check that is made, for people."""
        known = {} if self._prober is None else self._prober.known
        now = self._loop.now()
        return [_status(key, one, now) for key, one in known.items()]

    @property
    def health(self) -> dict[str, list[str]]:
        """Why nothing is checked."""
        trouble = "" if self._prober is None else self._prober.trouble
        return {"checks": [trouble]} if trouble else {}

    def close(self) -> None:
        """End."""
        if self._prober is not None:
            self._prober.close()


def _aimed(check: Check, server: RealServer, port: int) -> Check:
    """Return a check of a real server, with its address and port where it names none."""
    port = check.port or (
        0 if check.kind in ("ping", "arp") else server.port or port or PORTS.get(check.kind, 0)
    )
    return replace(check, host=check.host or server.address, port=port)


def _status(key: Key, known: Known, now: int) -> CheckStatus:
    age = None if known.since is None else round((now - known.since) / SECOND, 3)
    check = known.check
    successes, failures, timeouts, skipped, took = known.figures
    host = f"[{check.host}]" if ":" in check.host and check.port else check.host
    port = f":{check.port}" if check.port else ""
    return {
        "name": check.name,
        "used_by": key[0],
        "kind": check.kind,
        "target": f"{host}{port}" if host else check.process or check.file or " ".join(check.script),
        "up": known.up,
        "since_s": age,
        "since": None if age is None else round(time.time() - age),
        "last": known.text,
        "last_ms": round(took / MILLISECOND, 3) if successes + failures else None,
        "successes": successes,
        "failures": failures,
        "timeouts": timeouts,
        "skipped": skipped,
    }
