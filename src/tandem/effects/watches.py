# SPDX-License-Identifier: GPL-2.0-or-later
"""Watches: which instance misses an address, a route or a rule that the kernel says is gone."""

from __future__ import annotations

from tandem.effects.rtmessages import AddressMessage, RouteMessage, RuleMessage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from tandem.effects.links import Links
    from tandem.effects.rtmessages import Message
    from tandem.plan.result import Plan

    Watch = tuple[str | int | bytes, ...]


class Watches:
    """Knows everything that the instances of the plan install, and by which instance."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._owners: dict[Watch, str] = {}

    @property
    def owners(self) -> Collection[str]:
        """The instances that install something."""
        return self._owners.values()

    def take(self, plan: Plan) -> None:
        """Watch what the instances of this plan install, on the devices of now."""
        self._owners = {
            self._on_device(watch): name for name, part in plan.instances.items() for watch in part.watch
        }

    def owner_of(self, message: Message) -> str | None:
        """Return the instance that installs what a notification is about; None: nobody does."""
        return self._owners.get(self._watch_of(message))

    def _watch_of(self, message: Message) -> Watch:
        match message:
            case AddressMessage():
                name = self._links.name(message.ifindex)
                return ("address", name or "", message.family, message.address)
            case RouteMessage():
                key = (message.family, message.destination, message.prefixlen, message.table, message.metric)
                return ("route", *key)
            case RuleMessage():
                return ("rule", message.family, message.priority, message.table)
            case _:
                return ()

    def _on_device(self, watch: Watch) -> Watch:
        """Return a watch with the device instead of its network, because notifications name devices."""
        if watch[0] != "address":
            return watch
        return ("address", self._links.device(str(watch[1])) or "no device", *watch[2:])
