# SPDX-License-Identifier: GPL-2.0-or-later
"""Health checks: starts the checks and virtual servers of a configuration; only these load their modules."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.balancing import Balancing
    from tandem.checking import Checking
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.router import Router
    from tandem.serving import Serving
    from tandem.status_schema import CheckStatus, VirtualServerStatus


class HealthChecks:
    """The checks, and the virtual servers whose connections follow them, when there are any."""

    def __init__(self, loop: Loop, log: Logger, router: Router, serving: Serving) -> None:
        self._loop = loop
        self._log = log
        self._router = router
        self._serving = serving
        self._checking: Checking | None = None
        self._balancing: Balancing | None = None

    def follow(self, plan: Plan) -> None:
        """Have the checks and the virtual servers of `plan`, on the devices of now."""
        config = plan.config
        if config.virtual_servers and self._balancing is None:
            from tandem.balancing import Balancing

            self._balancing = Balancing(self._loop, self._log)
        if (config.checks or config.internets) and self._checking is None:
            from tandem.checking import Checking

            self._checking = Checking(
                self._loop,
                self._log,
                self._router,
                self._ailed,
                self._server_checked,
                lambda: self._serving.running,
            )
        if self._balancing is not None:
            self._balancing.follow(plan)
        if self._checking is not None:
            self._checking.follow(plan)

    def roles(self) -> None:
        """The role of a group may have changed."""
        if self._checking is not None:
            self._checking.roles()

    def served(self) -> None:
        """Other services run than before."""
        if self._checking is not None:
            self._checking.update()

    def restore(self) -> list[str]:
        """Put back the table of the virtual servers; return its name if another program had changed it."""
        return [] if self._balancing is None else self._balancing.restore()

    def status(self) -> list[CheckStatus]:
        """Return the state of each check that is made, for people."""
        return [] if self._checking is None else self._checking.status()

    def virtual_servers(self) -> list[VirtualServerStatus]:
        """Return the state of each virtual server, for people."""
        return [] if self._balancing is None else self._balancing.status()

    @property
    def health(self) -> dict[str, list[str]]:
        """Why nothing is checked, and the virtual servers that reach no real server."""
        found = {} if self._checking is None else self._checking.health
        return found if self._balancing is None else found | self._balancing.health

    def close(self) -> None:
        """End."""
        if self._checking is not None:
            self._checking.close()
        if self._balancing is not None:
            self._balancing.close()

    def _server_checked(self, server: str, check: str, up: bool) -> None:
        if self._balancing is not None:
            self._balancing.checked(server, check, up)

    def _ailed(self, service: str, check: str, reason: str) -> None:
        if self._serving.manager is not None:
            self._serving.manager.ailed(service, check, reason)
