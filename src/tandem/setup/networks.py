# SPDX-License-Identifier: GPL-2.0-or-later
"""The networks of /etc/config/network, as far as they matter for a shared gateway address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from tandem.config import uci

Interface = IPv4Interface | IPv6Interface

# Protocols by which a provider gives an IPv4 address to one router, and with it the way out.
_PROVIDED = (
    "dhcp", "pppoe", "pppoa", "ppp", "pptp", "l2tp", "3g", "ncm", "qmi", "mbim", "wwan", "modemmanager",
)  # fmt: skip
_TRUE = ("1", "on", "true", "yes", "enabled")


@dataclass(frozen=True, slots=True)
class Network:
    """A network with a static address, as netifd's `proto static` has it."""

    name: str
    device: str
    addresses: tuple[Interface, ...]  # this router's own
    gateway: str | None = None  # the next router of its default route, IPv4; such a network is a WAN

    def own(self, family: int) -> tuple[Interface, ...]:
        """Return the router's addresses of a family, 4 or 6."""
        return tuple(address for address in self.addresses if address.version == family)


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of the file; `others` have no static address: name and protocol."""

    static: tuple[Network, ...]
    others: tuple[tuple[str, str], ...]
    uplinks: tuple[str, ...] = ()  # names in `others` whose provider gives the address and the way out

    def get(self, name: str) -> Network | None:
        """Return the network of this name."""
        return next((network for network in self.static if network.name == name), None)

    def of(self, address: str) -> Network | None:
        """Return the network whose subnet contains the address."""
        wanted = ip_address(address)
        for network in self.static:
            if any(wanted in own.network for own in network.addresses):
                return network
        return None


def read_networks(text: str, file: str) -> Networks:
    """Return the networks in a text in UCI syntax, without those that netifd would refuse. Never raises."""
    static, others, uplinks = [], [], []
    for section in uci.read(text, file).sections:
        if section.type != "interface" or section.name in (None, "loopback"):
            continue
        name = section.name or ""
        network = _network(name, section)
        if network is not None:
            static.append(network)
            continue
        others.append((name, _value(section, "proto") or "none"))
        unused = _value(section, "disabled") in _TRUE or _value(section, "defaultroute") == "0"
        if _value(section, "proto") in _PROVIDED and not unused:
            uplinks.append(name)
    return Networks(tuple(static), tuple(others), tuple(uplinks))


def served_networks(text: str, file: str) -> frozenset[str]:
    """Return the networks in which dnsmasq gives IPv4 leases; `text` is /etc/config/dhcp. Never raises."""
    served = set()
    for section in uci.read(text, file).sections:
        if section.type == "dhcp" and (name := _value(section, "interface")):
            off = _value(section, "ignore") in _TRUE or _value(section, "dhcpv4") in ("disabled", "relay")
            if not off:
                served.add(name)
    return frozenset(served)


def advertised_networks(text: str, file: str) -> frozenset[str]:
    """Return the networks in which this router sends router advertisements or serves DHCPv6. Never raises.

    `text` is /etc/config/dhcp. OpenWrt has `server` there for lan by default.
    """
    advertised = set()
    for section in uci.read(text, file).sections:
        if section.type == "dhcp" and (name := _value(section, "interface")):
            modes = {_value(section, "ra"), _value(section, "dhcpv6")}
            if modes & {"server", "hybrid"} and _value(section, "ignore") not in _TRUE:
                advertised.add(name)
    return frozenset(advertised)


def _network(name: str, section: uci.Section) -> Network | None:
    device = _device(name, section)
    addresses = tuple(_addresses(section))
    disabled = _value(section, "disabled") in _TRUE
    if _value(section, "proto") != "static" or disabled or not device or not addresses:
        return None
    gateway = _value(section, "gateway")
    try:
        version = ip_address(gateway).version if gateway else 0
    except ValueError:
        version = 0
    return Network(name, device, addresses, gateway if version == 4 else None)


def _device(name: str, section: uci.Section) -> str | None:
    """Return the device, also from OpenWrt before 21.02: an `ifname` that is a port with `type bridge`."""
    if _value(section, "type") == "bridge":
        return f"br-{name}"
    device = _value(section, "device") or _value(section, "ifname") or ""
    words = device.split()
    return words[0] if len(words) == 1 and not device.startswith("@") else None


def _addresses(section: uci.Section) -> Iterator[Interface]:
    mask = _value(section, "netmask")
    for option in ("ipaddr", "ip6addr"):
        for text in _values(section, option):
            try:
                address = ip_interface(text if "/" in text or not mask or ":" in text else f"{text}/{mask}")
            except ValueError:
                continue
            if address.network.prefixlen < address.max_prefixlen:
                yield address


def _values(section: uci.Section, option: str) -> list[str]:
    found = section.options.get(option)
    return [word for value in found.values for word in value.text.split()] if found else []


def _value(section: uci.Section, option: str) -> str | None:
    found = section.options.get(option)
    return found.values[-1].text if found else None
