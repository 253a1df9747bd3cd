# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of /etc/config/tandem for a `Setup`."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from tandem.config.uci import quote
from tandem.setup.pair import SECOND, WITHOUT_WAY_OUT, Setup, Shared

_GROUP = "gateway"
_HEAD = """\
# Made by `tandem init`. `tandem check` prints the effective configuration, `tandem options` explains all
# options. After a change: tandem check && tandem reload
"""

Lines = list[str]


def compose(setup: Setup) -> str:
    """Return the configuration of this router, in UCI syntax."""
    instances = [
        (_name(one, family), one, family, addresses)
        for one in setup.shared
        for family in (4, 6)
        if (addresses := [text for text in one.addresses if ip_address(text).version == family])
        or (family == 6 and one.ra)
    ]
    lines = [_HEAD, "config globals 'globals'", _option("enabled", "1")]
    if setup.peer:
        lines += ["\t# `tandem upgrade` on either router upgrades both.", _option("allow_upgrade", "1")]
    if len(instances) > 1:
        lines += ["", "# One router has all of these addresses, or none.", "config vrrp_sync_group"]
        lines += [_option("name", _GROUP), *(_list("group", name) for name, *_ in instances)]
        lines += _follow(setup)
    for name, one, family, addresses in instances:
        lines += _instance(setup, name, one, family, addresses)
    if len(instances) == 1:
        lines += _follow(setup)
    if setup.line is not None:
        lines += ["", "# Both routers share this line; the provider sees one host.", "config follow"]
        lines += [_option("name", setup.line.name), _option("interface", setup.line.interface)]
        lines += [_option("device", setup.line.device), _option("mac", setup.line.mac)]
        for name in setup.also:
            lines += ["", "config follow", _option("name", name), _option("interface", f"@{setup.line.name}")]
    if setup.peer:
        lines += [
            "",
            "# The channel to the other router: connections, leases, tandem doctor.",
        ]
        lines += ["config peer 'other'", _list("address", setup.peer)]
        lines += [_option("secret_file", setup.secret_file)]
        lines += ["", "# Connections outlive a router.", "config conntrack_sync 'sync'"]
    elif any(one.dhcp if family == 4 else one.ra for _, one, family, _ in instances):
        lines += ["", "config dhcp_gateway", _option("replicate", "0")]
    return "\n".join([*lines, ""])


def _instance(setup: Setup, name: str, one: Shared, family: int, addresses: Iterable[str]) -> Lines:
    lines = [
        "",
        "config vrrp_instance",
        _option("name", name),
        _option("interface", one.network.name),
        _option("virtual_router_id", str(setup.virtual_router_id)),
        _option("version", "3"),
        *(_steady(setup.priority) if setup.uplinks is None else _tracking(setup.uplinks)),
        _option("advert_int", setup.advert_int),
    ]
    if family == 6:  # RFC 9568 section 5.2.9: the first address is a link-local one
        lines.append(_list("virtual_ipaddress", f"{_link_local(setup.virtual_router_id)}/64"))
    lines += [_list("virtual_ipaddress", f"{text}/{_length(one, text)}") for text in addresses]
    if family == 4 and one.dhcp:
        lines += ["\t# dnsmasq answers on the active router only, and hands out the shared address."]
        lines.append(_option("dhcp", "1"))
    if family == 6 and one.ra:
        lines += [
            "\t# Router advertisements and DHCPv6 come from the active router only, by the shared address.",
            _option("dhcp", "1"),
        ]
    if family == 4 and one.network.gateway:
        source = next(iter(addresses))
        route = f"src {source} to 0.0.0.0/0 via {one.network.gateway} metric 5"
        lines += [
            "\t# The way out, and with it source NAT to the shared address.",
            _list("virtual_routes", route),
        ]
    return lines


def _follow(setup: Setup) -> Lines:
    """The way out of the active router; the group has it, or the only instance."""
    names = () if setup.line is None else (setup.line.name, *setup.also)
    return [_list("follow", name) for name in names]


def _steady(priority: int) -> Lines:
    return [_option("priority", str(priority)), _option("nopreempt", "1")]


def _tracking(uplinks: Iterable[str]) -> Lines:
    """Give both routers one priority: a router with a way out takes over from one without, and stays."""
    return [
        "\t# The way out has an address of its own on each router and does not move along: a router without",
        "\t# it hands over. Connections to the internet, port forwards and VPNs do not survive that.",
        _option("priority", str(SECOND)),
        *(_list("track_interface", f"{name} weight -{WITHOUT_WAY_OUT}") for name in uplinks),
    ]


def _name(one: Shared, family: int) -> str:
    return one.network.name if family == 4 else f"{one.network.name}_v6"


def _length(one: Shared, text: str) -> int:
    """Return the prefix length of the address's subnet."""
    ip = ip_interface(text).ip
    return next(own.network.prefixlen for own in one.network.addresses if ip in own.network)


def _link_local(virtual_router_id: int) -> str:
    """Return the link-local address of the virtual MAC 00-00-5E-00-02-ID (RFC 9568 section 7.3)."""
    return str(ip_address(f"fe80::200:5eff:fe00:2{virtual_router_id:02x}"))


def _option(name: str, value: str) -> str:
    return f"\toption {name} {quote(value)}"


def _list(name: str, value: str) -> str:
    return f"\tlist {name} {quote(value)}"
