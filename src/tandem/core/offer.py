# SPDX-License-Identifier: GPL-2.0-or-later
"""Offer: an active router that is to leave its role keeps it until another router serves.

The router says by heartbeat that it offers its role, and goes on forwarding. It announces and advertises
nothing meanwhile. The best neighbour takes the role: it restores the connections, installs the addresses,
tells the hosts, and says by heartbeat that it serves. Then the former active router removes its addresses.
For about a millisecond both have them, and hosts have heard of the new router last.

A router in fault waits before that until the better one holds its connections, which otherwise end: that one
may have just started.

    KEEPS    the role is not offered
    WAITS    the router is to leave, and the better router lacks connections
    OFFERS   the router is to leave, and leaves at the limit whatever the others do
    YIELDS   a better router takes the role by itself, and without it this router stays active
"""

from __future__ import annotations

from enum import Enum

from tandem.core.limits import ENTER_LIMIT, FILL_LIMIT, OFFER_LIMIT


class Stage(Enum):
    """How far the offer of a group has come."""

    KEEPS = "keeps the role"
    WAITS = "waits until a better router holds its connections"
    OFFERS = "offers the role"
    YIELDS = "yields to a better router"


# Events
LACKS = "the router is to leave, and the better router lacks connections"
LEAVES = "the router is to leave its role, and a neighbour takes it"
ENTERS = "a neighbour becomes active: one that takes the offer, or a better one"
SERVES = "a neighbour serves"
OVERDUE = "the limit has passed"
REFUSED = "no neighbour takes the role any more"
STAYS = "the reason to leave is gone"
ENDED = "the role ends"

# Actions
TELL = "tell the neighbours"
LAST = "tell the last of the connections"
LEAVE = "give the role up"
GO = "leave as without a wait"

_KEEPS, _WAITS, _OFFERS, _YIELDS = Stage

TABLE: dict[tuple[Stage, str], tuple[Stage, tuple[str, ...]]] = {
    (_KEEPS, LACKS): (_WAITS, ()),
    (_KEEPS, LEAVES): (_OFFERS, (LAST, TELL)),
    (_KEEPS, ENTERS): (_YIELDS, (LAST, TELL)),
    (_KEEPS, SERVES): (_KEEPS, ()),
    (_KEEPS, OVERDUE): (_KEEPS, ()),
    (_KEEPS, REFUSED): (_KEEPS, ()),
    (_KEEPS, STAYS): (_KEEPS, ()),
    (_KEEPS, ENDED): (_KEEPS, ()),
    (_WAITS, LACKS): (_WAITS, ()),
    (_WAITS, LEAVES): (_OFFERS, (LAST, TELL)),
    (_WAITS, ENTERS): (_YIELDS, (LAST, TELL)),
    (_WAITS, SERVES): (_KEEPS, (LEAVE,)),
    (_WAITS, OVERDUE): (_KEEPS, (GO,)),
    (_WAITS, REFUSED): (_WAITS, ()),
    (_WAITS, STAYS): (_KEEPS, ()),
    (_WAITS, ENDED): (_KEEPS, ()),
    (_OFFERS, LACKS): (_OFFERS, ()),
    (_OFFERS, LEAVES): (_OFFERS, ()),
    (_OFFERS, ENTERS): (_OFFERS, ()),
    (_OFFERS, SERVES): (_KEEPS, (LEAVE,)),
    (_OFFERS, OVERDUE): (_KEEPS, (LEAVE,)),
    (_OFFERS, REFUSED): (_KEEPS, (LEAVE,)),
    (_OFFERS, STAYS): (_KEEPS, (TELL,)),
    (_OFFERS, ENDED): (_KEEPS, ()),
    (_YIELDS, LACKS): (_YIELDS, ()),
    (_YIELDS, LEAVES): (_OFFERS, ()),  # the neighbours know that the role is offered
    (_YIELDS, ENTERS): (_YIELDS, ()),
    (_YIELDS, SERVES): (_KEEPS, (LEAVE,)),
    (_YIELDS, OVERDUE): (_KEEPS, (TELL,)),
    (_YIELDS, REFUSED): (_KEEPS, (TELL,)),
    (_YIELDS, STAYS): (_YIELDS, ()),
    (_YIELDS, ENDED): (_KEEPS, ()),
}


class Offer:
    """The offer of one group; times in ns."""

    def __init__(self) -> None:
        self.stage = Stage.KEEPS
        self.deadline: int | None = None  # when to handle OVERDUE

    @property
    def pending(self) -> bool:
        """Whether the role is offered."""
        return self.stage in (Stage.OFFERS, Stage.YIELDS)

    @property
    def waits(self) -> bool:
        """Whether the role is left, because of a fault, when the better router holds the connections."""
        return self.stage is Stage.WAITS

    @property
    def begun(self) -> bool:
        """Whether the role is to be left, offered or not yet."""
        return self.stage is not Stage.KEEPS

    def handle(self, event: str, now: int, patience: int = FILL_LIMIT) -> tuple[str, ...]:
        """Take an event and return the actions; `patience`: how long WAITS may last."""
        before = self.stage
        self.stage, actions = TABLE[before, event]
        if self.stage is Stage.KEEPS:
            self.deadline = None
        elif event == ENTERS:
            self.deadline = now + ENTER_LIMIT
        elif self.stage is Stage.WAITS and before is not Stage.WAITS:
            self.deadline = now + min(FILL_LIMIT, patience)
        elif before in (Stage.KEEPS, Stage.WAITS) and self.pending:
            self.deadline = now + OFFER_LIMIT
        return actions
