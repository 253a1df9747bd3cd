# SPDX-License-Identifier: GPL-2.0-or-later
"""The events of a session with a peer, for its caller; see `session.Session`."""

from __future__ import annotations

from dataclasses import dataclass

from tandem.channel.frames import Hello
from tandem.core import neighbour


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The peer knows the secret, or none is wanted; the initiator may `open`."""

    peer: Hello


@dataclass(frozen=True, slots=True)
class Opened:
    """This connection is the session of the two."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The session has ended; `reason` is a short word to count by, `detail` a sentence or ""."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PeerStream:
    """The peer began or ended to stream; `complete`: we hold all of its table at this moment."""

    on: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class PeerHandedOver:
    """The peer has given a group up and told the last of it, but its stream goes on: it has others."""


@dataclass(frozen=True, slots=True)
class HeldInStep:
    """We hold all of the peer's table; `adopted`: what was our own, so no bulk was needed."""

    adopted: bool


@dataclass(frozen=True, slots=True)
class HeldOutOfStep:
    """We do not hold all of the peer's table any more, and asked for a bulk."""

    reason: str


@dataclass(frozen=True, slots=True)
class PeerInStep:
    """The peer holds all of our table."""


@dataclass(frozen=True, slots=True)
class PeerOutOfStep:
    """The peer no longer holds all of our table; a bulk follows. `reason`: of RESYNCS, or overflow."""

    reason: str


@dataclass(frozen=True, slots=True)
class Acked:
    """The peer holds our table up to this position (for a peer in step)."""

    position: int


@dataclass(frozen=True, slots=True)
class Message:
    """The peer sent something about a topic other than connections, see `topics`."""

    topic: str
    data: bytes


Event = (
    Authenticated
    | Opened
    | Closed
    | PeerStream
    | PeerHandedOver
    | HeldInStep
    | HeldOutOfStep
    | PeerInStep
    | PeerOutOfStep
    | Acked
    | Message
)

_OF_NEIGHBOURS = {
    Opened: neighbour.OPENED,
    HeldInStep: neighbour.WE_HOLD,
    PeerInStep: neighbour.HOLDS_OURS,
    PeerOutOfStep: neighbour.LACKS_OURS,
}


def of_neighbour(event: Event) -> str | None:
    """Return what this event is for the neighbour at the other end (core/neighbour.py), if it is anything."""
    if isinstance(event, PeerStream):
        return neighbour.STREAMS if event.on else neighbour.QUIET
    if isinstance(event, Closed):
        return neighbour.GOODBYE if event.reason == "peer_stopped" else neighbour.LOST
    return _OF_NEIGHBOURS.get(type(event))
