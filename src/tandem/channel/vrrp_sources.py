# SPDX-License-Identifier: GPL-2.0-or-later
"""VrrpSources: routers tell each other the addresses that their adverts come from (see channel/topics.py).

A message is a version byte, then for each virtual router its id u8, the length of the address u8, and the
packed address. A router sends all of them when a session opens, and all again when one has changed. The
receiver then knows which adverts are its peer's, even when the channel uses another link.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tandem.core.strangers import Source

TOPIC = "vrrp-sources"
VERSION = 1


class VrrpSources:
    """The subscriber of the topic.

    `own` gives this router's sources, `send(peer, data)` sends them, and `told(peer, sources)` gets those of
    a peer: none when its session has ended.
    """

    def __init__(
        self,
        own: Callable[[], list[Source]],
        send: Callable[[str, bytes], object],
        told: Callable[[str, tuple[Source, ...]], None],
    ) -> None:
        self._own = own
        self._send = send
        self._told = told
        self._peers: dict[str, bytes] = {}  # the last message to each

    def tell(self) -> None:
        """Send this router's sources to each peer that has others."""
        message = pack(self._own())
        for peer, before in self._peers.items():
            if message != before:
                self._peers[peer] = message
                self._send(peer, message)

    def peer_opened(self, peer: str) -> None:
        """Begin with a peer that has a session now."""
        self._peers[peer] = b""
        self.tell()

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has ended."""
        self._peers.pop(peer, None)
        self._told(peer, ())

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer; a malformed one counts as empty."""
        self._told(peer, unpack(data))


def pack(sources: Iterable[Source]) -> bytes:
    """Encode the message."""
    return bytes((VERSION,)) + b"".join(bytes((vrid, len(source))) + source for vrid, source in sources)


def unpack(data: bytes) -> tuple[Source, ...]:
    """Decode a message; empty when it is malformed."""
    found: list[Source] = []
    at = 1
    while at + 2 <= len(data) and data[0] == VERSION:
        vrid, length = data[at], data[at + 1]
        source = data[at + 2 : at + 2 + length]
        if length not in (4, 16) or len(source) != length:
            return ()
        found.append((vrid, source))
        at += 2 + length
    return tuple(found) if at == len(data) else ()
