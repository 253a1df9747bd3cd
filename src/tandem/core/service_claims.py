# SPDX-License-Identifier: GPL-2.0-or-later
"""Claims: two routers never start the same service, also when both are active.

Each router tells its peers one word for each service: FREE, CLAIMED, HELD or BLOCKED. A message has a
sequence number, which grows when the words change, and acknowledges the peer's last sequence number. A
router that wants to start a service claims it, and starts when every peer has acknowledged the claim with a
word that allows it:

    FREE       it does not run there
    CLAIMED    the peer wants it as well: the router with the greater nonce gets it
    HELD       it runs there, or may run: this router waits
    BLOCKED    it could not be stopped there: this router waits, also when the peer has gone

A peer without a session is taken for dead when the role was taken over from silence: it holds nothing. When
the role was handed over, and no peer has a session, the peer lives and may still stop its services: this
router waits until the peer is back, or an operator clears the service. It waits likewise for a peer that
has said HELD after the role was taken over, so that it lives, and was lost then. A peer that is silent on
the network of the role and does not answer a claim within ANSWER_LIMIT is taken for dead although its
session has not ended yet. All these waits end for a peer whose heartbeats have stopped on every path, and
which does not answer a last question within ANSWER_LIMIT: it has died in the middle of a hand-over.

When the peer's kernel ends the session without a goodbye, the daemon has crashed, and its guardian stops
the services. This router waits until a new daemon says that they are stopped, or their stop timeouts are
over. A service that the peer had claimed may run there as well: the word HELD was lost on its way.

A peer that sends no words is of an older release, or has no services.
"""

from __future__ import annotations

from enum import Enum

from tandem.core.limits import ANSWER_LIMIT
from tandem.core.service import ServiceState, State
from tandem.core.timers import earliest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Hold(Enum):
    """How far a router holds a service."""

    FREE = 0
    CLAIMED = 1
    HELD = 2
    BLOCKED = 3


class Word:
    """A router's word about a service: its hold, and whether the router is able to run the service."""

    __slots__ = ("able", "hold")

    def __init__(self, hold: Hold, able: bool) -> None:
        self.hold = hold
        self.able = able

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Word) and (self.hold, self.able) == (other.hold, other.able)

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, one: ServiceState, claimed: bool) -> Word:
        """Return the word about a service of this router."""
        if one.state is State.BLOCKED:
            hold = Hold.BLOCKED
        elif one.state is not State.STOPPED or one.granted:
            hold = Hold.HELD
        else:
            hold = Hold.CLAIMED if claimed else Hold.FREE
        return cls(hold, not (one.banned or one.disabled or one.state is State.BLOCKED))


class _Peer:
    """A peer, and what it has said last."""

    __slots__ = (
        "ack",
        "asked_at",
        "cleared",
        "connected",
        "dead",
        "heard_at",
        "nonce",
        "opened_at",
        "sequence",
        "silent",
        "speaks",
        "stops_until",
        "words",
    )

    def __init__(self) -> None:
        self.connected = False
        self.speaks = False  # in this session
        self.silent = False  # taken for dead
        self.dead = False  # its heartbeats have stopped, and it has said nothing since then
        self.opened_at = 0
        self.asked_at: int | None = None  # since when an answer is due
        self.stops_until: int | None = None  # its guardian stops the services
        self.words: Mapping[str, Word] = {}
        self.cleared: frozenset[str] = frozenset()  # services that it does not run, an operator says
        self.heard_at = 0  # when it spoke last
        self.sequence = 0  # of its last message
        self.ack = 0  # of our last message that it knows
        self.nonce = 0


class Claims:
    """The words of this router and of its peers."""

    def __init__(self, peers: Iterable[str], nonce: int) -> None:
        self.nonce = nonce
        self.words: dict[str, Word] = {}  # of this router
        self.sequence = 0  # of them
        self._peers = {name: _Peer() for name in peers}
        self._claimed_at: dict[str, int] = {}  # the sequence number of each claim

    def expect(self, peers: Iterable[str]) -> None:
        """Have these peers from now on."""
        self._peers = {name: self._peers.get(name) or _Peer() for name in peers}

    # Events

    def heard(
        self, peer: str, words: Mapping[str, Word], sequence: int, ack: int, nonce: int, now: int
    ) -> None:
        """A peer has told its words."""
        if (one := self._peers.get(peer)) is not None:
            one.words, one.sequence, one.ack, one.nonce = words, sequence, ack, nonce
            one.speaks, one.silent, one.dead = True, False, False
            one.heard_at = now
            if ack >= self.sequence:
                one.asked_at = None

    def connected(self, peer: str, now: int) -> None:
        """A session has begun; the peer tells its words at once, if it knows how to."""
        one = self._peers.get(peer)
        if one is None:
            return
        one.connected, one.speaks, one.silent, one.opened_at, one.ack = True, False, False, now, 0
        one.dead = False
        one.asked_at, one.stops_until, one.cleared = now, None, frozenset()

    def lost(self, peer: str, until: int | None) -> None:
        """The session has ended: the last words count on, as far as the module says.

        `until`: the peer's daemon has crashed, and its guardian stops the services, at most until then.
        """
        if (one := self._peers.get(peer)) is not None:
            one.connected, one.asked_at, one.stops_until = False, None, until

    def died(self, peer: str, now: int) -> bool:
        """The heartbeats of a peer have stopped on every path; whether the words have to be sent again.

        The new sequence number is a question: a peer that lives, and loses only heartbeats, answers it.
        """
        one = self._peers.get(peer)
        if one is None:
            return False
        one.dead = True
        if not one.connected:
            return False
        self.sequence += 1
        for other in self._peers.values():
            if other.connected and other.asked_at is None:
                other.asked_at = now
        return True

    def lives(self, peer: str) -> None:
        """The heartbeats of a peer come again."""
        if (one := self._peers.get(peer)) is not None:
            one.dead = False

    def clear(self, name: str) -> None:
        """An operator says that no absent peer runs the service."""
        for one in self._peers.values():
            if not one.connected:
                one.words = {other: word for other, word in one.words.items() if other != name}
                one.cleared |= {name}

    def tell(self, words: dict[str, Word], now: int) -> bool:
        """Let these be the words of this router; whether they have to be sent."""
        if words == self.words:
            return False
        self.sequence += 1
        self._claimed_at = {
            name: self._claimed_at.get(name, self.sequence) if self._claims(name) else self.sequence
            for name, word in words.items()
            if word.hold is Hold.CLAIMED
        }
        self.words = words
        for one in self._peers.values():
            if one.connected and one.asked_at is None:
                one.asked_at = now
        return True

    def due(self, silent: Iterable[str], now: int) -> None:
        """Take a peer for dead that has not answered in time. `silent`: services of silent routers."""
        asks = any(self._claims(name) for name in silent)
        for one in self._peers.values():
            if one.asked_at is not None and one.asked_at + ANSWER_LIMIT <= now:
                one.silent |= (asks or one.dead) and one.connected
                one.asked_at = None
            if one.stops_until is not None and one.stops_until <= now:
                one.stops_until = None

    def next_deadline(self) -> int | None:
        """When `due` has something to do."""
        found = None
        for one in self._peers.values():
            found = earliest(found, one.stops_until)
            if one.asked_at is not None:
                found = earliest(found, one.asked_at + ANSWER_LIMIT)
        return found

    # Questions

    def granted(self, name: str, handed_over: bool, since: int, now: int) -> bool:
        """Whether this router may start a service, which it claims, and whose role it has `since`."""
        alone = not any(one.connected for one in self._peers.values())
        return all(self._allows(one, name, handed_over and alone, since, now) for one in self._peers.values())

    def may_run(self, peer: str, name: str) -> bool:
        """Whether the service may run at a peer that has said so, or has claimed it."""
        one = self._peers.get(peer)
        return one is not None and name in one.words and one.words[name].hold is not Hold.FREE

    def able_elsewhere(self, name: str) -> bool:
        """Whether another router can run the service, as far as is known; without peers nobody knows."""
        if not self._peers:
            return True
        connected = [one for one in self._peers.values() if one.connected]
        return any(not one.speaks or (name in one.words and one.words[name].able) for one in connected)

    def waits_for(self, name: str, handed_over: bool, since: int) -> str:
        """Return what keeps this router from starting a service, for people."""
        for peer, one in self._peers.items():
            word = one.words.get(name)
            hold = Hold.FREE if word is None else word.hold
            if hold is Hold.BLOCKED:
                return f"{peer}, which could not stop it: tandem service clear {name}, there if it lives"
            if one.connected and hold is not Hold.FREE:
                return f"{peer}, which has not stopped it yet"
            if one.stops_until is not None and hold is not Hold.FREE and name not in one.cleared:
                return f"{peer}, whose daemon has crashed: its guardian stops it"
            lives = (handed_over or _lives(one, hold, since)) and not one.dead
            if not one.connected and lives and name not in one.cleared:
                return f"{peer}, which is gone and has not said that it stopped: tandem service clear {name}"
            if one.connected and not one.silent and one.speaks and one.ack < self.sequence:
                return f"an answer of {peer}"
        return ""

    def ack(self, peer: str) -> int:
        """Return the last sequence number that a peer has told."""
        one = self._peers.get(peer)
        return one.sequence if one is not None else 0

    def _claims(self, name: str) -> bool:
        word = self.words.get(name)
        return word is not None and word.hold is Hold.CLAIMED

    def _allows(self, one: _Peer, name: str, handed_over: bool, since: int, now: int) -> bool:
        word = one.words.get(name)
        hold = Hold.FREE if word is None else word.hold
        if hold is Hold.BLOCKED:
            return False
        if one.stops_until is not None and hold is not Hold.FREE and name not in one.cleared:
            return False
        if not one.connected or one.silent:
            return one.dead or name in one.cleared or not (handed_over or _lives(one, hold, since))
        if not one.speaks:
            return now >= one.opened_at + ANSWER_LIMIT
        if hold is Hold.HELD or (hold is Hold.CLAIMED and one.nonce > self.nonce):
            return False
        return self._claims(name) and one.ack >= self._claimed_at[name]


def _lives(one: _Peer, hold: Hold, since: int) -> bool:
    """Whether a peer held a service, and spoke, after this router had taken the role over."""
    return hold is Hold.HELD and one.heard_at > since
