# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases as netifd shows them, and as routers tell them to each other.

A message of the topic is one line of JSON: [1, {network: lease}]. A lease has the fields of
`core.lease.Lease` without the network, and instead of its end the seconds that are left; null: the sender is
active and has no lease. An IPv6 lease is in lease6.py, a session of PPPoE in session.py. Only a router that
is active for the network tells it.
"""

from __future__ import annotations

import json
from socket import AF_INET, inet_ntop, inet_pton

from tandem.core.lease import Lease, Lease6, Session
from tandem.core.timers import SECOND
from tandem.follow import lease6, session
from tandem.follow.lease6 import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tandem.core.lease import AnyLease

TOPIC = "wan leases"
VERSION = 1
_ROUTES_MAX, _DNS_MAX = 64, 8
# s; longer ones need no more: the provider is asked after every takeover. No end: 2^32 - 1 (RFC 2131, 3.3)
_SECONDS_MAX = 365 * 86400


def from_netifd(network: str, mac: str, status: Mapping[str, Any], now: int, fresh: bool) -> AnyLease | None:
    """Return the lease in a status of `network.interface`; None: its address is no lease.

    netifd does not tell when the lease was granted. A status that netifd sends by itself is `fresh`: the
    client has just got the lease, or renewed it. Otherwise the lease is halfway over at most, when clients
    renew it (RFC 2131 section 4.4.5). Lifetimes of IPv6 are those that are left.
    """
    if status.get("proto") == lease6.PROTO:
        return lease6.from_netifd(network, mac, status, now)
    try:
        if status.get("proto") != "dhcp":
            return None
        found = status["ipv4-address"][0]
        seconds = int(status["data"]["leasetime"]) // (1 if fresh else 2)
        routes = [
            route for route in status.get("route", []) if "." in route["target"] and "table" not in route
        ][:_ROUTES_MAX]
        return Lease(
            network=network,
            mac=mac,
            address=_address(found["address"]),
            prefixlen=bounded(found["mask"], 0, 32),
            until=end_of(seconds, now),
            routes=tuple(
                (_network(f"{route['target']}/{route['mask']}"), _gateway(route["nexthop"]))
                for route in routes
            ),
            metric=bounded(routes[0].get("metric", 0) if routes else 0, 0, 0xFFFFFFFF),
            server=str(status["data"].get("dhcpserver", ""))[:64],
            dns=tuple(_address(one) for one in status.get("dns-server", []) if "." in one)[:_DNS_MAX],
        )
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError):
        return None


def end_of(seconds: int, now: int) -> int:
    """Return the end of a lease for so many seconds; one without an end ends as well, but not soon."""
    return now + min(seconds, _SECONDS_MAX) * SECOND


def pack(leases: Mapping[str, AnyLease | None], now: int) -> bytes:
    """Return the message."""
    return json.dumps(
        [VERSION, {name: lease and _plain(lease, now) for name, lease in leases.items()}]
    ).encode()


def unpack(data: bytes, now: int) -> dict[str, AnyLease | None]:
    """Return the leases in a message. ValueError: it is malformed."""
    try:
        version, found = json.loads(data)
        if version != VERSION:
            return {}
        return {
            str(name): None if one is None else _lease(str(name), one, now) for name, one in found.items()
        }
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError) as error:
        raise ValueError(str(error)) from None


def _plain(lease: AnyLease, now: int) -> dict[str, object]:
    if isinstance(lease, Lease6):
        return lease6.plain(lease, now)
    if isinstance(lease, Session):
        return session.plain(lease)
    return {
        "mac": lease.mac,
        "address": lease.address,
        "prefixlen": lease.prefixlen,
        "left": lease.left_s(now),
        "routes": lease.routes,
        "metric": lease.metric,
        "server": lease.server,
        "dns": lease.dns,
        "next_hops": lease.next_hops,
    }


def _lease(network: str, found: Mapping[str, Any], now: int) -> AnyLease:
    if "prefixes" in found:
        return lease6.parsed(network, found, now)
    if "concentrator" in found:
        return session.parsed(network, found)
    return Lease(
        network=network,
        mac=str(found["mac"])[:17],
        address=_address(found["address"]),
        prefixlen=bounded(found["prefixlen"], 0, 32),
        until=now + bounded(found["left"], 0, _SECONDS_MAX) * SECOND,
        routes=tuple((_network(to), _gateway(via)) for to, via in found["routes"][:_ROUTES_MAX]),
        metric=bounded(found["metric"], 0, 0xFFFFFFFF),
        server=str(found["server"])[:64],
        dns=tuple(_address(one) for one in found["dns"][:_DNS_MAX]),
        next_hops=lease6.next_hops(AF_INET, found),
    )


def _address(text: object) -> str:
    """The address in canonical text. OSError or TypeError: it is none."""
    return inet_ntop(AF_INET, inet_pton(AF_INET, text))  # type: ignore[arg-type]


def _gateway(text: object) -> str:
    return "" if text in ("", "0.0.0.0") else _address(text)


def _network(text: str) -> str:
    address, _, length = text.partition("/")
    return f"{_address(address)}/{bounded(length, 0, 32)}"
