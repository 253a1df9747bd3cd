# SPDX-License-Identifier: GPL-2.0-or-later
"""The `conntrack_sync` section in the terms of the modules that do what it says."""

from __future__ import annotations

from dataclasses import replace

from tandem.channel.channel import Peer
from tandem.channel.peer_socket import Path, pack
from tandem.channel.session import Settings
from tandem.config.schema import ConntrackSync, SyncPath
from tandem.conntrack.filter import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    DeviceOf = Callable[[str], str | None]

MILLISECOND = 1_000_000


def peers(settings: ConntrackSync, router_id: str) -> list[Peer]:
    """Return the peers, each with its paths and the settings of its sessions."""
    hops = settings.max_hops
    common = session(settings, router_id)
    return [
        Peer(
            peer.name,
            tuple(Path(p.address, p.port, p.source, p.interface, hops) for p in peer.paths),
            replace(common, secrets={1: peer.secret}, key_id=1) if peer.secret else common,
        )
        for peer in settings.peers
    ]


def on_devices(settings: ConntrackSync, device_of: DeviceOf) -> ConntrackSync:
    """The section with devices where it names OpenWrt's networks.

    A network without a device becomes "@network", which no device is called: its paths wait.
    """

    def device(name: str) -> str:
        return device_of(name) or f"@{name}"

    def scoped(address: str | None) -> str | None:
        host, percent, scope = (address or "").partition("%")
        return f"{host}%{device(scope)}" if percent else address

    def path(found: SyncPath) -> SyncPath:
        interface = None if found.interface is None else device(found.interface)
        address = scoped(found.address) or found.address
        return replace(found, address=address, source=scoped(found.source), interface=interface)

    return replace(
        settings,
        peers=tuple(replace(peer, paths=tuple(map(path, peer.paths))) for peer in settings.peers),
    )


def session(settings: ConntrackSync, router_id: str) -> Settings:
    """Return the settings of sessions with peers that have no secret of their own."""
    secrets, key_id = dict(settings.secrets), settings.key_id
    if not secrets and not settings.insecure:  # all peers have one: this one is never used
        secrets, key_id = {1: settings.peers[0].secret}, 1
    return Settings(
        secrets=secrets,
        key_id=key_id,
        insecure=settings.insecure,
        router_id=router_id,
        heartbeat=settings.heartbeat_ms * MILLISECOND,
        digest_interval=settings.digest_interval_ms * MILLISECOND,
        stall_timeout=settings.stall_timeout_ms * MILLISECOND,
        queue_limit=settings.queue_limit,
    )


def wanted(settings: ConntrackSync, local: frozenset[bytes]) -> Filter:
    """Which flows to replicate; `local`: the router's own addresses."""
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
