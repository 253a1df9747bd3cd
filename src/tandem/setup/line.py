# SPDX-License-Identifier: GPL-2.0-or-later
"""The line that both routers share, in /etc/config/network and /etc/config/firewall: pure.

A network that follows the role is on the device that Tandem makes, and not on the port. Everything that is
changed here can be changed back from /etc/config/tandem alone, which names both. All other lines of the files
stay as they are, comments included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tandem.config import uci
from tandem.config.schema import Follow

HOLDER = "_line"  # the end of the name of the network that holds the port
_SAME_LINE = ("dhcpv6",)  # protocols of further networks on the port that belong to the line
_PPPOE = "pppoe"
_SHARED = ("dhcp", _PPPOE)  # protocols of a line that two routers can share


def network(text: str, follows: Iterable[Follow], back: bool, hostname: str = "") -> str:
    """Return /etc/config/network with the networks on their devices, or (`back`) on their ports again.

    `hostname` is what the provider is told; "": as it is, otherwise what both routers use. A network of its
    own holds the port: otherwise netifd, which meets the port at a takeover, sets it down for a moment.
    """
    for follow in follows:
        if not follow.device:
            continue
        text = _without_holder(text, follow) if back else _with_holder(text, follow)
        for section in reversed(uci.read(text, "network").sections):  # a new line moves those below
            if _belongs(section, follow, back):
                text = _set(text, section, "device", follow.interface if back else follow.device)
            elif not _belongs(section, follow, not back) and not _aliased(section, follow.name):
                continue
            identity = _identity(section, follow)
            if back:
                text = _without(text, _again(text, section), "clientid", identity)
                continue
            asks = section.name == follow.name and not _is_pppoe(section)  # a DHCP server, with its name
            wanted = {"hostname": hostname if asks else "", "clientid": identity}
            for option, value in wanted.items():
                if value and option not in section.options:
                    text = _set(text, _again(text, section), option, value)
    return text


def _identity(section: uci.Section, follow: Follow) -> str:
    """Return a client id of the MAC address, which two routers have in common.

    OpenWrt makes one of a DUID of the router otherwise (dhcp_default_duid), and the provider would see two
    clients. RFC 2132 section 9.14; a DUID-LL for IPv6, RFC 8415 section 11.4.
    """
    kind = {"dhcp": "01", "dhcpv6": "00030001"}.get("".join(_words(section, "proto")), "")
    return kind and kind + follow.mac.replace(":", "")


def _without(text: str, section: uci.Section, option: str, value: str) -> str:
    """Remove one option, if it has this value."""
    found = section.options.get(option)
    if found is None or not value or found.values[-1].text != value:
        return text
    lines = text.splitlines(keepends=True)
    del lines[found.values[-1].line - 1]
    return "".join(lines)


def zone_devices(text: str, follows: Iterable[Follow]) -> dict[str, str]:
    """Return the device that the firewall sees, by network: of PPPoE it is pppd's (ppp.sh of netifd).

    `text` is /etc/config/network.
    """
    found = {follow.name: follow.device for follow in follows if follow.device}
    for section in uci.read(text, "network").sections:
        if section.type == "interface" and section.name in found and _is_pppoe(section):
            found[section.name] = "".join(_words(section, "pppname")) or f"{_PPPOE}-{section.name}"
    return found


def firewall(text: str, devices: Mapping[str, str], back: bool) -> str:
    """Return /etc/config/firewall with the devices in the zones of their networks, or without them."""
    for name, device in devices.items():
        for section in reversed(uci.read(text, "firewall").sections):
            if section.type != "zone" or name not in _words(section, "network"):
                continue
            named = device in _words(section, "device")
            lines = text.splitlines(keepends=True)
            if back and named:
                for value in reversed(section.options["device"].values):
                    if value.text == device:
                        del lines[value.line - 1]
            elif not back and not named:
                lines.insert(section.line, f"\tlist device {uci.quote(device)}\n")
            text = "".join(lines)
    return text


def port_of(text: str, name: str) -> str | None:
    """Return the port of a network with DHCP or PPPoE, which two routers can share; None: it has none."""
    if proto_of(text, name) not in _SHARED:
        return None
    for section in uci.read(text, "network").sections:
        if section.type == "interface" and section.name == name:
            device = _words(section, "device") or _words(section, "ifname")
            return device[0] if len(device) == 1 and not device[0].startswith("@") else None
    return None


def proto_of(text: str, name: str) -> str:
    """Return the protocol of a network; "": there is no such network."""
    for section in uci.read(text, "network").sections:
        if section.type == "interface" and section.name == name:
            return "".join(_words(section, "proto"))
    return ""


def also_on(text: str, name: str, port: str) -> tuple[str, ...]:
    """Return the networks with DHCPv6 on the line of a network: on its port, or on `@` and its name.

    With PPPoE, one on `@` and its name is on pppd's device, and comes and goes with that.
    """
    line, pppoe = Follow(name, port, f"{name}0"), proto_of(text, name) == _PPPOE
    return tuple(
        one.name
        for one in uci.read(text, "network").sections
        if one.name and one.name != name
        if _belongs(one, line, back=False) or (_aliased(one, name) and not pppoe)
    )


def _with_holder(text: str, follow: Follow) -> str:
    """Let a network without an address hold the port, if no other network is on it but those that move."""
    for section in uci.read(text, "network").sections:
        device = _words(section, "device") or _words(section, "ifname")
        moves = _belongs(section, follow, back=False)
        if section.type == "interface" and device == [follow.interface] and not moves:
            return text
    lines = (f"config interface '{follow.name}{HOLDER}'", f"\toption device {uci.quote(follow.interface)}")
    return "\n".join((text.rstrip("\n"), "", *lines, "\toption proto 'none'", ""))


def _without_holder(text: str, follow: Follow) -> str:
    lines = text.splitlines(keepends=True)
    sections = uci.read(text, "network").sections
    for number, section in enumerate(sections):
        if section.type == "interface" and section.name == follow.name + HOLDER:
            end = sections[number + 1].line - 1 if number + 1 < len(sections) else len(lines)
            return "".join(lines[: section.line - 1] + lines[end:]).rstrip("\n") + "\n"
    return text


def _belongs(section: uci.Section, follow: Follow, back: bool) -> bool:
    if section.type != "interface":
        return False
    device = _words(section, "device") or _words(section, "ifname")
    if section.name == follow.name:
        return device != [follow.interface if back else follow.device]
    return device == [follow.device if back else follow.interface] and _on_same_line(section)


def _aliased(section: uci.Section, name: str) -> bool:
    """Whether the network is on the device of the network `name`, whichever that is."""
    device = _words(section, "device") or _words(section, "ifname")
    return section.type == "interface" and device == [f"@{name}"] and _on_same_line(section)


def _is_pppoe(section: uci.Section) -> bool:
    return _words(section, "proto") == [_PPPOE]


def _on_same_line(section: uci.Section) -> bool:
    return _words(section, "proto")[:1] in ([one] for one in _SAME_LINE)


def _set(text: str, section: uci.Section, option: str, value: str) -> str:
    """Set one option: in the line where it stands, otherwise behind the section's first line."""
    lines = text.splitlines(keepends=True)
    new = f"\toption {option} {uci.quote(value)}\n"
    found = section.options.get(option) or (section.options.get("ifname") if option == "device" else None)
    if found is not None:
        lines[found.values[-1].line - 1] = new
    else:
        if not lines[section.line - 1].endswith("\n"):
            lines[section.line - 1] += "\n"
        lines.insert(section.line, new)
    return "".join(lines)


def _again(text: str, section: uci.Section) -> uci.Section:
    """Return the section as it stands in a changed text."""
    return next(found for found in uci.read(text, "network").sections if found.name == section.name)


def _words(section: uci.Section, option: str) -> list[str]:
    return list(_split(section.options.get(option)))


def _split(option: uci.Option | None) -> Iterator[str]:
    for value in option.values if option is not None else ():
        yield from value.text.split()
