# SPDX-License-Identifier: GPL-2.0-or-later
"""Balancing: the real servers that are up get the connections to virtual servers.

Only `config virtual_server` loads this module. A server is up as long as none of its checks is known to be
down. When it goes down, its connections end at once, so that clients try again: nobody would answer them.
"""

from __future__ import annotations

import sys

from tandem.core.timers import SECOND
from tandem.effects.process import Processes
from tandem.programs import PACKAGE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.config.schema import RealServer, VirtualServer
    from tandem.effects.balancer import Balancer
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.status_schema import VirtualServerStatus

FLUSH = f"{PACKAGE_DIR}/tandem/conntrack/flush.py"
FLUSH_LIMIT = 30 * SECOND
PROTOCOLS = {"tcp": 6, "udp": 17}
SORRY = ""  # stands for the sorry server


class Balancing:
    """The virtual servers, when there are any."""

    def __init__(self, loop: Loop, log: Logger) -> None:
        self._loop = loop
        self._log = log
        self._balancer: Balancer | None = None
        self._processes: Processes | None = None
        self._virtual: tuple[VirtualServer, ...] = ()
        self._real: dict[str, RealServer] = {}
        self._down: dict[str, set[str]] = {}  # the checks of real servers that are down
        self._owners: dict[str, tuple[str, ...]] = {}
        self._said = ""

    def follow(self, plan: Plan) -> None:
        """Have the virtual servers of `plan`."""
        self._virtual = plan.config.virtual_servers
        self._real = {server.name: server for server in plan.config.real_servers}
        self._down = {
            name: down & set(self._real[name].checks)
            for name, down in self._down.items()
            if name in self._real
        }
        if plan.balance is None:
            self.close()
            return
        if self._balancer is None:
            from tandem.effects.balancer import Balancer

            self._balancer = Balancer()
            self._processes = Processes(self._loop, self._log, limit=8)
        self._owners = self._assign()
        self._balancer.hold(plan.balance, self._owners)
        self._judge()

    def checked(self, server: str, check: str, up: bool) -> None:
        """A check of a real server has changed its state."""
        if server not in self._real or self._balancer is None:
            return
        before = self._is_up(server)
        down = self._down.setdefault(server, set())
        (down.discard if up else down.add)(check)
        now = self._is_up(server)
        if now == before:
            return
        self._log.change(("real server", server), "info", f"real_server {server}: {'up' if now else 'DOWN'}")
        self._owners = self._assign()
        self._balancer.assign(self._owners)
        self._judge()
        if not now:
            self._end_connections(self._real[server])

    def restore(self) -> list[str]:
        """Put the table back if another program has changed it; return its name then. OSError."""
        if self._balancer is None or not self._balancer.restore():
            return []
        self._judge()
        return ["table inet tandem_balance"]

    def close(self) -> None:
        """End: connections that are there go on, and no new ones are translated."""
        if self._balancer is not None and self._processes is not None:
            self._balancer.clear()
            self._processes.close()
        self._balancer = self._processes = None

    def _is_up(self, server: str) -> bool:
        return not self._down.get(server)

    def _assign(self) -> dict[str, tuple[str, ...]]:
        from tandem.core.balance import SLOTS, assign

        found = {}
        for virtual in self._virtual:
            weights = {name: self._real[name].weight for name in virtual.servers}
            up = {name for name in virtual.servers if self._is_up(name)}
            found[virtual.name] = assign(weights, up) or ((SORRY,) * SLOTS if virtual.sorry_address else ())
        return found

    def _judge(self) -> None:
        """Log what the kernel refuses."""
        refused = "; ".join(map(str, self._balancer.failures)) if self._balancer is not None else ""
        if refused and refused != self._said:
            self._log.error(f"virtual servers: {refused}")
        self._said = refused

    def _end_connections(self, server: RealServer) -> None:
        assert self._processes is not None  # there is a balancer
        ends = {
            (virtual.protocol, server.port or virtual.port)
            for virtual in self._virtual
            if server.name in virtual.servers
        }
        for protocol, port in sorted(ends):
            argv = [sys.executable, "-IS", FLUSH, server.address, str(PROTOCOLS[protocol]), str(port)]
            self._processes.start(argv, FLUSH_LIMIT, lambda _ended: None)

    def status(self) -> list[VirtualServerStatus]:
        """Return the state of each virtual server, for people."""
        return [self._status(virtual) for virtual in self._virtual]

    def _status(self, virtual: VirtualServer) -> VirtualServerStatus:
        slots = self._owners.get(virtual.name, ())
        host = f"[{virtual.address}]" if ":" in virtual.address else virtual.address
        return {
            "name": virtual.name,
            "address": f"{host}:{virtual.port}",
            "protocol": virtual.protocol,
            "algorithm": virtual.algorithm,
            "sorry": bool(slots) and slots[0] == SORRY,
            "servers": [
                {
                    "name": name,
                    "address": self._real[name].address,
                    "port": self._real[name].port or virtual.port,
                    "weight": self._real[name].weight,
                    "up": self._is_up(name),
                    "share": round(slots.count(name) / len(slots), 3) if slots else 0.0,
                }
                for name in virtual.servers
            ],
        }

    @property
    def health(self) -> dict[str, list[str]]:
        """The virtual servers that reach no real server."""
        found = [f"nftables refuses the rules: {self._said}"] if self._said else []
        for virtual in self._virtual:
            slots = self._owners.get(virtual.name, ())
            if not slots or slots[0] == SORRY:
                found.append(f"{virtual.name}: no real server is up")
        return {"virtual_servers": found} if found else {}
