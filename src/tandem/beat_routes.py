# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways by which heartbeats reach a peer: segments that both routers serve, and paths of the channel."""

from __future__ import annotations

from tandem.channel.beat_socket import Route
from tandem.channel.peer_socket import local_address, pack
from tandem.core.standing import matching
from tandem.effects.endpoint import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tandem.channel.beat_peer import BeatPeer
    from tandem.channel.channel import Channel
    from tandem.channel.peer_socket import Path
    from tandem.core.standing import Entry
    from tandem.effects.links import Links
    from tandem.router import Router


class BeatRoutes:
    """Looks at addresses, links and routes as they are now."""

    def __init__(self, channel: Channel, router: Router, links: Links) -> None:
        self._channel = channel
        self._router = router
        self._links = links

    def to(self, peer: BeatPeer, ours: Sequence[Entry]) -> Iterator[tuple[str, Route]]:
        """Yield all ways to a peer by their names: segments first, which a path of the channel may be too."""
        link = self._channel.links[peer.name]
        seen = set()
        _, entries = peer.directory
        matched = matching(ours, entries)
        for entry in ours:
            remote = entries[matched[entry.name]].source if entry.name in matched else b""
            endpoint = self._router.endpoints.get(entry.name)
            if endpoint is None or not entry.source or len(remote) != len(entry.source):
                continue
            device = self._links.device(endpoint.settings.interface)
            index = self._links.index(endpoint.settings.interface)
            if device is None or index is None or (entry.source, remote) in seen:
                continue
            seen.add((entry.source, remote))
            zone = f"%{device}" if remote[:2] in (b"\xfe\x80",) and len(remote) == 16 else ""
            hops = 256 - endpoint.expected.min_hop_limit if endpoint.settings.unicast_peers else 1
            local, far = text(entry.source) + zone, text(remote) + zone
            yield f"{text(remote)} dev {device}", Route(local, far, link.paths[0].port, device, index, hops)
        for path in link.paths:
            try:
                route = Route(
                    local_address(path), path.address, path.port, path.interface,
                    self._links.index(path.interface) if path.interface else None, path.max_hops,
                )  # fmt: skip
                if route.key in seen:
                    continue
            except OSError:
                continue  # there is no route to it now
            seen.add(route.key)
            yield path.address + (f" dev {path.interface}" if path.interface else ""), route

    @property
    def usable(self) -> bool:
        """Whether a path of the channel works: by it a peer that comes back opens a session."""
        return any(self._is_usable(path) for link in self._channel.links.values() for path in link.paths)

    def _is_usable(self, path: Path) -> bool:
        try:
            return self._links.carries(pack(local_address(path)))
        except OSError:
            return False  # there is no route to it now
