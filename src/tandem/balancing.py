# SPDX-License-Identifier: GPL-2.0-or-later
"""Balancing: the real servers that are up get the connections to virtual servers.

Only `config virtual_server` loads this module. When a server goes down (core/balance.py), its connections end
at once, so that clients try again: nobody would answer them.
"""

from __future__ import annotations

import sys

from tandem.core.balance import Balance
from tandem.core.timers import SECOND
from tandem.effects.process import Processes
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.core.settings import VirtualServer
    from tandem.effects.balancer import Balancer
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.status_schema import VirtualServerStatus

FLUSH = f"{PACKAGE_DIR}/tandem/conntrack/flush.py"
FLUSH_LIMIT = 30 * SECOND
PROTOCOLS = {"tcp": 6, "udp": 17}


class Balancing:
    """The virtual servers, when there are any."""

    def __init__(self, loop: Loop, log: Logger) -> None:
        self._loop = loop
        self._log = log
        self._balance = Balance()
        self._balancer: Balancer | None = None
        self._processes: Processes | None = None
        self._said = ""

    def follow(self, plan: Plan) -> None:
        """Have the virtual servers of `plan`."""
        self._balance.settle(plan.config.virtual_servers, plan.config.real_servers)
        if plan.balance is None:
            self.close()
            return
        if self._balancer is None:
            from tandem.effects.balancer import Balancer

            self._balancer = Balancer()
            self._processes = Processes(self._loop, self._log, limit=8)
        self._balancer.hold(plan.balance, self._balance.owners)
        self._note_refusals()

    def checked(self, server: str, check: str, up: bool) -> None:
        """A check of a real server has changed its state."""
        if self._balancer is None or not self._balance.checked(server, check, up):
            return
        now = self._balance.is_up(server)
        self._log.change(("real server", server), "info", f"real_server {server}: {'up' if now else 'DOWN'}")
        self._balancer.assign(self._balance.owners)
        self._note_refusals()
        if not now:
            self._end_connections(server)

    def restore(self) -> list[str]:
        """Put the table back if another program has changed it; return its name then. OSError."""
        if self._balancer is None or not self._balancer.restore():
            return []
        self._note_refusals()
        return ["table inet tandem_balance"]

    def close(self) -> None:
        """End: connections that are there go on, and no new ones are translated."""
        if self._balancer is not None and self._processes is not None:
            self._balancer.clear()
            self._processes.close()
        self._balancer = self._processes = None

    def _note_refusals(self) -> None:
        refused = "; ".join(map(str, self._balancer.failures)) if self._balancer is not None else ""
        if refused and refused != self._said:
            self._log.error(f"virtual servers: {refused}")
        self._said = refused

    def _end_connections(self, server: str) -> None:
        assert self._processes is not None  # there is a balancer
        address = self._balance.real[server].address
        for protocol, port in self._balance.ends(server):
            argv = [sys.executable, "-IS", FLUSH, address, str(PROTOCOLS[protocol]), str(port)]
            self._processes.start(argv, FLUSH_LIMIT, lambda _ended: None)

    def status(self) -> list[VirtualServerStatus]:
        """Return the state of each virtual server, for people."""
        return [self._status(virtual) for virtual in self._balance.virtual]

    def _status(self, virtual: VirtualServer) -> VirtualServerStatus:
        balance = self._balance
        host = f"[{virtual.address}]" if ":" in virtual.address else virtual.address
        return {
            "name": virtual.name,
            "address": f"{host}:{virtual.port}",
            "protocol": virtual.protocol,
            "algorithm": virtual.algorithm,
            "sorry": balance.is_sorry(virtual.name),
            "servers": [
                {
                    "name": name,
                    "address": balance.real[name].address,
                    "port": balance.port(virtual, name),
                    "weight": balance.real[name].weight,
                    "up": balance.is_up(name),
                    "share": balance.share(virtual.name, name),
                }
                for name in virtual.servers
            ],
        }

    @property
    def health(self) -> dict[str, list[str]]:
        """The virtual servers that reach no real server."""
        found = [f"nftables refuses the rules: {self._said}"] if self._said else []
        found += [
            f"{virtual.name}: no real server is up"
            for virtual in self._balance.virtual
            if not self._balance.reaches(virtual.name)
        ]
        return {"virtual_servers": found} if found else {}
