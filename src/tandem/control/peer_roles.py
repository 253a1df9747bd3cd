# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of the peers' groups: a topic of the channel (channel/topics.py).

A message is one line of JSON: [1, {group: state}], with keepalived's words for the states. A router sends
all its groups when a session opens, and later each group that changes. The receiver then knows
which peers would take over.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TOPIC = "roles"
VERSION = 1


class PeerRoles:
    """The subscriber of the topic.

    `states` gives this router's groups, `send(peer, data)` sends, and `said(peer, states)` gets a peer's
    groups; None: the message was malformed.
    """

    def __init__(
        self,
        states: Callable[[], dict[str, str]],
        send: Callable[[str, bytes], object],
        said: Callable[[str, dict[str, str] | None], None],
    ) -> None:
        self._states = states
        self._send = send
        self._said = said
        self._peers: set[str] = set()

    def tell(self, group: str, state: str) -> None:
        """Send the new state of a group of this router to all peers."""
        for peer in self._peers:
            self._send(peer, _message({group: state}))

    def peer_opened(self, peer: str) -> None:
        """Send all states to a peer that now has a session."""
        self._peers.add(peer)
        self._send(peer, _message(self._states()))

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has ended."""
        self._peers.discard(peer)

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer."""
        try:
            version, states = json.loads(data)
            news = {str(name): str(state) for name, state in states.items()} if version == VERSION else {}
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._said(peer, None)
        else:
            self._said(peer, news)


def _message(states: dict[str, str]) -> bytes:
    return json.dumps([VERSION, states]).encode()
