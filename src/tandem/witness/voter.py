# SPDX-License-Identifier: GPL-2.0-or-later
"""The voter: asks the witnesses, looks at the peers, and tells each group what the quorum says.

The daemon loads this module only where `witness_policy` asks for it. It looks ten times a second, which is
cheap, and asks the Tandem witness five times a second while a group is active or wants to be.
"""

from __future__ import annotations

import os
import socket

from tandem.core.quorum import GRACE, REQUIRED, Quorum, Rules
from tandem.core.state import Role
from tandem.core.timers import MILLISECOND, SECOND, earliest
from tandem.witness.hosts import Hosts
from tandem.witness.wire import (
    ANSWER,
    DATAGRAM_MAX,
    GROUPS_MAX,
    HOLDS,
    NAME_MAX,
    NOBODY,
    REQUEST,
    WANTS,
    Message,
    cluster_of,
    pack,
    unpack,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tandem.config.schema import Config, Witness
    from tandem.core.events import Ballot
    from tandem.core.quorum import Presence
    from tandem.core.sync_group import SyncGroup
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.status_schema import QuorumStatus

LOOK = 100 * MILLISECOND  # between two looks at peers and groups
ASK = 200 * MILLISECOND  # between two requests to the witness
IDLE = SECOND  # likewise, while no group wants its vote
SILENCE = 3 * IDLE  # after so long without an answer the witness is said to be silent
UNANSWERED_MAX = 16  # requests whose answers are waited for
_NODE = 8


def rules_of(config: Config) -> Rules:
    """Return the rules of a configuration."""
    settings = config.globals
    voter = next((one.name for one in config.witnesses if one.kind == "tandem"), "")
    waits = settings.two_node if settings.wait_for_all is None else settings.wait_for_all
    names = tuple(peer.name for peer in config.peers)
    return Rules(settings.witness_policy, names, voter, settings.two_node, waits)


class Witnessing:
    """The requests to one Tandem witness, and its answers."""

    def __init__(self, settings: Witness, quorum: Quorum, log: Logger) -> None:
        self.settings = settings
        self.heard: int | None = None  # its last answer
        self._quorum = quorum
        self._log = log
        self._cluster = cluster_of(settings.secret)
        self._node = os.urandom(_NODE)
        self._nonce = NOBODY
        self._number = 0
        self._asked: dict[int, tuple[int, tuple[str, ...]]] = {}  # by number: when, and for which groups
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in settings.address else socket.AF_INET,
            socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        )

    def ask(self, wanted: Iterable[str], now: int) -> None:
        """Ask for the vote for these groups; those that are not named become free."""
        names = [name for name in wanted if len(name.encode()) <= NAME_MAX][:GROUPS_MAX]
        self._number += 1
        self._asked[self._number] = now, tuple(names)
        while len(self._asked) > UNANSWERED_MAX:
            del self._asked[next(iter(self._asked))]
        groups = tuple(
            (WANTS | (HOLDS if self._quorum.holds(name, now) else 0), name.encode()) for name in names
        )
        message = Message(REQUEST, self._cluster, self._node, self._nonce, self._number, 0, groups)
        try:
            self.socket.sendto(
                pack(message, self.settings.secret), (self.settings.address, self.settings.port)
            )
        except OSError as error:
            text = f"witness {self.settings.name}: {error.strerror}"
            self._log.limited(("witness", self.settings.name), "debug", text)

    def read(self, now: int) -> bool:
        """Take all answers that have come; return whether one of them counts."""
        taken = False
        while True:
            try:
                datagram, source = self.socket.recvfrom(DATAGRAM_MAX)
            except BlockingIOError:
                return taken
            except OSError:  # an ICMP error of an earlier request
                continue
            message = unpack(datagram, self.settings.secret, request=False)
            if message is not None and source[0] == self.settings.address:
                taken |= self._take(message, now)

    def _take(self, message: Message, now: int) -> bool:
        asked = self._asked.pop(message.number, None)
        if message.node != self._node or asked is None:
            return False
        self.heard, self._nonce = now, message.nonce
        if message.kind == ANSWER:
            # The witness reckons from a later moment, so the vote always ends here first.
            until = asked[0] + message.duration_ms * MILLISECOND - GRACE
            for name, granted in zip(asked[1], message.granted, strict=False):
                if granted:
                    self._quorum.leased(name, until)
                else:
                    self._quorum.refused(name)
        return True

    @property
    def fresh(self) -> bool:
        """Whether the witness has not said yet which nonce it wants."""
        return self._nonce == NOBODY


class Voter:
    """Tells each group its ballot: `groups()`, `presence(peer)`, `tell(group, ballot)`."""

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        config: Config,
        groups: Callable[[], Mapping[str, SyncGroup]],
        presence: Callable[[str], Presence],
        tell: Callable[[SyncGroup, Ballot], None],
    ) -> None:
        self.quorum = Quorum(rules_of(config))
        self._loop = loop
        self._log = log
        self._groups = groups
        self._presence = presence
        self._tell = tell
        self._ballots: dict[str, Ballot] = {}
        self._ask_at = 0
        voter = next((one for one in config.witnesses if one.kind == "tandem"), None)
        self._witness = Witnessing(voter, self.quorum, log) if voter is not None else None
        hosts = [one for one in config.witnesses if one.kind != "tandem"]
        self._hosts = Hosts(loop, log, hosts, self._reachable) if hosts else None

    def start(self) -> None:
        """Begin to ask and to count."""
        if self._witness is not None:
            self._loop.add_reader(self._witness.socket.fileno(), self._answered)
        if self._hosts is not None:
            self.quorum.hosts(False)
            self._hosts.start()
        self._look(self._loop.now())

    def close(self) -> None:
        """Give the vote back, and stop."""
        self._loop.call_at("quorum", None)
        if self._hosts is not None:
            self._hosts.close()
        if self._witness is not None:
            self._witness.ask((), self._loop.now())
            self._loop.remove_reader(self._witness.socket.fileno())
            self._witness.socket.close()

    @property
    def lacking(self) -> dict[str, str]:
        """The groups without a quorum, with the reasons."""
        return {name: ballot.why for name, ballot in sorted(self._ballots.items()) if ballot.why}

    def status(self) -> QuorumStatus:
        """Return what is known, for `tandem status`."""
        rules, now = self.quorum.rules, self._loop.now()
        heard = self._witness.heard if self._witness is not None else None
        return {
            "policy": rules.policy,
            "expected_votes": rules.expected,
            "quorum": rules.needed,
            "witness": rules.witness,
            "witness_answers": heard is not None and now - heard < SILENCE,
            "leases": sorted(name for name in self._groups() if self.quorum.holds(name, now)),
            "hosts": self._hosts.states() if self._hosts is not None else {},
            "lacking": self.lacking,
        }

    def _answered(self) -> None:
        assert self._witness is not None  # its socket is read
        fresh = self._witness.fresh
        if self._witness.read(self._loop.now()):
            if fresh:
                self._ask_at = 0  # with the nonce that it has just given
            self._look(self._loop.now())

    def _reachable(self, reachable: bool) -> None:
        self.quorum.hosts(reachable)
        self._look(self._loop.now())

    def _look(self, now: int) -> None:
        for name in self.quorum.rules.peers:
            self.quorum.peer(name, self._presence(name), now)
        if self._witness is not None and now >= self._ask_at:
            wanted = [name for name, group in self._groups().items() if group.claims]
            self._witness.ask(wanted, now)
            self._ask_at = now + (ASK if wanted else IDLE)
        for name, group in list(self._groups().items()):
            self._count(name, group, now)
        self._ballots = {name: one for name, one in self._ballots.items() if name in self._groups()}
        due = earliest(now + LOOK, self.quorum.next_deadline(now))
        self._loop.call_at("quorum", due, self._look)

    def _count(self, name: str, group: SyncGroup, now: int) -> None:
        ballot = self.quorum.ballot(name, group.role is Role.ACTIVE, now)
        before = self._ballots[name].why if name in self._ballots else ""
        self._ballots[name] = ballot
        if group.ballot != ballot:
            self._tell(group, ballot)
        if before != ballot.why:
            text = f"no quorum: {ballot.why}" if ballot.why else "it has a quorum"
            level = "warning" if ballot.why and self.quorum.rules.policy == REQUIRED else "info"
            self._log.change(("quorum", name), level, f"{name}: {text}")
