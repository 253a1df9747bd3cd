# SPDX-License-Identifier: GPL-2.0-or-later
"""Leftovers: objects in the kernel before the daemon starts, of a former life or of another program.

A killed daemon has cleared nothing, and its configuration may have been another one. Its objects therefore
carry marks in the kernel: protocol numbers, and the alias of macvlans.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable

from tandem.effects.netlink import messages
from tandem.effects.rtmessages import (
    AF,
    FOREVER,
    IFA_LOCAL,
    IFADDRMSG,
    IFINFOMSG,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTM_NEWRULE,
    AddressMessage,
    parse,
)
from tandem.effects.rtnl import dump_addresses, dump_links, dump_routes, dump_rules
from tandem.nlmsg import attribute, request
from tandem.plan.result import ALIAS, FOLLOWER, PROTOCOL, STATIC_ADDRESS_PROTOCOL, Plan, Template

_DEL = 1  # RTM_DEL* stand behind RTM_NEW*
_VIRTUAL_MAC = bytes((0, 0, 0x5E, 0))


def leftovers(virtual: Collection[tuple[int, bytes]]) -> tuple[Template, ...]:
    """Return messages that delete the objects that a former life of the daemon left in the kernel.

    Rules, routes and addresses with Tandem's protocol number, and its macvlans; and of the addresses in
    `virtual` (family, packed) those that expire, for kernels that don't keep IFA_PROTO.
    """
    found: list[Template] = []
    for rule, body in dump_rules():
        found.append((f"rule priority {rule.priority} left behind", request(RTM_NEWRULE + _DEL, body), ()))
    for route, body in dump_routes():
        label = f"route {_text(route.family, route.destination)}/{route.prefixlen} left behind"
        found.append((label, request(RTM_NEWROUTE + _DEL, body), ()))
    for address in dump_addresses():
        expires = address.valid_s != FOREVER and (address.family, address.address) in virtual
        if expires or address.protocol in (PROTOCOL, STATIC_ADDRESS_PROTOCOL):
            label = f"address {_text(address.family, address.address)}/{address.prefixlen} left behind"
            found.append((label, request(RTM_NEWADDR + _DEL, _address_body(address)), ()))
    for link in dump_links():
        if link.alias == FOLLOWER or (link.alias == ALIAS and link.mac.startswith(_VIRTUAL_MAC)):
            body = IFINFOMSG.pack(0, 0, link.ifindex, 0, 0)
            found.append((f"macvlan {link.name} left behind", request(RTM_NEWLINK + _DEL, body), ()))
    return tuple(found)


def routes_of(plan: Plan) -> tuple[Template, ...]:
    """Return messages that delete the routes of all instances: some may have another protocol than ours."""
    return tuple(
        template
        for part in plan.instances.values()
        for template in part.down
        if any(kind == RTM_NEWROUTE + _DEL for kind, _, _, _ in messages(template[1]))
    )


def foreign_addresses(
    templates: Iterable[Template], existing: Iterable[AddressMessage], index_of: Callable[[str], int | None]
) -> frozenset[str]:
    """Labels of the templates whose address is on its interface already and isn't Tandem's.

    The owner of an address (priority 255) may have it from /etc/config/network. To send such
    a template would put the dead man's lifetime on somebody else's address, or delete it.
    """
    known = {
        (address.ifindex, address.family, address.address, address.prefixlen)
        for address in existing
        if address.valid_s == FOREVER and address.protocol not in (PROTOCOL, STATIC_ADDRESS_PROTOCOL)
    }
    found = set()
    for label, message, relocations in templates:
        for kind, _, _, body in messages(message):
            wanted = parse(kind, body)
            if isinstance(wanted, AddressMessage) and relocations:
                ifindex = index_of(relocations[0][1])
                if (ifindex, wanted.family, wanted.address, wanted.prefixlen) in known:
                    found.add(label)
    return frozenset(found)


def _address_body(address: AddressMessage) -> bytes:
    header = IFADDRMSG.pack(AF[address.family], address.prefixlen, 0, 0, address.ifindex)
    return header + attribute(IFA_LOCAL, address.address)


def _text(family: int, address: bytes) -> str:
    return socket.inet_ntop(AF[family], address)
