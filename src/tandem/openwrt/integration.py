# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's parts that exist only on OpenWrt: the object `tandem` on ubus, and netifd's networks."""

from __future__ import annotations

from tandem.openwrt.connection import Connection
from tandem.openwrt.netifd import Networks, names_in
from tandem.openwrt.tandem_object import TandemObject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tandem.control.server import Handler
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.status_schema import Entry


class OpenWrt:
    """Puts the parts together. Raises OSError when there is no libubus.

    `path` is ubusd's socket (None: the usual one); `handler` runs the commands; `on_networks` gets the
    devices of the networks, and `on_followed` netifd's word of those that follow the role, see `Networks`.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        path: str | None,
        handler: Handler,
        on_networks: Callable[[dict[str, str | None]], None],
        on_followed: Callable[[str, dict[str, Any], bool], None],
    ) -> None:
        self._connection = Connection(loop, log, path)
        self._object = TandemObject(self._connection, loop, handler)
        self._networks = Networks(self._connection, loop, log, on_networks, on_followed)
        self._connection.parts = [self._networks, self._object]

    @property
    def counters(self) -> dict[str, int]:
        """Return the counters of failures on the bus."""
        return self._connection.counters

    def start(self) -> None:
        """Connect to the bus now, or as soon as ubusd is there."""
        self._networks.start()
        self._connection.start()

    def take_plan(self, plan: Plan) -> None:
        """Follow the networks that this plan names."""
        followed = frozenset(follow.name for follow in plan.config.follows)
        self._networks.follow(names_in(plan.config), plan.leases.resolvers if plan.leases else {}, followed)

    def ask(self, method: str, network: str) -> None:
        """Ask netifd for a followed network to be "up" or "down", or for a "status", see `Networks.ask`."""
        self._networks.ask(method, network)

    def told(self, transition: Entry) -> None:
        """Send a transition to the subscribers, see `history.entry`."""
        self._object.tell(dict(transition))

    def stop(self) -> None:
        """Send the transitions that still wait, and leave the bus."""
        self._object.flush()
        self._connection.stop()
