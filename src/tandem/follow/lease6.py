# SPDX-License-Identifier: GPL-2.0-or-later
"""IPv6 leases as netifd shows them, and as routers tell them to each other; see lease.py.

In a message, a lease has `prefixes` and `addresses`, which an IPv4 lease lacks: [address, length, seconds
preferred, seconds valid]. A route is [destination, gateway, source, metric, seconds], and an address of a
network of the router is [network, address, length]: its lifetimes are those of its prefix. A next hop, also
of IPv4, is [address, MAC address].
"""

from __future__ import annotations

from dataclasses import replace
from socket import AF_INET6, inet_ntop, inet_pton

from tandem.core.lease import Lease6, Lent, Route6
from tandem.core.timers import SECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from tandem.core.lease import NextHops

    Lan = tuple[str, str, int]  # network of the router, address, prefix length

PROTO = "dhcpv6"
_PARTS_MAX, _ROUTES_MAX, _LANS_MAX = 16, 64, 32
HOPS_MAX = 8
_FOREVER = 0xFFFFFFFF  # s; RFC 8415 section 7.7
_SECONDS_MAX = 365 * 86400  # longer ones need no more: the provider is asked after every takeover
_RTN_UNREACHABLE = 7  # include/uapi/linux/rtnetlink.h


def from_netifd(network: str, mac: str, status: Mapping[str, Any], now: int) -> Lease6 | None:
    """Return the lease in a status of a network with DHCPv6, without its LANs; None: it is malformed."""
    try:
        addresses, prefixes = (
            tuple(_lent(found, now) for found in status.get(name, [])[:_PARTS_MAX])
            for name in ("ipv6-address", "ipv6-prefix")
        )
        routes = tuple(
            Route6(
                f"{_address(found['target'])}/{bounded(found['mask'], 0, 128)}",
                _gateway(found["nexthop"]),
                _prefix(found.get("source", "::/0")),
                bounded(found.get("metric", 0), 0, 0xFFFFFFFF),
                now + _seconds(found.get("valid", _FOREVER)) * SECOND,
            )
            for found in status.get("route", [])
            if ":" in found["target"] and "table" not in found and found.get("type") != _RTN_UNREACHABLE
        )[:_ROUTES_MAX]
        return _made(network, mac, addresses, prefixes, routes, now)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return None


def lan_names(status: Mapping[str, Any]) -> frozenset[str]:
    """Return the networks to which netifd has given parts of the delegated prefixes."""
    try:
        found = {str(name) for prefix in status.get("ipv6-prefix", []) for name in prefix.get("assigned", {})}
    except (TypeError, AttributeError):
        return frozenset()
    return frozenset(sorted(found)[:_LANS_MAX])


def lan_addresses(network: str, status: Mapping[str, Any]) -> tuple[Lan, ...]:
    """Return the addresses that netifd has made for a network of delegated prefixes; () if malformed."""
    try:
        found = [one["local-address"] for one in status.get("ipv6-prefix-assignment", [])[:_PARTS_MAX]]
        return tuple(
            (network, _address(one["address"]), bounded(one["mask"], 0, 128)) for one in found if one
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return ()


def plain(lease: Lease6, now: int) -> dict[str, object]:
    """Return the lease as it stands in a message."""
    return {
        "mac": lease.mac,
        "addresses": [_seen(one, now) for one in lease.addresses],
        "prefixes": [_seen(one, now) for one in lease.prefixes],
        "routes": [
            [one.destination, one.gateway, one.source, one.metric, one.left_s(now)] for one in lease.routes
        ],
        "lans": [[name, one.address, one.length] for name, one in lease.lans],
        "next_hops": lease.next_hops,
    }


def parsed(network: str, found: Mapping[str, Any], now: int) -> Lease6:
    """Return the lease in a message. ValueError, TypeError, KeyError or OSError: it is malformed."""
    addresses, prefixes = (
        tuple(_told(words, now) for words in found[name][:_PARTS_MAX]) for name in ("addresses", "prefixes")
    )
    routes = tuple(
        Route6(
            _network(to), _gateway(via), _prefix(source or "::/0"), bounded(metric, 0, 0xFFFFFFFF),
            now + _seconds(left) * SECOND,
        )
        for to, via, source, metric, left in found["routes"][:_ROUTES_MAX]
    )  # fmt: skip
    lease = _made(network, str(found["mac"])[:17], addresses, prefixes, routes, now)
    lans = [
        (_name(name), _address(address), bounded(length, 0, 128))
        for name, address, length in found["lans"][:_LANS_MAX]
    ]
    return with_lans(replace(lease, next_hops=next_hops(AF_INET6, found)), lans)


def next_hops(family: int, found: Mapping[str, Any]) -> NextHops:
    """Return the next hops in a message; earlier releases tell none. Exceptions: see `parsed`."""
    pairs = found.get("next_hops", [])[:HOPS_MAX]
    return tuple((inet_ntop(family, inet_pton(family, address)), unicast(mac)) for address, mac in pairs)


def unicast(text: object) -> str:
    """Return the MAC address of one host, as 00:90:1a:aa:bb:cc. ValueError: it is none."""
    packed = bytes.fromhex(str(text)[:17].replace(":", ""))
    if len(packed) != 6 or packed[0] & 1:
        raise ValueError(f"{text!a:.40} is no MAC address")
    return packed.hex(":")


def with_lans(lease: Lease6, lans: Iterable[Lan]) -> Lease6:
    """Return the lease with those of these addresses that are in its prefixes, with their lifetimes."""
    found = tuple(
        (name, Lent(address, length, prefix.preferred, prefix.until))
        for name, address, length in lans
        for prefix in lease.prefixes
        if _bits(address, prefix.length) == _bits(prefix.address, prefix.length)
    )
    return replace(lease, lans=found)


def bounded(value: object, low: int, high: int) -> int:
    """Return the number if it is within these bounds. ValueError, TypeError."""
    found = int(value)  # type: ignore[call-overload]
    if not low <= found <= high:
        raise ValueError(f"{found} is not within {low} to {high}")
    return int(found)


def _made(
    network: str,
    mac: str,
    addresses: tuple[Lent, ...],
    prefixes: tuple[Lent, ...],
    routes: tuple[Route6, ...],
    now: int,
) -> Lease6:
    until = max((one.until for one in (*addresses, *prefixes)), default=now)
    return Lease6(network, mac, addresses, prefixes, until, routes)


def _lent(found: Mapping[str, Any], now: int) -> Lent:
    """Read one address or prefix of netifd; a lifetime that is not there has no end."""
    valid = _seconds(found.get("valid", _FOREVER))
    preferred = min(_seconds(found.get("preferred", _FOREVER)), valid)
    address, length = _address(found["address"]), bounded(found["mask"], 0, 128)
    return Lent(address, length, now + preferred * SECOND, now + valid * SECOND)


def _told(words: Sequence[Any], now: int) -> Lent:
    address, length, preferred, valid = words
    return _lent({"address": address, "mask": length, "preferred": preferred, "valid": valid}, now)


def _seen(one: Lent, now: int) -> list[object]:
    return [one.address, one.length, max(0, (one.preferred - now) // SECOND), one.left_s(now)]


def _seconds(value: object) -> int:
    return min(bounded(value, 0, _FOREVER), _SECONDS_MAX)


def _bits(address: str, count: int) -> int:
    return int.from_bytes(inet_pton(AF_INET6, address), "big") >> (128 - count)


def _address(text: object) -> str:
    """The address in canonical text. OSError or TypeError: it is none."""
    return inet_ntop(AF_INET6, inet_pton(AF_INET6, text))  # type: ignore[arg-type]


def _gateway(text: object) -> str:
    return "" if text in ("", "::") else _address(text)


def _network(text: str) -> str:
    address, _, length = text.partition("/")
    return f"{_address(address)}/{bounded(length, 0, 128)}"


def _prefix(text: str) -> str:
    found = _network(text)
    return "" if found == "::/0" else found


def _name(text: object) -> str:
    if not (
        isinstance(text, str) and len(text) <= 32 and text.isascii() and text.replace("_", "0").isalnum()
    ):
        raise ValueError(f"{text!r} is not the name of a network")
    return text
