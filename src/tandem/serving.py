# SPDX-License-Identifier: GPL-2.0-or-later
"""Serving: starts and ends the services of a configuration. Only `config service` loads their modules."""

from __future__ import annotations

from tandem.core.limits import ANSWER_LIMIT
from tandem.core.state import Role
from tandem.core.timers import CENTISECOND, MILLISECOND, SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.channel.channel import Channel
    from tandem.config.schema import Config
    from tandem.core.actions import GroupTransition, Transition
    from tandem.effects.executor import Executor
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.router import Router
    from tandem.services.manager import Manager
    from tandem.status_schema import ServiceStatus

SILENT = 3  # intervals without an advert, after which a backup takes the role and starts the services


class Serving:
    """The services, when there are any.

    `noted(name, state, why)` gets what the history remembers; `served()`: other services run. `path` is the
    file for the record of their processes.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        router: Router,
        executor: Executor,
        noted: Callable[[str, str, str], None],
        served: Callable[[], None],
        path: str,
    ) -> None:
        self.manager: Manager | None = None
        self._loop = loop
        self._log = log
        self._router = router
        self._executor = executor
        self._noted = noted
        self._served = served
        self._path = path

    def follow(self, plan: Plan, channel: Channel | None) -> None:
        """Have the services of `plan`, whose groups run by now or are about to start."""
        config = plan.config
        peers = [peer.name for peer in config.peers]
        if self.manager is not None:
            self.manager.reload(config.services, peers, hang_limit(config))
        elif config.services:
            from tandem.services.manager import Manager

            self.manager = Manager(
                self._loop,
                self._log,
                config.services,
                peers,
                config.globals.router_id,
                hang_limit(config),
                self._router.tracker_changed,
                self._noted,
                self._path,
                self._served,
            )
            self._executor.take_services(self.manager)
            self.manager.start()
        if self.manager is not None:
            self.manager.join(channel)
            for name in self._router.groups:
                self._place(name)

    def told(self, transition: Transition | GroupTransition) -> None:
        """Pass on that a group has changed its state."""
        if self.manager is None:
            return
        for name, group in self._router.groups.items():
            if (
                name == getattr(transition, "group", "")
                or getattr(transition, "instance", "") in group.by_name
            ):
                self.manager.state(name, transition.state)

    def judged(self, peer: str, alive: bool) -> None:
        """Pass on that a peer's heartbeats come, or have stopped on every path."""
        if self.manager is not None:
            self.manager.judged(peer, alive)

    def leave(self, groups: list[str] | None, then: Callable[[], None]) -> None:
        """Stop the services that follow the role of these groups, or all, and then call `then`.

        A group that is active after that has its services again.
        """
        manager = self.manager
        names: list[str | None] = [None] if groups is None else list(groups)
        if manager is None or not names:
            then()
            return
        left = len(names)

        def one_left() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()
                for name in groups or ():
                    self._place(name)

        for name in names:
            manager.leave(name, one_left)

    def _place(self, name: str) -> None:
        """Tell the services the role of a group."""
        group = self._router.groups.get(name)
        if self.manager is not None and group is not None:
            if group.role is Role.ACTIVE:
                self.manager.serve(name, False)
            else:
                self.manager.state(name, group.state)

    def status(self) -> list[ServiceStatus]:
        """Return the state of each service, for people."""
        return [] if self.manager is None else self.manager.status()

    @property
    def running(self) -> set[str]:
        """The services that run here."""
        return set() if self.manager is None else self.manager.running

    @property
    def health(self) -> dict[str, list[str]]:
        """The services that need a person."""
        found = [] if self.manager is None else self.manager.health
        return {"services": found} if found else {}

    def close(self) -> None:
        """End: what runs now goes on, except for commands."""
        if self.manager is not None:
            self.manager.close()


def hang_limit(config: Config) -> int:
    """Return how long services may outlive a daemon that hangs, in ns; 0: until it ends.

    That is no longer than its role does. A peer that misses its heartbeats takes the role over, and starts
    the services ANSWER_LIMIT later: half of that is left for the end of the daemon, which the peer notices.
    """
    settings = config.globals
    limits = [settings.address_lifetime_s * SECOND]
    limits += [instance.advert_int_cs * CENTISECOND * SILENT for instance in config.instances]
    if settings.heartbeat_interval_ms and not all(peer.insecure for peer in config.peers):
        missed = settings.heartbeat_interval_ms * settings.heartbeat_miss * MILLISECOND
        limits.append(missed + ANSWER_LIMIT // 2)
    return min(limits) if settings.address_lifetime_s else 0
