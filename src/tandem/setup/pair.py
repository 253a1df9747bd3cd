# SPDX-License-Identifier: GPL-2.0-or-later
"""The set-up of two routers that are to share gateway addresses, and the reasons why one can't work. Pure.

Functions here make a `Setup` from this router's networks and its owner's answers, or name every problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface

from tandem.config.schema import Follow
from tandem.places import DEFAULT_ADVERT_INT, DEFAULT_VRID, SECRET_FILE
from tandem.setup.networks import Interface, Network, Networks

FIRST, SECOND = 101, 100  # priorities; with nopreempt they decide only when both start at once
WITHOUT_WAY_OUT = 50  # the priority that a router loses without its way out


class SetupError(Exception):
    """A set-up can't work; `problems` are sentences for people, never empty."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Shared:
    """A network and the addresses that the two routers share in it."""

    network: Network
    addresses: tuple[str, ...]  # without prefix length, at least one
    dhcp: bool = False  # the active router, and only it, gives the leases
    ra: bool = False  # likewise for router advertisements and DHCPv6


@dataclass(frozen=True, slots=True)
class Setup:
    """The values from which this router's configuration is made."""

    shared: tuple[Shared, ...]
    peer: str | None = None  # the other router; None: connections are not replicated
    priority: int = FIRST
    virtual_router_id: int = DEFAULT_VRID
    advert_int: str = DEFAULT_ADVERT_INT  # seconds
    secret_file: str = SECRET_FILE
    line: Follow | None = None  # the way out that both routers share, and that follows the role
    also: tuple[str, ...] = ()  # further networks on the device of that line: wan6
    hostname: str = ""  # what the provider of the line is told
    uplinks: tuple[str, ...] | None = None  # a router hands over without them; None: never for that reason


def uplinks(shared: Iterable[Shared], networks: Networks) -> tuple[str, ...]:
    """Return the ways out to track, because they can't move along; () if a shared network is one."""
    return () if any(one.network.gateway for one in shared) else networks.uplinks


def shared_line(network: str, port: str | None, mac: str) -> Follow:
    """Return the line of a network on this router. SetupError: no two routers can share it."""
    if port is None:
        raise SetupError(f"network {network} has no port with DHCP or PPPoE that two routers could share")
    return Follow(network, port, f"{network}0", mac)


def share(networks: Networks, name: str, addresses: Sequence[str]) -> Shared:
    """Return the network of this name with these shared addresses. SetupError."""
    network = networks.get(name)
    if network is None:
        raise SetupError(_no_network(networks, name))
    problems = [problem for text in addresses if (problem := address_problem(network, text))]
    if problems:
        raise SetupError(*problems)
    return Shared(network, tuple(plain(network, text) for text in addresses))


def plain(network: Network, text: str) -> str:
    """Return a valid address of the network without its prefix length."""
    return str(ip_interface(text).ip)


def address_problem(network: Network, text: str) -> str | None:
    """Return why both routers can't share this address in the network; None when they can."""
    try:
        address = ip_interface(text)
    except ValueError:
        return f"{text or 'nothing'} is not an IP address"
    own = network.own(address.version)
    if not own:
        return f"{address.ip}: {network.name} has no static IPv{address.version} address"
    place = next((item for item in own if address.ip in item.network), None)
    if place is None:
        subnets = ", ".join(str(item.network) for item in own)
        return f"{address.ip} is not in the subnet of {network.name}, {subnets}"
    if "/" in text and address.network != place.network:
        return f"{text}: {network.name} has the subnet {place.network}"
    if any(address.ip == item.ip for item in own):
        return (
            f"{address.ip} is this router's own address in {network.name}: the shared address is a third one,"
            " beside those of the two routers"
        )
    return _no_host(network, address, place)


def peer_problem(shared: Iterable[Shared], networks: Networks, text: str) -> str | None:
    """Return why this can't be the other router's own address; None when it can."""
    try:
        address = ip_interface(text)
    except ValueError:
        return f"{text or 'nothing'} is not an IP address"
    peer = str(address.ip)
    network = networks.of(peer)
    if network is None:
        return f"{peer} is not in the subnet of any network with a static address"
    for place in network.own(address.version):
        if address.ip == place.ip:
            return f"{peer} is this router's own address"
        if address.ip in place.network and (problem := _no_host(network, address, place)):
            return problem
    for one in shared:
        if peer in one.addresses:
            return f"{peer} is the address that both routers share: the other router has one of its own"
    return None


def _no_host(network: Network, address: Interface, place: Interface) -> str | None:
    """Return why no router may have this address of the subnet of `place`; None when one may."""
    ip, subnet = address.ip, place.network
    small = subnet.prefixlen >= subnet.max_prefixlen - 1  # RFC 3021, RFC 6164: both are hosts
    if not small and ip == subnet.network_address:
        return f"{ip} is the address of the subnet itself"
    if not small and ip.version == 4 and ip == subnet.broadcast_address:
        return f"{ip} is the broadcast address of {network.name}"
    if str(ip) == network.gateway:
        return f"{ip} is the provider's router in {network.name}"
    return None


def _no_network(networks: Networks, name: str) -> str:
    for other, proto in networks.others:
        if other == name:
            why = f"its protocol is {proto}" if proto != "static" else "it has no usable address"
            return f"network {name} can't have a shared address: {why}, both routers need static ones"
    known = ", ".join(network.name for network in networks.static) or "none"
    return f"there is no network {name}; with static addresses: {known}"


def propose_address(network: Network) -> str:
    """Propose an address to share: the first one of the subnet, otherwise the last one that is free."""
    taken = {str(item.ip) for item in network.addresses} | {network.gateway}
    own = (network.own(4) or network.addresses)[0]
    subnet = own.network
    last = int(subnet.broadcast_address) - (1 if own.version == 4 else 0)
    first = int(subnet.network_address) + 1
    for number in (first, *range(last, max(first, last - 8), -1)):
        candidate = str(type(own.ip)(number))
        if candidate not in taken:
            return candidate
    return ""


def propose_peer(shared: Sequence[Shared]) -> str:
    """Propose the other router's address: next to this one's, in the first network without a provider."""
    one = next((item for item in shared if item.network.gateway is None), shared[0])
    own = (one.network.own(4) or one.network.addresses)[0]
    subnet = own.network
    for number in (int(own.ip) + step for step in (1, -1, 2, -2)):
        if not int(subnet.network_address) <= number <= int(subnet.broadcast_address):
            continue
        candidate = ip_interface(f"{type(own.ip)(number)}/{subnet.prefixlen}")
        if str(candidate.ip) not in one.addresses and _no_host(one.network, candidate, own) is None:
            return str(candidate.ip)
    return ""
