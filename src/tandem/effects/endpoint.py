# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoint: one instance's side of the wire and of the kernel, with everything prebuilt.

Packets, frames and batches are made when their ingredients change (interface index, MAC address, primary
address). A promotion then only sends bytes that are ready.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tandem.core.packet import AUTH_NONE, AUTH_PASSWORD, Advertisement, Expected, auth_field, encode
from tandem.core.prefix import Form
from tandem.core.settings import Instance
from tandem.effects.announce import announcement, request_frame
from tandem.effects.rtnl import Batch, Unbound, bind
from tandem.effects.vrrp_socket import VrrpSocket, expected_of, group_of, pack, pack_all
from tandem.plan.result import InstancePlan, Template

Stranger = tuple[bytes, int, int, int]
"""Packed source, priority and interval in centiseconds of an advert, and when it came, ns."""

EMPTY = Unbound(("nothing bound yet",))


class Endpoint:
    """The prebuilt packets, frames and netlink batches of one instance, and its counters."""

    def __init__(self, settings: Instance, plan: InstancePlan) -> None:
        self.settings = settings
        self.plan = plan
        self.counters: dict[str, int] = {}
        self.installed = False
        self.installed_at = 0  # when the kernel had the addresses, ns
        self.announced_at = 0  # when hosts were first told after that
        self.unsent = 0  # adverts that could not be sent since one was
        self.source: bytes | None = None
        self._last_source: bytes | None = None  # for resignations when the source has gone
        self.socket: VrrpSocket | None = None
        self.frames: tuple[tuple[str, tuple[bytes, ...]], ...] = ()  # announcements by interface
        self.mac_wanted = False  # only while active: otherwise a flooding switch makes a backup forward too
        self.mac_is_up = False
        self.mac_up: Batch | Unbound = EMPTY
        self.mac_down: Batch | Unbound = EMPTY
        self.up: Batch | Unbound = EMPTY
        self.refresh: Batch | Unbound = EMPTY
        self.down: Batch | Unbound = EMPTY
        self.expected: Expected = expected_of(settings)
        self.destinations = _destinations(settings)
        self.configured = _configured(settings)  # packed addresses of the routers in the configuration
        self.known = self.configured  # with others that are known, see `Hearing.sort`
        self.stranger: Stranger | None = None  # the last one that was ignored
        self._adverts: dict[tuple[int, bytes], bytes] = {}

    @property
    def home(self) -> str:
        """The interface that carries the virtual addresses."""
        return self.settings.use_vmac or self.settings.interface

    @property
    def sends_on(self) -> str:
        """The interface that adverts leave by; they arrive on the configured one (see vrrp_socket)."""
        return self.settings.interface if self.settings.vmac_xmit_base else self.home

    @property
    def virtual_addresses(self) -> tuple[bytes, ...]:
        """Every virtual address, packed."""
        addresses = self.settings.virtual_addresses + self.settings.excluded_addresses
        return tuple(pack(address.address) for address in addresses)

    def count(self, counter: str, by: int = 1) -> None:
        """Add to a counter."""
        self.counters[counter] = self.counters.get(counter, 0) + by

    def reconfigure(self, settings: Instance, plan: InstancePlan) -> None:
        """Take the settings of a reload; what was bound must be bound anew."""
        self.settings, self.plan = settings, plan
        self.destinations = _destinations(settings)
        self.configured = _configured(settings)
        self.set_source(self.source)

    def bind(
        self,
        index_of: Callable[[str], int | None],
        foreign: frozenset[str] = frozenset(),
        forms: dict[str, Form] | None = None,
    ) -> None:
        """Fill the interface indexes of now into the netlink batches, without what is labelled `foreign`.

        `forms` says by label how to install the addresses that have several forms.

        A macvlan may be another one than before, so it counts as down.
        """
        self.mac_is_up = False
        vmac = self.plan.vmac
        self.mac_up = bind([vmac.up] if vmac else [], index_of)
        self.mac_down = bind([vmac.down] if vmac else [], index_of)
        up, refresh, down = (
            [template for template in templates if template[0] not in foreign]
            for templates in (self.plan.up, self.plan.refresh, self.plan.down)
        )
        self.up = bind(self._formed(up, forms or {}), index_of)
        self.refresh = bind(self._formed(refresh, forms or {}), index_of)
        single = [other.remove for label, other in self.plan.forms.items() if label not in foreign]
        self.down = bind([*down, *single], index_of, skip_missing=True)

    def _formed(self, templates: list[Template], forms: dict[str, Form]) -> list[Template]:
        found = []
        for template in templates:
            others, form = self.plan.forms.get(template[0]), forms.get(template[0])
            if others is not None and form is Form.BESIDE:
                template = others.beside
            elif others is not None and form is Form.ALONE:
                template = others.alone
            found.append(template)
        return found

    def set_source(self, source: bytes | None) -> None:
        """Send from `source`; packets from it are our own."""
        self._last_source = source or self.source or self._last_source
        self.source = source
        self.expected = expected_of(self.settings, (source,) if source else ())
        self._adverts.clear()

    def set_macs(self, mac_of: Callable[[str], bytes | None]) -> None:
        """Announce every virtual address at the MAC address of its interface, if that is Ethernet."""
        found: dict[str, list[bytes]] = {}
        for address in self.settings.virtual_addresses + self.settings.excluded_addresses:
            device = address.device or self.home
            mac = mac_of(device)
            if mac is not None and len(mac) == 6:
                found.setdefault(device, []).append(announcement(mac, pack(address.address)))
        self.frames = tuple((device, tuple(frames)) for device, frames in found.items())

    def greetings(self, mac: bytes | None) -> tuple[bytes, ...]:
        """The frames that tell the LAN our own address at `mac`, and ask for the unicast peers'."""
        source = self.source
        if source is None or mac is None or len(mac) != 6:
            return ()
        peers = map(pack, self.settings.unicast_peers)
        return (announcement(mac, source), *(request_frame(mac, source, peer) for peer in peers))

    def advertise(self, priority: int) -> int:
        """Send one advertisement to every destination: 0 or the last errno."""
        source = self.source or (None if priority else self._last_source)
        if self.socket is None or source is None:
            return -1
        result = 0
        for destination in self.destinations:
            payload = self._adverts.get((priority, destination)) or self._encode(
                priority, source, destination
            )
            result = self.socket.send(payload, source, destination, self.settings.unicast_ttl) or result
        return result

    def _encode(self, priority: int, source: bytes, destination: bytes) -> bytes:
        settings = self.settings
        advert = Advertisement(
            version=settings.version,
            vrid=settings.virtual_router_id,
            priority=priority,
            interval_cs=settings.advert_int_cs,
            addresses=tuple(pack(address.address) for address in settings.virtual_addresses),
            auth_type=AUTH_NONE if settings.auth_pass is None else AUTH_PASSWORD,
            auth_data=b"" if settings.auth_pass is None else auth_field(settings.auth_pass),
        )
        payload = encode(advert, source, destination, settings.v3_checksum_as_v2)
        self._adverts[priority, destination] = payload
        return payload


def _destinations(settings: Instance) -> list[bytes]:
    group = group_of(settings)
    return [group] if group else [pack(peer) for peer in settings.unicast_peers]


def _configured(settings: Instance) -> frozenset[bytes]:
    return pack_all(settings.unicast_peers + settings.allow_src)


def text(address: bytes) -> str:
    """A packed address for people."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
