# SPDX-License-Identifier: GPL-2.0-or-later
"""The services of a vrrp_instance for the networks of its virtual addresses: source NAT and DHCP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tandem.config import values
from tandem.config.read import Parsed
from tandem.config.syntax.words import TABLES
from tandem.core.settings import Address, Route


def vmac_name(parsed: Parsed) -> str | bool | None:
    """Return the name in use_vmac; True: Tandem chooses one, False: no virtual MAC, None: it is no name."""
    text = parsed.get("use_vmac")
    if text.lower() in values.FALSE:
        return False
    if text.lower() in values.TRUE:
        return True
    try:
        return values.device(text)
    except ValueError:
        return None


def link_local(address: Address) -> bool:
    """Whether an address is an IPv6 link-local one."""
    return address.family == 6 and values.host(address.address).is_link_local


def dhcp(parsed: Parsed, family: int, carried: Sequence[Address]) -> dict[str, Any]:
    """Return the fields that say whether DHCP follows the role, and for which networks."""
    if not parsed.get("dhcp"):
        for option in ("dhcp_tag", "dhcp_network"):
            if parsed.given(option):
                parsed.warn("has no effect without option dhcp '1'", option)
        return {"dhcp": False, "dhcp_tag": None, "dhcp_networks": ()}
    given = [item.value for item in parsed.all("dhcp_network")]
    for item in parsed.all("dhcp_network"):
        if (":" in item.value) != (family == 6):
            parsed.error(f"is no network of IPv{family}", "dhcp_network", item)
    networks = [
        str(values.interface(f"{address.address}/{address.prefixlen}").network)
        for address in carried
        if address.family == family
        and not link_local(address)
        and address.prefixlen < (31 if family == 4 else 127)
    ]
    if not given and not networks and family == 4:
        reason = "no virtual address tells the network: give it a prefix length, or add dhcp_network"
        parsed.warn(reason, "dhcp")
    return {"dhcp_networks": tuple(dict.fromkeys(given or networks))}


def snat(parsed: Parsed, family: int, carried: Sequence[Address], routes: Sequence[Route]) -> str | None:
    """Return the virtual address that outgoing packets get as source; None: they keep theirs."""
    text: str | None = parsed.get("snat")
    usable = [address.address for address in carried if address.family == family and not link_local(address)]
    if text is None:
        return _default_snat(parsed, family, carried, routes)
    if text.lower() in values.FALSE:
        return None
    if text.lower() in values.TRUE:
        if not usable:
            parsed.error(f"there is no IPv{family} virtual address to translate to", "snat")
        return usable[0] if usable else None
    try:
        wanted = str(values.host(text))
    except ValueError:
        parsed.error("must be 0, 1 or one of the virtual addresses", "snat")
        return None
    if wanted not in [address.address for address in carried]:
        parsed.error("must be one of the instance's own virtual addresses", "snat")
    return wanted


def _default_snat(
    parsed: Parsed, family: int, carried: Sequence[Address], routes: Sequence[Route]
) -> str | None:
    """Return the source of the IPv4 default route, or the first address; None without such a route.

    The route must be in the main table and lead over the instance's own interface. Any other route is
    there for some of the traffic (policy routing) or belongs to another network, and says nothing about
    translation here.
    """
    own = (None, parsed.get("interface"), vmac_name(parsed))
    here = [address.address for address in carried if address.family == 4 and address.device in own]
    if family == 6 or not here:
        return None
    for route in routes:
        devices = [hop.device for hop in route.nexthops] or [route.device]
        if (
            route.destination == "0.0.0.0/0"
            and (route.kind, route.table, route.tos) == ("unicast", TABLES["main"], 0)
            and all(device in own for device in devices)
        ):
            return route.source if route.source in here else here[0]
    return None
