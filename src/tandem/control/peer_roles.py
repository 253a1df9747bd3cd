# SPDX-License-Identifier: GPL-2.0-or-later
"""The states of the peers' groups: a topic of the channel (channel/topics.py).

A message is one line of JSON: [1, {group: state}], with keepalived's words for the states. A router sends
all of its groups when a session opens, and then those that change. The receiver then knows which peers would
take over.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TOPIC = "roles"
VERSION = 1
READY = ("BACKUP", "MASTER")
GROUPS_MAX = 512  # of a peer that are remembered


class PeerRoles:
    """The subscriber of the topic. `states` gives this router's groups, `send(peer, data)` sends."""

    def __init__(self, states: Callable[[], dict[str, str]], send: Callable[[str, bytes], object]) -> None:
        self._states = states
        self._send = send
        self._peers: dict[str, dict[str, str] | None] = {}  # None: an older release, which sends none

    def tell(self, group: str, state: str) -> None:
        """Send the new state of a group of this router to all peers."""
        for peer in self._peers:
            self._send(peer, _message({group: state}))

    def peer_opened(self, peer: str) -> None:
        """Begin with a peer that has a session now: send it all states."""
        self._peers[peer] = None
        self._send(peer, _message(self._states()))

    def peer_closed(self, peer: str) -> None:
        """Forget a peer whose session has ended."""
        self._peers.pop(peer, None)

    def received(self, peer: str, data: bytes) -> None:
        """Take a message of a peer; a malformed one counts as if the peer had sent none."""
        try:
            version, states = json.loads(data)
            news = {str(name): str(state) for name, state in states.items()} if version == VERSION else {}
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._peers[peer] = None
            return
        known = (self._peers.get(peer) or {}) | news
        self._peers[peer] = dict(list(known.items())[:GROUPS_MAX])

    def active(self, group: str) -> tuple[str, ...]:
        """Return the peers that say that they are MASTER of this group."""
        return tuple(peer for peer, states in self._peers.items() if (states or {}).get(group) == "MASTER")

    def refusal(self, groups: Iterable[str]) -> str | None:
        """Return why no peer would take over one of the groups, or None.

        A peer that does not know a group of that name, or has sent no states, counts as ready.
        """
        if not self._peers:
            return "no peer is connected"
        for group in groups:
            told = {peer: (states or {}).get(group, "BACKUP") for peer, states in self._peers.items()}
            if not any(state in READY for state in told.values()):
                return f"{group}: {', '.join(f'{peer} is {state}' for peer, state in sorted(told.items()))}"
        return None


def _message(states: dict[str, str]) -> bytes:
    return json.dumps([VERSION, states]).encode()
