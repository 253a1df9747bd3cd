# SPDX-License-Identifier: GPL-2.0-or-later
"""Quorum: may this router be active for a group, though it can't hear the others?

Words and arithmetic are those of Corosync's votequorum: each router has one vote, a Tandem witness has one,
and more than half of the expected votes are a quorum. `two_node` lets one vote of two suffice. With
`wait_for_all` a router that has started is quorate only after all routers were connected at once.

A peer gives its vote to whoever is active, or wants to be; which of three questions is asked decides with
which of its states it does so:

    HOLD      this router is active: may it stay so?
    TAKE      the active router is silent: may this router take the role?
    SUCCEED   the active router is heard, and resigns or has a lower priority: may this router follow?

A peer that was active when its channel fell silent counts on this router's vote for a while longer. So this
router takes no role until that time, PROMISE, has passed. All times are monotonic ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tandem.core.events import Ballot
from tandem.core.timers import MILLISECOND, earliest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Presence = tuple[bool, Mapping[str, str], int, bool]
    """A peer is there, the states of its groups as it says, how much later than we it may notice, ns, and
    whether it hears this router."""

NONE, ADVISORY, REQUIRED = "none", "advisory", "required"  # option witness_policy
GRACE = 300 * MILLISECOND  # an active router gives up so long after it has lost its quorum
MARGIN = 700 * MILLISECOND  # of PROMISE, over the peer's own limit and GRACE


class Question(Enum):
    """The purpose of a vote."""

    HOLD = "stay active"
    TAKE = "follow a silent router"
    SUCCEED = "follow a router that is heard"


class Standing(Enum):
    """A peer, as seen for one group."""

    PASSIVE = "connected, and not active"
    DEAF = "not active, and does not hear this router"
    ACTIVE = "connected, and active"
    PROMISED = "silent since a moment ago, and active then"
    AWAY = "not connected"


class Vote(Enum):
    """The answer of a peer."""

    YES = "yes"
    NO = "no"
    VETO = "nobody may"


VOTES: dict[tuple[Standing, Question], Vote] = {
    (Standing.PASSIVE, Question.HOLD): Vote.YES,
    (Standing.PASSIVE, Question.TAKE): Vote.YES,
    (Standing.PASSIVE, Question.SUCCEED): Vote.YES,
    # It may take the role itself: its vote must not count twice.
    (Standing.DEAF, Question.HOLD): Vote.NO,
    (Standing.DEAF, Question.TAKE): Vote.NO,
    (Standing.DEAF, Question.SUCCEED): Vote.NO,
    (Standing.ACTIVE, Question.HOLD): Vote.NO,
    (Standing.ACTIVE, Question.TAKE): Vote.VETO,  # a partition, not a death
    (Standing.ACTIVE, Question.SUCCEED): Vote.YES,
    (Standing.PROMISED, Question.HOLD): Vote.NO,
    (Standing.PROMISED, Question.TAKE): Vote.VETO,
    (Standing.PROMISED, Question.SUCCEED): Vote.VETO,
    (Standing.AWAY, Question.HOLD): Vote.NO,
    (Standing.AWAY, Question.TAKE): Vote.NO,
    (Standing.AWAY, Question.SUCCEED): Vote.NO,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a quorum."""

    policy: str  # ADVISORY or REQUIRED
    peers: tuple[str, ...]
    witness: str = ""  # the name of the Tandem witness; empty: there is none
    two_node: bool = False
    wait_for_all: bool = False

    @property
    def expected(self) -> int:
        """The expected votes."""
        return 1 + len(self.peers) + bool(self.witness)

    @property
    def needed(self) -> int:
        """The votes that are a quorum."""
        return 1 if self.two_node and self.expected == 2 else self.expected // 2 + 1


class _Peer:
    """A peer of the quorum."""

    __slots__ = ("connected", "hears", "promised", "states")

    states: Mapping[str, str]

    def __init__(self) -> None:
        self.connected = self.hears = False
        self.states = {}
        self.promised: dict[str, int] = {}  # by group, until when


class Quorum:
    """Counts the votes. `ACTIVE_STATE` is the word by which a peer says that it is active."""

    ACTIVE_STATE = "MASTER"

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._peers = {name: _Peer() for name in rules.peers}
        self._leases: dict[str, int] = {}  # by group, until when the witness's vote is ours
        self._isolated = False  # no witness host answers
        self._complete = not (rules.wait_for_all and rules.peers)
        self._lacking: dict[str, int] = {}  # groups that are active without a quorum, since when

    def peer(self, name: str, presence: Presence, now: int) -> None:
        """Take what is known of a peer now."""
        peer, (connected, states, notices, hears) = self._peers[name], presence
        peer.hears = hears
        if peer.connected and not connected:
            until = now + notices + GRACE + MARGIN
            peer.promised = {
                group: until for group, state in peer.states.items() if state == self.ACTIVE_STATE
            }
        peer.connected = connected
        if connected:
            peer.states, peer.promised = dict(states), {}
        self._complete = self._complete or all(one.connected for one in self._peers.values())

    def leased(self, group: str, until: int) -> None:
        """The witness has given its vote for a group until this time."""
        self._leases[group] = until

    def refused(self, group: str) -> None:
        """The witness has given its vote to another router."""
        self._leases.pop(group, None)

    def holds(self, group: str, now: int) -> bool:
        """Whether the witness's vote for a group is ours."""
        return self._leases.get(group, now) > now

    def hosts(self, reachable: bool) -> None:
        """Whether at least one of the witness hosts answers."""
        self._isolated = not reachable

    def next_deadline(self, now: int) -> int | None:
        """When a ballot may change by itself; what is over changes none."""
        times = [*self._leases.values(), *(since + GRACE for since in self._lacking.values())]
        for peer in self._peers.values():
            times += peer.promised.values()
        return earliest(*(time for time in times if time > now))

    def ballot(self, group: str, active: bool, now: int) -> Ballot:
        """Count for a group; `active`: this router has the role now."""
        if self._leases.get(group, now) <= now:
            self._leases.pop(group, None)
        answers = {question: self._count(group, question, now) for question in Question}
        # A backup that may succeed lacks nothing: the active router is there.
        why = (
            answers[Question.HOLD if active else Question.TAKE] if active or answers[Question.SUCCEED] else ""
        )
        hold = not active or not answers[Question.HOLD]
        if hold:
            self._lacking.pop(group, None)
        else:
            # Right after a change of the role the predecessor still says that it is active.
            hold = now < self._lacking.setdefault(group, now) + GRACE
        if self.rules.policy != REQUIRED:
            return Ballot(True, True, True, why)
        return Ballot(hold, not answers[Question.TAKE], not answers[Question.SUCCEED], why)

    def _count(self, group: str, question: Question, now: int) -> str:
        """Return why the answer to a question is no; empty: it is yes."""
        if self._isolated:
            return "no witness host answers"
        if not self._complete:
            away = [name for name, peer in self._peers.items() if not peer.connected]
            return f"wait_for_all: {' and '.join(away)} not seen since the start"
        votes = 1 + self.holds(group, now)
        lacking = [] if not self.rules.witness or self.holds(group, now) else [self.rules.witness]
        for name, peer in self._peers.items():
            standing = self._standing(peer, group, now)
            vote = VOTES[standing, question]
            if vote is Vote.VETO:
                return f"{name} is {standing.value}"
            votes += vote is Vote.YES
            lacking += [name] if vote is Vote.NO else []
        if votes >= self.rules.needed:
            return ""
        have = f"{votes} of {self.rules.expected} votes, {self.rules.needed} are needed"
        return f"{have}; missing: {', '.join(lacking)}"

    def _standing(self, peer: _Peer, group: str, now: int) -> Standing:
        if peer.connected:
            if peer.states.get(group) == self.ACTIVE_STATE:
                return Standing.ACTIVE
            return Standing.PASSIVE if peer.hears else Standing.DEAF
        return Standing.PROMISED if peer.promised.get(group, now) > now else Standing.AWAY
