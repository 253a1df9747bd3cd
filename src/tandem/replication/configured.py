# SPDX-License-Identifier: GPL-2.0-or-later
"""The `conntrack_sync` section in the terms of the modules that do what it says."""

from __future__ import annotations

from tandem.channel.peer_socket import pack
from tandem.config.schema import ConntrackSync
from tandem.conntrack.filter import Filter


def wanted(settings: ConntrackSync, local: frozenset[bytes]) -> Filter:
    """Return the filter of flows to replicate; `local`: the router's own addresses."""
    protocols = frozenset(settings.protocols) or None
    if settings.ignore_protocols:
        protocols = frozenset(range(256)) - frozenset(settings.ignore_protocols)
    return Filter(
        protocols=protocols,
        tcp_states=frozenset(settings.tcp_states) or None,
        zones=frozenset(settings.zones) or None,
        networks=tuple(_network(text) for text in settings.only_networks or settings.ignore_networks),
        include=bool(settings.only_networks),
        local=local,
        own=settings.local,
        channel_port=settings.port,
        settled=bool(settings.sync_after) and not settings.guarantee,
    )


def _network(text: str) -> tuple[bytes, int]:
    """A canonical prefix as packed address and length."""
    address, _, length = text.partition("/")
    return pack(address), int(length)
