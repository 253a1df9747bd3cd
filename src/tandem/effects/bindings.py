# SPDX-License-Identifier: GPL-2.0-or-later
"""Bindings: every endpoint is connected to the links of now, and the router hears what follows from a change.

An endpoint gets a socket, its source address, its MAC address, and netlink batches with the present interface
indexes. When one of these has changed under an active instance, its addresses are installed again.
"""

from __future__ import annotations

from tandem.core.prefix import Form, form_of
from tandem.core.tracking import OWNER
from tandem.effects.rtnl import Rtnl, Unbound
from tandem.effects.vrrp_socket import pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from tandem.effects.endpoint import Endpoint
    from tandem.effects.guard import Guard
    from tandem.effects.links import Links
    from tandem.effects.sockets import Sockets
    from tandem.plan.result import InstancePlan, Plan

    # For each interface that an instance needs: name, index, whether it is usable, MAC address
    _LinkFacts = tuple[tuple[str, int | None, bool, bytes | None], ...]
    _Facts = tuple[Endpoint, _LinkFacts, InstancePlan, bytes | None, dict[str, Form]]

    class Listener(Protocol):
        """The router, which hears what has changed."""

        def reinstall(self, name: str) -> None: ...
        def moved(self, name: str) -> None: ...
        def rebound(self, name: str) -> None: ...


class Bindings:
    """The endpoints and the facts that each was last connected to.

    `switch` is the table of addresses with an ordinary lifetime; None: this kernel has none.
    """

    def __init__(self, links: Links, rtnl: Rtnl, sockets: Sockets, switch: Guard | None) -> None:
        self._links = links
        self._rtnl = rtnl
        self._sockets = sockets
        self._switch = switch
        self._bound: dict[str, _Facts] = {}  # by instance

    def connect(self, endpoint: Endpoint, plan: Plan, foreign: frozenset[str], listener: Listener) -> None:
        """Connect the endpoint to the links of now; `foreign` are labels of addresses that are not ours."""
        settings = endpoint.settings
        endpoint.socket = self._sockets.of(endpoint)
        source = self._source(endpoint)
        names = {name for _, _, relocations in endpoint.plan.up for _, name in relocations}
        links = tuple(
            (name, self._links.index(name), self._links.usable(name), self._links.mac(name))
            for name in sorted(names)
        )
        forms = self._forms(endpoint, plan)
        before, facts = self._bound.get(settings.name), (endpoint, links, endpoint.plan, source, forms)
        if before == facts:
            return
        self._bound[settings.name] = facts
        reformed = before is not None and self._reformed(before[4], forms)
        if endpoint.installed and before is not None and (reformed or self._moved(before[1], links)):
            self._clear(endpoint)
        endpoint.bind(self._links.index, foreign, forms)
        endpoint.set_macs(self._links.mac)
        endpoint.set_source(source)
        active = endpoint.installed or endpoint.mac_wanted
        if active and before is not None and (reformed or before[1] != links):
            listener.reinstall(settings.name)  # routes go silently when an interface goes down
            if [mac for *_, mac in before[1]] != [mac for *_, mac in links]:
                listener.moved(settings.name)
        elif (
            not endpoint.installed and before is not None and self._others_changed(endpoint, before[1], links)
        ):
            listener.rebound(settings.name)

    def _others_changed(self, endpoint: Endpoint, before: _LinkFacts, links: _LinkFacts) -> bool:
        """Whether interfaces other than the endpoint's macvlan have changed: that one follows the role."""
        own = endpoint.plan.vmac.name if endpoint.plan.vmac else None
        return [link for link in before if link[0] != own] != [link for link in links if link[0] != own]

    def _forms(self, endpoint: Endpoint, plan: Plan) -> dict[str, Form]:
        """Return the forms of the addresses that have several, by label."""
        if not endpoint.plan.forms:
            return {}
        virtual = virtual_addresses(plan)
        switch = self._switch is not None and (self._switch.holds or not plan.switch.hold)
        return {
            label: form_of(
                found.address, found.prefixlen, self._links.own_addresses(found.device, 6, virtual), switch
            )
            for label, found in endpoint.plan.forms.items()
        }

    def _reformed(self, before: dict[str, Form], forms: dict[str, Form]) -> bool:
        """Whether an address must be installed in another way than before."""
        return any(before.get(label, form) is not form for label, form in forms.items())

    def _moved(self, before: _LinkFacts, links: _LinkFacts) -> bool:
        """Whether a name has left a device that is still there."""
        indexes = {name: index for name, index, _, _ in links}
        return any(
            index is not None and indexes.get(name) != index and self._links.name(index) is not None
            for name, index, _, _ in before
        )

    def _clear(self, endpoint: Endpoint) -> None:
        """Remove everything that an active instance has installed on the devices that it is bound to."""
        if not isinstance(endpoint.down, Unbound):
            self._rtnl.send(endpoint.down)  # what is gone already is no matter

    def _source(self, endpoint: Endpoint) -> bytes | None:
        settings = endpoint.settings
        if self._links.index(settings.interface) is None:
            return None
        if settings.source:
            configured = pack(settings.source)
            there = not settings.track_src_ip or self._links.can_send_from(settings.interface, configured)
            return configured if there else None
        # The owner's virtual address is its own; anybody else's may be a leftover.
        exclude = () if settings.priority == OWNER else endpoint.virtual_addresses
        found = self._links.primary_address(settings.interface, settings.family, exclude)
        return endpoint.source if found is None and not settings.track_primary else found


def virtual_addresses(plan: Plan) -> frozenset[bytes]:
    """Every virtual address of the plan, packed."""
    return frozenset(
        pack(address.address)
        for instance in plan.config.instances
        for address in instance.virtual_addresses + instance.excluded_addresses
    )
