# SPDX-License-Identifier: GPL-2.0-or-later
"""Grants: to which router of each cluster the witness has given its vote, group by group. Pure.

A grant ends `duration` after the request that renewed it. The router reckons from the moment when it sent
that request, so it always ends first there. A witness that has just started does not know what it had granted
before. So for the time of one grant it gives its vote only to a router that says to have it.
All times are monotonic ns.
"""

from __future__ import annotations

from tandem.core.timers import MILLISECOND
from tandem.witness.wire import ANSWER, CHALLENGE, HOLDS, WANTS, Message

NODES_MAX = 256  # of all clusters


class _Node:
    """A daemon of a router, as the witness knows it."""

    __slots__ = ("nonce", "number", "seen")

    def __init__(self, nonce: bytes, now: int) -> None:
        self.nonce = nonce
        self.number = 0
        self.seen = now


class Grants:
    """The votes that are given away; `duration` in ns."""

    def __init__(self, duration: int, now: int) -> None:
        self._duration = duration
        self._quiet_until = now + duration
        self._nodes: dict[tuple[bytes, bytes], _Node] = {}
        self._held: dict[tuple[bytes, bytes], tuple[bytes, int]] = {}  # (cluster, group): (node, until)

    def handle(self, request: Message, fresh: bytes, now: int) -> Message | None:
        """Answer a request that is authentic; `fresh` is a new nonce. None: it has come before."""
        key = request.cluster, request.node
        node = self._nodes.get(key)
        if node is None or request.nonce != node.nonce:
            if node is None:
                self._make_room(now)
                node = self._nodes[key] = _Node(fresh, now)
            return Message(CHALLENGE, request.cluster, request.node, node.nonce, request.number)
        if request.number <= node.number:
            return None
        node.number, node.seen = request.number, now
        wanted = {name for flags, name in request.groups if flags & WANTS}
        for group, (holder, _) in list(self._held.items()):
            if group[0] == request.cluster and holder == request.node and group[1] not in wanted:
                del self._held[group]
        granted = tuple(
            bool(flags & WANTS) and self._grant(request, name, bool(flags & HOLDS), now)
            for flags, name in request.groups
        )
        duration_ms = self._duration // MILLISECOND
        return Message(
            ANSWER, request.cluster, request.node, node.nonce, request.number, duration_ms, (), granted
        )

    def held(self, now: int) -> dict[tuple[bytes, bytes], bytes]:
        """Return the node that has the vote, by cluster and group."""
        return {group: node for group, (node, until) in self._held.items() if until > now}

    def _grant(self, request: Message, name: bytes, holds: bool, now: int) -> bool:
        group = request.cluster, name
        holder, until = self._held.get(group, (b"", 0))
        if until > now and holder != request.node:
            return False
        if now < self._quiet_until and not (holds or holder == request.node):
            return False
        self._held[group] = request.node, now + self._duration
        return True

    def _make_room(self, now: int) -> None:
        self._held = {group: one for group, one in self._held.items() if one[1] > now}
        if len(self._nodes) >= NODES_MAX:
            oldest = min(self._nodes, key=lambda key: self._nodes[key].seen)
            del self._nodes[oldest]
