# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a session as a table, which frames each state accepts, and what hellos say; pure."""

from __future__ import annotations

from enum import Enum

from tandem.channel.frames import (
    ACK,
    AUTH,
    BULK_BEGIN,
    BULK_END,
    DIGEST,
    GOODBYE,
    HEARTBEAT,
    HEARTBEATS,
    NO_CONNECTIONS,
    OPEN,
    PAYLOAD_MAX,
    RECORDS,
    RESYNC,
    ROUTER_ID_MAX,
    STREAM,
    TOPIC,
    TOPICS,
    UPGRADES,
    Hello,
    ProtocolError,
    Seal,
)
from tandem.channel.settings import Settings
from tandem.core.timers import MILLISECOND


class State(Enum):
    """How far a session has come."""

    HELLO = "hello"  # the peer's hello is waited for
    PROOF = "proof"  # the proof that it knows the secret is waited for
    READY = "ready"  # both have proved themselves; the initiator decides whether this is the session
    OPENED = "open"
    CLOSED = "closed"


# Events
CALLED = "the initiator's hello comes"
ANSWERED = "the responder's hello comes"
PROVED = "the initiator proves that it knows the secret"
PROVED_TOO = "the responder proves that it knows the secret"
OPENS = "this initiator opens the session"
OPENED_BY_PEER = "the initiator opens the session"
FAILS = "the end, without a word"
ENDS = "the end, with one of GOODBYES"

# Actions
SEND_HELLO = "send a hello"
SEND_AUTH = "send AUTH"
SEND_OPEN = "send OPEN"
SAY_GOODBYE = "send GOODBYE"
TELL_AUTHENTICATED = "say that the peer is authenticated"
TELL_OPENED = "say that this is the session"

# An event without a row breaks the protocol.
TABLE: dict[tuple[State, str], tuple[State, tuple[str, ...]]] = {
    (State.HELLO, CALLED): (State.PROOF, (SEND_HELLO,)),
    (State.HELLO, ANSWERED): (State.PROOF, (SEND_AUTH,)),
    (State.HELLO, FAILS): (State.CLOSED, ()),
    (State.HELLO, ENDS): (State.CLOSED, ()),
    (State.PROOF, PROVED): (State.READY, (SEND_AUTH, TELL_AUTHENTICATED)),
    (State.PROOF, PROVED_TOO): (State.READY, (TELL_AUTHENTICATED,)),
    (State.PROOF, FAILS): (State.CLOSED, ()),
    (State.PROOF, ENDS): (State.CLOSED, ()),  # whoever has not proved itself learns nothing
    (State.READY, OPENS): (State.OPENED, (SEND_OPEN, TELL_OPENED)),
    (State.READY, OPENED_BY_PEER): (State.OPENED, (TELL_OPENED,)),
    (State.READY, FAILS): (State.CLOSED, ()),
    (State.READY, ENDS): (State.CLOSED, (SAY_GOODBYE,)),
    (State.OPENED, FAILS): (State.CLOSED, ()),
    (State.OPENED, ENDS): (State.CLOSED, (SAY_GOODBYE,)),
}

# The frames that each state accepts, and their largest payload in bytes; a hello is no frame.
ACCEPTS: dict[State, frozenset[int]] = {
    State.PROOF: frozenset({AUTH}),
    State.READY: frozenset({OPEN, GOODBYE}),
    State.OPENED: frozenset(
        {HEARTBEAT, ACK, STREAM, RECORDS, BULK_BEGIN, BULK_END, DIGEST, RESYNC, TOPIC, GOODBYE}
    ),
}
LARGEST: dict[State, int] = {State.PROOF: 0, State.READY: 16, State.OPENED: PAYLOAD_MAX}


def own_hello(settings: Settings, nonce: bytes, replicates: bool) -> bytes:
    """Return this router's hello, whole."""
    capabilities = TOPICS | NO_CONNECTIONS * (not replicates)
    return Hello(
        settings.node,
        nonce,
        0 if settings.insecure else settings.key_id,
        settings.router_id,
        settings.insecure,
        settings.heartbeat // MILLISECOND,
        settings.word_size,
        settings.little_endian,
        capabilities | UPGRADES * settings.upgrades | HEARTBEATS * settings.heartbeats,
    ).encode()


def seals(own: bytes, received: bytes, peer: Hello, settings: Settings, initiator: bool) -> tuple[Seal, Seal]:
    """Return what seals our frames and what checks the peer's: both follow from the two hellos.

    `received` is the hello of `peer`, whole. ProtocolError: as `secret_of`.
    """
    theirs = secret_of(peer, settings)
    ours = b"" if settings.insecure else settings.secrets[settings.key_id]
    hellos = own + received if initiator else received + own
    return Seal(ours, initiator, hellos), Seal(theirs, not initiator, hellos)


def secret_of(peer: Hello, settings: Settings) -> bytes:
    """Return the secret that the peer of this hello must know; b"" in an insecure session.

    ProtocolError: `self`, `insecure`, `identity` or `unknown_key`.
    """
    if peer.node == settings.node:
        raise ProtocolError("self", "connected to itself")
    if peer.insecure != settings.insecure:
        insecure, secure = ("the peer", "this router") if peer.insecure else ("this router", "the peer")
        raise ProtocolError("insecure", f"{insecure} uses no secret, {secure} does")
    if settings.peer_id and peer.router_id.encode() != settings.peer_id.encode()[:ROUTER_ID_MAX]:
        text = f"the peer calls itself {peer.router_id!r}, not {settings.peer_id!r}"
        raise ProtocolError("identity", text)
    secret = b"" if settings.insecure else settings.secrets.get(peer.key_id)
    if secret is None:
        raise ProtocolError("unknown_key", f"the peer uses the unknown key id {peer.key_id}")
    return secret
