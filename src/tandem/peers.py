# SPDX-License-Identifier: GPL-2.0-or-later
"""The peers of the configuration in the terms of the channel."""

from __future__ import annotations

from dataclasses import replace

from tandem.channel.peer_link import Peer
from tandem.channel.peer_socket import Path
from tandem.channel.settings import Settings
from tandem.core.timers import MILLISECOND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.config import schema

    DeviceOf = Callable[[str], str | None]


def of_config(config: schema.Config, device_of: DeviceOf) -> list[Peer]:
    """Return the peers, each with its paths, on the devices of now, and the settings of its sessions."""
    sync = config.conntrack_sync
    found = []
    for peer in config.peers:
        paths = (on_device(path, device_of) for path in peer.paths)
        settings = Settings(
            secrets=dict(peer.secrets),
            key_id=peer.key_id,
            insecure=peer.insecure,
            router_id=config.globals.router_id,
            peer_id=peer.router_id,
            heartbeat=peer.heartbeat_ms * MILLISECOND,
            stall_timeout=peer.stall_timeout_ms * MILLISECOND,
            upgrades=config.globals.allow_upgrade and not peer.insecure,
            heartbeats=config.globals.heartbeat_interval_ms > 0 and not peer.insecure,
        )
        if sync is not None and peer.name in sync.peers:
            settings = replace(
                settings,
                digest_interval=sync.digest_interval_ms * MILLISECOND,
                queue_limit=sync.queue_limit,
            )
        ways = tuple(Path(p.address, p.port, p.source, p.interface, peer.max_hops) for p in paths)
        found.append(Peer(peer.name, ways, settings))
    return found


def on_device(path: schema.PeerPath, device_of: DeviceOf) -> schema.PeerPath:
    """Return the path with devices where it names OpenWrt's networks.

    A network without a device becomes "@network", which no device is called: the path waits.
    """

    def device(name: str) -> str:
        return device_of(name) or f"@{name}"

    def scoped(address: str | None) -> str | None:
        host, percent, scope = (address or "").partition("%")
        return f"{host}%{device(scope)}" if percent else address

    interface = None if path.interface is None else device(path.interface)
    address = scoped(path.address) or path.address
    return replace(path, address=address, source=scoped(path.source), interface=interface)
