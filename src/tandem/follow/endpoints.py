# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the peers of a WireGuard tunnel are: what wg(8) prints, and the command that shakes hands; pure.

A peer that moves about has no endpoint in the configuration: only the router that it has spoken to knows it.
A peer whose session was with the other router drops our silence for 15 s before it begins anew
(KEEPALIVE_TIMEOUT and REKEY_TIMEOUT of the protocol). So the router that takes over begins at once.
"""

from __future__ import annotations

import json
from socket import AF_INET, AF_INET6, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Endpoints = dict[str, str]  # public key: address and port

PEERS_MAX = 128  # of one tunnel; they fit into one message of the channel


def endpoints(printed: bytes) -> Endpoints:
    """Return the endpoints in the output of `wg show INTERFACE endpoints`; "(none)" is none."""
    return _rows(printed, _is_endpoint)


def intervals(printed: bytes) -> dict[str, str]:
    """Return the keepalive intervals in the output of `wg show INTERFACE persistent-keepalive`."""
    return _rows(printed, lambda text: text == "off" or text.isdecimal())


def shake_hands(device: str, known: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Return the words of wg(8) that set endpoints and begin a handshake with each peer; [] for none.

    `present` are the peers of the device with their keepalive intervals: `wg set` would add any other. The
    kernel sends a keepalive, and before it a handshake, when the interval is no longer 0
    (drivers/net/wireguard/netlink.c, set_peer).
    """
    words: list[str] = []
    for key, interval in present.items():
        endpoint = ["endpoint", known[key]] if key in known else []
        words += ["peer", key, *endpoint, "persistent-keepalive", "off"]
        words += ["peer", key, "persistent-keepalive", "1"]
        words += ["peer", key, "persistent-keepalive", interval]
    return ["set", device, *words] if words else []


def pack(tunnels: Mapping[str, Endpoints]) -> bytes:
    """Return the message of the topic: [1, {network: {public key: endpoint}}]."""
    return json.dumps([1, tunnels]).encode()


def unpack(data: bytes) -> dict[str, Endpoints]:
    """Return the endpoints in a message, without what is malformed. ValueError: it is no message."""
    try:
        version, found = json.loads(data)
        if version != 1:
            return {}
        return {
            str(name): {
                key: endpoint
                for key, endpoint in [*peers.items()][:PEERS_MAX]
                if _is_key(key) and isinstance(endpoint, str) and _is_endpoint(endpoint)
            }
            for name, peers in found.items()
        }
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _rows(printed: bytes, valid: Callable[[str], bool]) -> dict[str, str]:
    rows = (line.split("\t") for line in printed.decode("ascii", "replace").splitlines())
    found = {row[0]: row[1] for row in rows if len(row) == 2 and _is_key(row[0]) and valid(row[1])}
    return dict([*found.items()][:PEERS_MAX])


def _is_key(text: str) -> bool:
    """Whether this is a public key as wg(8) writes it: 32 bytes in base64."""
    plain = text.replace("+", "0").replace("/", "0")
    return len(text) == 44 and text.isascii() and plain[:-1].isalnum() and text.endswith("=")


def _is_endpoint(text: str) -> bool:
    """Whether this is 192.0.2.1:51820 or [2001:db8::1]:51820, with the zone of a link-local address."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5):
        return False
    try:
        if host.startswith("[") and host.endswith("]"):
            address, _, zone = host[1:-1].partition("%")
            inet_pton(AF_INET6, address)
            return len(zone) < 16 and zone.isprintable() and " " not in zone
        inet_pton(AF_INET, host)
    except (OSError, ValueError):
        return False
    return True
