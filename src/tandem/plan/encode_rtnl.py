# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses, routes, rules and macvlans of the configuration as rtnetlink templates.

How a route is added decides whether the user's own route survives (tried on Linux 6.18):

* IPv4 keeps several routes with the same destination, TOS and metric when one is added with
  NLM_F_CREATE alone ("prepend"): ours goes in front of the user's and is found first. Sent
  again it answers EEXIST, which is success. NLM_F_REPLACE would overwrite the user's.
* IPv6 makes routes of the same destination and metric one multipath route. So Tandem's own
  default metric, 1023, is one better than the kernel's default of 1024.

Routes and rules carry a protocol number of Tandem's own: the kernel then never takes the
user's for ours when they are deleted, and a later life recognises what was left behind.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Any

from tandem.core.settings import Address, Nexthop, Route, Rule
from tandem.nlmsg import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST
from tandem.plan.messages import rtnl
from tandem.plan.result import ALIAS, FOLLOWER, PROTOCOL, Template
from tandem.plan.template import IndexOf, encode, template

IPV6_METRIC = 1023  # of routes that state none
RULE_PRIORITY = 16384  # of the first rule that states none; the next one gets the next number

FOREVER = 0xFFFFFFFF  # INFINITY_LIFE_TIME, include/net/addrconf.h

_RTN = {"unicast": 1, "blackhole": 6, "unreachable": 7, "prohibit": 8, "throw": 9}  # RTN_*
_FR_ACT = {"lookup": 1, "goto": 2, "nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}  # FR_ACT_*
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTNH_F_ONLINK = 4
_FIB_RULE_INVERT = 2
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 2, 0x200
_IFF_UP = 1
_IN6_ADDR_GEN_MODE_NONE = 1
_ADD = NLM_F_REQUEST | NLM_F_CREATE


def af(family: int) -> int:
    """AF_INET or AF_INET6 for 4 or 6."""
    return AF_INET6 if family == 6 else AF_INET


def packed(address: str) -> bytes:
    """The address in network byte order."""
    return ip_address(address).packed


# --- addresses -----------------------------------------------------------------------


class AddressRequest(rtnl.ifaddrmsg.ifaddrmsg):  # type: ignore[misc]
    """pyroute2's struct ifaddrmsg with the attributes that its older releases (0.8) don't have."""

    nla_map = (
        *rtnl.ifaddrmsg.ifaddrmsg.nla_map[:9],  # up to IFA_FLAGS
        ("IFA_RT_PRIORITY", "uint32"),
        ("IFA_TARGET_NETNSID", "uint32"),
        ("IFA_PROTO", "uint8"),
    )


def add_address(
    address: Address, device: str, lifetime_s: int, protocol: int = PROTOCOL, route_metric: int | None = None
) -> Template:
    """RTM_NEWADDR that adds or refreshes. `lifetime_s` is the valid lifetime, 0: for ever.

    `route_metric` is that of the connected route, the kernel's own by default.

    An IPv6 /128 gets a preferred lifetime of 0 unless the configuration states one, as
    keepalived does: the kernel then doesn't choose it as the source of other traffic.
    """
    valid = lifetime_s or FOREVER
    preferred = address.preferred_lifetime_s
    if preferred is None:
        preferred = 0 if address.family == 6 and address.prefixlen == 128 else valid
    attributes = [
        *_address_attributes(address),
        ("IFA_CACHEINFO", {"ifa_preferred": min(preferred, valid), "ifa_valid": valid}),
        ("IFA_PROTO", protocol),  # Linux 5.18; ignored before
    ]
    if route_metric is not None:
        attributes.append(("IFA_RT_PRIORITY", route_metric))  # Linux 4.18
    if address.family == 6:
        # The kernel would make a route to a /128 as well, which outlives an address that has a lifetime.
        single = address.prefixlen == 128
        attributes.append(("IFA_FLAGS", _IFA_F_NODAD | (_IFA_F_NOPREFIXROUTE if single else 0)))
    else:
        if address.broadcast:
            attributes.append(("IFA_BROADCAST", address.broadcast))
        if address.label:
            attributes.append(("IFA_LABEL", address.label))
    return _address(address, device, rtnl.RTM_NEWADDR, _ADD | NLM_F_REPLACE, attributes)


def delete_address(address: Address, device: str) -> Template:
    """RTM_DELADDR of what `add_address` added."""
    return _address(address, device, rtnl.RTM_DELADDR, NLM_F_REQUEST, _address_attributes(address))


def _address_attributes(address: Address) -> list[tuple[str, Any]]:
    # Without a peer both are the address itself; with one IFA_ADDRESS is the far end.
    return [("IFA_LOCAL", address.address), ("IFA_ADDRESS", address.peer or address.address)]


def _address(
    address: Address, device: str, kind: int, flags: int, attributes: list[tuple[str, Any]]
) -> Template:
    def build(index_of: IndexOf) -> bytes:
        message = AddressRequest()
        message["family"] = af(address.family)
        message["prefixlen"] = address.prefixlen
        message["scope"] = address.scope
        message["index"] = index_of(device)
        message["attrs"] = attributes
        return encode(message, kind, flags)

    return template(f"address {address.address}/{address.prefixlen} dev {device}", build)


# --- routes --------------------------------------------------------------------------


def metric(route: Route) -> int:
    """The metric that the kernel will show."""
    if route.metric is not None:
        return route.metric
    return IPV6_METRIC if route.family == 6 else 0


def add_route(route: Route) -> Template:
    """RTM_NEWROUTE that never replaces; EEXIST means that it is there already."""
    return _route(route, rtnl.RTM_NEWROUTE, _ADD)


def delete_route(route: Route) -> Template:
    """RTM_DELROUTE that matches only what `add_route` added."""
    return _route(route, rtnl.RTM_DELROUTE, NLM_F_REQUEST)


def _route(route: Route, kind: int, flags: int) -> Template:
    destination = ip_network(route.destination)

    def build(index_of: IndexOf) -> bytes:
        message = rtnl.rtmsg.rtmsg()
        message["family"] = af(route.family)
        message["dst_len"] = destination.prefixlen
        message["src_len"] = 0
        message["tos"] = route.tos
        message["table"] = route.table if route.table < 256 else 252  # RT_TABLE_COMPAT; RTA_TABLE decides
        message["proto"] = PROTOCOL if route.protocol is None else route.protocol
        message["scope"] = _scope(route)
        message["type"] = _RTN[route.kind]
        message["flags"] = _RTNH_F_ONLINK if route.onlink else 0
        message["attrs"] = list(_route_attributes(route, destination, index_of))
        return encode(message, kind, flags)

    return template(_route_label(route), build)


def _scope(route: Route) -> int:
    """As `ip route` picks it: link without a gateway, for unicast IPv4 only."""
    if route.scope is not None:
        return route.scope
    direct = route.kind == "unicast" and route.via is None and not route.nexthops
    return _RT_SCOPE_LINK if route.family == 4 and direct else _RT_SCOPE_UNIVERSE


def _route_attributes(route: Route, destination: Any, index_of: IndexOf) -> list[tuple[str, Any]]:
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    if destination.prefixlen:
        attributes.append(("RTA_DST", str(destination.network_address)))
    if metric(route):
        attributes.append(("RTA_PRIORITY", metric(route)))
    if route.source:
        attributes.append(("RTA_PREFSRC", route.source))
    if route.nexthops:
        attributes.append(("RTA_MULTIPATH", [_nexthop(hop, index_of) for hop in route.nexthops]))
    else:
        if route.via:
            attributes.append(("RTA_GATEWAY", route.via))
        if route.device:
            attributes.append(("RTA_OIF", index_of(route.device)))
    stated = (("RTAX_MTU", route.mtu), ("RTAX_ADVMSS", route.advmss))
    metrics = [(name, value) for name, value in stated if value]
    if metrics:
        attributes.append(("RTA_METRICS", {"attrs": metrics}))
    return attributes


def _nexthop(hop: Nexthop, index_of: IndexOf) -> dict[str, Any]:
    return {
        "flags": _RTNH_F_ONLINK if hop.onlink else 0,
        "hops": hop.weight - 1,
        "oif": index_of(hop.device) if hop.device else 0,
        "attrs": [("RTA_GATEWAY", hop.via)] if hop.via else [],
    }


def _route_label(route: Route) -> str:
    words = ["route"]
    if route.kind != "unicast":
        words.append(route.kind)
    words.append("default" if route.destination.endswith("/0") else route.destination)
    for name, value in (("via", route.via), ("dev", route.device), ("src", route.source)):
        if value:
            words += [name, value]
    for hop in route.nexthops:
        words += ["nexthop", hop.via or hop.device or "?"]
    if metric(route):
        words += ["metric", str(metric(route))]
    if route.table != 254:
        words += ["table", str(route.table)]
    return " ".join(words)


# --- rules ---------------------------------------------------------------------------


def add_rule(rule: Rule, priority: int) -> Template:
    """RTM_NEWRULE with NLM_F_EXCL: without this flag the kernel would add another copy each time."""
    return _rule(rule, priority, rtnl.RTM_NEWRULE, _ADD | NLM_F_EXCL)


def delete_rule(rule: Rule, priority: int) -> Template:
    """RTM_DELRULE of what `add_rule` added."""
    return _rule(rule, priority, rtnl.RTM_DELRULE, NLM_F_REQUEST)


def rule_table(rule: Rule) -> int:
    """Return the table that the kernel will show: 0 for a rule without a lookup."""
    if rule.action != "lookup":
        return 0
    return 254 if rule.table is None else rule.table


def _rule(rule: Rule, priority: int, kind: int, flags: int) -> Template:
    source = ip_network(rule.source) if rule.source else None
    destination = ip_network(rule.destination) if rule.destination else None
    table = rule_table(rule)
    attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", priority), ("FRA_PROTOCOL", PROTOCOL)]
    if table:
        attributes.append(("FRA_TABLE", table))
    # Addresses of prefix length 0 are what the kernel calls none at all.
    if source and source.prefixlen:
        attributes.append(("FRA_SRC", str(source.network_address)))
    if destination and destination.prefixlen:
        attributes.append(("FRA_DST", str(destination.network_address)))
    for name, value in (
        ("FRA_IIFNAME", rule.iif),
        ("FRA_OIFNAME", rule.oif),
        ("FRA_FWMARK", rule.fwmark),
        ("FRA_FWMASK", rule.fwmask),
        ("FRA_GOTO", rule.goto),
        ("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlength),
    ):
        if value is not None:
            attributes.append((name, value))

    def build(_: IndexOf) -> bytes:
        message = rtnl.fibmsg.fibmsg()
        message["family"] = af(rule.family)
        message["src_len"] = source.prefixlen if source else 0
        message["dst_len"] = destination.prefixlen if destination else 0
        message["tos"] = rule.tos
        message["table"] = table if table < 256 else 252
        message["action"] = _FR_ACT[rule.action]
        message["flags"] = _FIB_RULE_INVERT if rule.invert else 0
        message["attrs"] = attributes
        return encode(message, kind, flags)

    words = ["rule", "priority", str(priority)]
    stated = (("from", rule.source), ("to", rule.destination), ("iif", rule.iif), ("oif", rule.oif))
    for word, what in stated:
        if what:
            words += [word, what]
    words.append(f"{rule.action} {table or rule.goto or ''}".strip())
    return template(" ".join(words), build)


# --- virtual MAC ---------------------------------------------------------------------


def virtual_mac(virtual_router_id: int, family: int) -> bytes:
    """00-00-5E-00-01-{VRID} for IPv4, 00-00-5E-00-02-{VRID} for IPv6 (RFC 9568 section 7.3)."""
    return bytes((0, 0, 0x5E, 0, 2 if family == 6 else 1, virtual_router_id))


def vmac(name: str, base: str, virtual_router_id: int, family: int) -> dict[str, Any]:
    """The macvlan of an instance with `use_vmac`: create, configure, up, down and delete it.

    In VEPA mode adverts from the peer's macvlan, which has the same MAC address, arrive on the base
    interface, also where that is a macvlan itself: both then have the same device below, and in bridge mode
    the kernel takes the peer's frames for our own. In private mode they arrive on the macvlan, where strict
    rp_filter makes a backup deaf (drivers/net/macvlan.c, macvlan_multicast_rx;
    tests/netns/test_vmac_sysctls.py).
    All but `create` name the device, whose index nobody knows yet. `configure` marks it as Tandem's and
    forbids the kernel to give it a link-local address of its own: RTM_NEWLINK ignores both attributes.
    """
    mac = virtual_mac(virtual_router_id, family)
    no_link_local = (
        "IFLA_AF_SPEC",
        {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _IN6_ADDR_GEN_MODE_NONE)]})]},
    )
    return _macvlan(name, base, mac, "vepa", [("IFLA_IFALIAS", ALIAS), no_link_local])


def follower(name: str, base: str, mac: str) -> dict[str, Any]:
    """The device of a followed network: a macvlan with the MAC address that the provider sees.

    The mode matters only to other macvlans of the port.
    """
    return _macvlan(name, base, bytes.fromhex(mac.replace(":", "")), "private", [("IFLA_IFALIAS", FOLLOWER)])


def _macvlan(name: str, base: str, mac: bytes, mode: str, settings: list[tuple[str, Any]]) -> dict[str, Any]:
    def create(index_of: IndexOf) -> bytes:
        attributes = [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", mac.hex(":")),
            ("IFLA_LINK", index_of(base)),
            (
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ("IFLA_INFO_KIND", "macvlan"),
                        ("IFLA_INFO_DATA", {"attrs": [("IFLA_MACVLAN_MODE", mode)]}),
                    ]
                },
            ),
        ]
        return _link(rtnl.RTM_NEWLINK, _ADD | NLM_F_EXCL, attributes)

    named = [("IFLA_IFNAME", name)]
    return {
        "name": name,
        "base": base,
        "mac": mac,
        "create": template(f"macvlan {name} on {base}", create),
        "configure": (f"settings of {name}", _link(rtnl.RTM_SETLINK, NLM_F_REQUEST, [*named, *settings]), ()),
        "up": (f"link {name} up", _link(rtnl.RTM_SETLINK, NLM_F_REQUEST, named, _IFF_UP), ()),
        "down": (f"link {name} down", _link(rtnl.RTM_SETLINK, NLM_F_REQUEST, named, 0), ()),
        "delete": (f"macvlan {name}", _link(rtnl.RTM_DELLINK, NLM_F_REQUEST, named), ()),
    }


def _link(kind: int, flags: int, attributes: list[tuple[str, Any]], up: int | None = None) -> bytes:
    message = rtnl.ifinfmsg.ifinfmsg()
    message["family"] = AF_UNSPEC
    message["index"] = 0
    message["flags"] = up or 0
    message["change"] = 0 if up is None else _IFF_UP
    message["attrs"] = attributes
    return encode(message, kind, flags)
