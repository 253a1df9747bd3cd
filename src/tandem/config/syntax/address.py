# SPDX-License-Identifier: GPL-2.0-or-later
"""Virtual and static addresses, as ip-address(8) and keepalived.conf(5) write them."""

from __future__ import annotations

import ipaddress
from typing import Any

from tandem.config import values
from tandem.config.syntax.words import (
    SCOPE_NAMES,
    Once,
    Reader,
    Words,
    pairs_text,
    scope,
    unknown_word,
)
from tandem.core.settings import Address

_UNSUPPORTED = {
    "home", "mngtmpaddr", "noprefixroute", "autojoin", "no_track", "track_group", "use_vmac",
}  # fmt: skip


def label(text: str) -> str:
    """Return an address label (IFA_LABEL) of at most 15 bytes; ValueError."""
    if not 1 <= len(text.encode()) <= 15 or not text.isprintable() or " " in text:
        raise ValueError("a label is 1 to 15 bytes without blanks")
    return text


def _lifetime(text: str) -> int | None:
    return None if text == "forever" else values.integer(text, 0, 0xFFFFFFFE)


def read_address(text: str) -> Address:
    """Read `ADDRESS[/LENGTH] [dev NAME] [scope S] [label L] [brd A|+|-] [peer A] [preferred_lft N]`."""
    words = Words(text)
    found = None
    fields = Once()
    readers: dict[str, tuple[str, Reader]] = {
        "dev": ("device", values.device),
        "scope": ("scope", scope),
        "label": ("label", label),
        "brd": ("broadcast", str),
        "broadcast": ("broadcast", str),
        "peer": ("peer", values.interface),
        "preferred_lft": ("preferred_lifetime_s", _lifetime),
    }
    for word in words:
        if word in readers:
            key, read = readers[word]
            fields[key] = words.argument(word, read)
        elif word == "-nodad":
            pass  # always so: an address that waits for DAD comes two seconds late
        elif found is None and word not in _UNSUPPORTED:
            found = values.interface(word)
        else:
            raise unknown_word(word, set(readers), _UNSUPPORTED)
    if found is None:
        raise ValueError("there is no address in it")
    return make_address(found, dict(fields))


def make_address(found: values.Interface, fields: dict[str, Any]) -> Address:
    """Return the Address of a parsed address and its other fields; ValueError."""
    values.unicast(found.ip)
    length = found.network.prefixlen
    if "label" in fields and found.version == 6:
        raise ValueError("labels exist for IPv4 addresses only")
    if "broadcast" in fields:
        fields["broadcast"] = _broadcast(fields["broadcast"], found)
    if "peer" in fields:
        peer: values.Interface = fields["peer"]
        if peer.version != found.version:
            raise ValueError(f"mixes IPv{found.version} and IPv{peer.version}: {peer.ip}")
        fields["peer"] = str(peer.ip)
        if peer.network.prefixlen != peer.max_prefixlen:
            length = peer.network.prefixlen
    if found.version == 6 and length == 128:
        # as keepalived: such an address is deprecated from the start, so that the
        # router does not choose it as the source of its own connections
        fields.setdefault("preferred_lifetime_s", 0)
    return Address(address=str(found.ip), prefixlen=length, family=found.version, **fields)


def _broadcast(text: str, found: values.Interface) -> str:
    if found.version == 6:
        raise ValueError("IPv6 has no broadcast addresses")
    if text == "+":
        return str(found.network.broadcast_address)
    if text == "-":
        return str(found.network.network_address)
    given = values.host(text)
    if given.version == 6:
        raise ValueError(f"mixes IPv4 and IPv6: {text}")
    return str(given)


def write_address(found: Address) -> str:
    """Return the address as `read_address` reads it."""
    text = f"{found.address}/{found.prefixlen}" + pairs_text(
        ("dev", found.device),
        ("brd", found.broadcast),
        ("label", found.label),
        ("scope", SCOPE_NAMES.get(found.scope, found.scope) if found.scope else None),
    )
    if found.peer is not None:
        text += f" peer {found.peer}/{found.prefixlen}"
    if found.preferred_lifetime_s is None and found.family == 6 and found.prefixlen == 128:
        text += " preferred_lft forever"
    elif found.preferred_lifetime_s is not None:
        text += f" preferred_lft {found.preferred_lifetime_s}"
    return text


def is_link_local(address: str) -> bool:
    """Whether `address` is an IPv6 address that means nothing without an interface."""
    found = values.host(address.partition("%")[0])
    return found.version == 6 and found.is_link_local


def zoned(address: str, interface: str | None) -> str:
    """Return the address; a link-local address gets its interface when that is known."""
    return (
        f"{address}%{interface}" if interface and "%" not in address and is_link_local(address) else address
    )


def first_of_network(found: Address) -> str | None:
    """Return a warning when an IPv4 address is the first or the last one of its subnet."""
    if found.family == 6 or found.prefixlen > 30:
        return None
    network = ipaddress.ip_network(f"{found.address}/{found.prefixlen}", strict=False)
    if found.address == str(network.network_address):
        return f"{found.address} is the address of the network {network} itself"
    if found.address == str(network.broadcast_address):
        return f"{found.address} is the broadcast address of {network}"
    return None
