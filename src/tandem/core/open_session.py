# SPDX-License-Identifier: GPL-2.0-or-later
"""Open sessions of PPPoE: whether a router may go on with one, and what becomes of its attempt.

A session is open when its router leaves it to the next one. The concentrator believes in it until the answers
to its echo requests are missing for a minute or so. So the session that is known may be used while the router
that told it is heard, and for LIFETIME afterwards. It is never used a second time when an attempt has failed,
and none survives the daemon: another boot knows of no session.

    written   pppd has not read yet with which session it shall go on
    read      pppd has read it, and negotiates

`now` is monotonic ns. pppd's attempt is known by the kernel's list of sessions: pppd has a session in the
list while it negotiates, and takes it off the list when it gives up.
"""

from __future__ import annotations

from enum import Enum

from tandem.core.timers import SECOND

LIFETIME = 30 * SECOND  # half of what concentrators wait for the answers to their echo requests
READ_WITHIN = 20 * SECOND  # until netifd has started pppd
LIST_WITHIN = 1 * SECOND  # from reading to connecting
UP_WITHIN = 10 * SECOND  # from reading until the network is up


class OpenSession:
    """Who knows the session of one network. `peers` are the peers that are heard now, kept by the owner."""

    def __init__(self, peers: set[str]) -> None:
        self._peers = peers
        self._teller: str | None = None  # a peer that is heard, and whose session it is
        self._until = 0  # otherwise
        self._parted: int | None = None  # when the last peer was lost

    def told(self, peer: str) -> None:
        """The peer has told the session, which is its own."""
        self._teller = peer

    def closed(self, peer: str, now: int) -> None:
        """The peer is heard no more."""
        self._parted = now
        if peer == self._teller:
            self._teller, self._until = None, now + LIFETIME

    def left(self, now: int) -> None:
        """This router has left its own session open."""
        self._teller, self._until = None, now + LIFETIME

    def ended(self) -> None:
        """The session has been ended."""
        self._teller, self._until = None, 0

    def usable(self, now: int) -> bool:
        """Whether the session may be there still."""
        return self._teller is not None or now < self._until

    def wanted(self, now: int) -> bool:
        """Whether another router may go on with the session of this one, so that it stays open."""
        return bool(self._peers) or (self._parted is not None and now < self._parted + LIFETIME)


class Outcome(Enum):
    """How an attempt has failed."""

    GONE = "pppd has given up"
    STUCK = "pppd goes on in vain, and has to be stopped"
    UNREAD = "pppd was not started"


class Attempt:
    """pppd's attempt to go on with a session; it succeeds when the network is up, of which others hear."""

    def __init__(self, now: int) -> None:
        self._deadline = now + READ_WITHIN
        self._read: int | None = None
        self._listed = False

    @property
    def reads(self) -> bool:
        """Whether pppd has read which session it is."""
        return self._read is not None

    def read(self, now: int) -> None:
        """Note that pppd has read which session it is."""
        if self._read is None:
            self._read, self._deadline = now, now + UP_WITHIN

    def look(self, listed: bool, now: int) -> Outcome | None:
        """Return how the attempt has failed; None: it goes on. `listed`: the kernel lists the session."""
        self._listed |= listed
        if self._read is None:
            return Outcome.UNREAD if now >= self._deadline else None
        if not listed and (self._listed or now >= self._read + LIST_WITHIN):
            return Outcome.GONE
        return Outcome.STUCK if now >= self._deadline else None
