# SPDX-License-Identifier: GPL-2.0-or-later
"""Checking: which checks are made now, and who hears of them. Only `config check` loads the prober's modules.

A check that a group tracks is always made. A check of a service is made while the service runs here: it
begins as up, so that a service has `fall` tries of time until it answers.
"""

from __future__ import annotations

import time
from dataclasses import replace

from tandem.core.timers import MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.config.schema import Check
    from tandem.health.prober_link import Key, Known, ProberLink
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.router import Router
    from tandem.status_schema import CheckStatus

TRACKED = ""  # stands in the place of the service in the key of a check that groups track


class Checking:
    """The checks, when there are any; `failed(service, check, reason)` hears of a service that fails one."""

    def __init__(
        self, loop: Loop, log: Logger, router: Router, failed: Callable[[str, str, str], None]
    ) -> None:
        self._loop = loop
        self._log = log
        self._router = router
        self._failed = failed
        self._prober: ProberLink | None = None
        self._plan: Plan | None = None
        self._serving: set[str] = set()  # the services that run here

    def follow(self, plan: Plan) -> None:
        """Make the checks of `plan`, on the devices of now."""
        self._plan = plan
        if plan.config.checks and self._prober is None:
            from tandem.health.prober_link import ProberLink

            self._prober = ProberLink(self._loop, self._log, self._changed)
        self._update()

    def serve(self, service: str, runs: bool) -> None:
        """A service runs here now, or no more."""
        (self._serving.add if runs else self._serving.discard)(service)
        self._update()

    def _update(self) -> None:
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
        for service in config.services:
            if service.name in self._serving:
                found |= {(service.name, name): (checks[name], True) for name in service.checks}
        return found

    def _placed(self, check: Check) -> Check:
        """Return the check with the device of its network."""
        device = self._router.links.device(check.interface) or check.interface
        return replace(check, interface=device) if device != check.interface else check

    def _changed(self, key: Key, up: bool, text: str) -> None:
        owner, name = key
        of = f" of {owner}" if owner else ""
        self._log.change(("check", *key), "info", f"check {name}{of} is {'up' if up else 'down'} ({text})")
        if owner == TRACKED:
            self._router.tracker_changed("check", name, up, "" if up else f"failed: {text}")
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


def _status(key: Key, known: Known, now: int) -> CheckStatus:
    age = None if known.since is None else round((now - known.since) / SECOND, 3)
    check = known.check
    successes, failures, timeouts, skipped, took = known.figures
    host = f"[{check.host}]" if ":" in check.host and check.port else check.host
    port = f":{check.port}" if check.port else ""
    return {
        "name": check.name,
        "service": key[0],
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
