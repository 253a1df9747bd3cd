# SPDX-License-Identifier: GPL-2.0-or-later
"""Strangers: routers that send adverts and are no authenticated peers.

Peers tell each other over the channel from which addresses their adverts come. While a peer with a session
has a virtual router, adverts from other addresses for that virtual router are a stranger's.

Another peer whose session is interrupted is none: it goes on sending adverts, and what it has told still
holds. As long as it has told nothing at all, it could be anybody, and so nobody is a stranger.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Key = tuple[int, int]
"""Family (4 or 6) and virtual router id."""
Source = tuple[int, bytes]
"""Virtual router id, and the packed address that its adverts come from."""

SOURCES_MAX = 1024  # of one peer that are remembered


class Strangers:
    """Knows the addresses that the peers' adverts come from."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[Source, ...]] = {}
        self._sources: dict[Key, frozenset[bytes]] = {}
        self._expected: frozenset[str] = frozenset()
        self._former: dict[str, frozenset[Source]] = {}  # what each peer has told last

    def expect(self, peers: Iterable[str]) -> None:
        """Take the names of all peers in the configuration."""
        self._expected = frozenset(peers)
        self._former = {peer: sources for peer, sources in self._former.items() if peer in self._expected}

    def told(self, peer: str, sources: tuple[Source, ...]) -> None:
        """Take all sources of `peer`; none when its session has ended."""
        if sources:
            self._peers[peer] = sources[:SOURCES_MAX]
            self._former[peer] = frozenset(self._peers[peer])
        else:
            self._peers.pop(peer, None)
        found: dict[Key, set[bytes]] = {}
        for known in self._peers.values():
            for vrid, address in known:
                found.setdefault((4 if len(address) == 4 else 6, vrid), set()).add(address)
        self._sources = {key: frozenset(addresses) for key, addresses in found.items()}

    def peers(self, family: int, vrid: int) -> frozenset[bytes]:
        """Return the addresses of the peers that have this virtual router."""
        return self._sources.get((family, vrid), frozenset())

    def is_stranger(self, family: int, vrid: int, source: bytes) -> bool:
        """Whether a peer has this virtual router, and `source` is no peer's address."""
        peers = self._sources.get((family, vrid))
        if peers is None or source in peers or not self._expected <= self._former.keys():
            return False
        return not any((vrid, source) in former for former in self._former.values())
