# SPDX-License-Identifier: GPL-2.0-or-later
"""A pair in an upgrade, as the coordinator sees it: pure."""

from __future__ import annotations

from dataclasses import dataclass

from tandem.upgrade.report import Report

HERE, THERE = "here", "there"  # where the upgrade was started, and its peer
NONE = Report()
BY_HAND = "opkg upgrade tandem, or apk upgrade tandem"


@dataclass(frozen=True, slots=True)
class RouterView:
    """One router, as it is seen now. A router that does not answer has the values of before, or none."""

    name: str
    answers: bool = False
    pid: int = 0  # of its daemon
    states: tuple[str, ...] = ()  # of its groups, in one order on both routers
    report: Report = NONE
    by_hand: str = BY_HAND  # what a person types
    silence: str = ""  # why it does not answer, if that is known


@dataclass(frozen=True, slots=True)
class PairView:
    """Both routers. `in_step`: they know each other's connections, as far as these are replicated.

    `preferred`: the router that takes the role back by itself, as priorities say; "": neither.
    """

    here: RouterView
    there: RouterView
    in_step: bool = False
    preferred: str = ""

    def of(self, where: str) -> RouterView:
        """Return the router that HERE or THERE names."""
        return self.here if where == HERE else self.there

    def active(self, where: str) -> int:
        """Return how many groups a router is active for."""
        return self.of(where).states.count("MASTER")

    @property
    def trouble(self) -> str:
        """Why neither router may be stopped now; empty: one is active, and the other is ready and in step."""
        for one in (self.here, self.there):
            if not one.answers:
                return one.silence or f"{one.name} does not answer"
        return self.trouble_of_roles

    @property
    def trouble_of_roles(self) -> str:
        """Why the roles of the routers forbid it to stop one; a peer that takes no orders need not answer."""
        for one in (self.here, self.there):
            if unfit := sorted({state for state in one.states if state not in ("MASTER", "BACKUP")}):
                return f"{one.name} is {' and '.join(unfit)}"
        both = list(zip(self.here.states, self.there.states, strict=False))
        if not both or any(sorted(states) != ["BACKUP", "MASTER"] for states in both):
            return "not one router is MASTER and the other BACKUP, for each group"
        return "" if self.in_step else f"{self.there.name} and {self.here.name} are not in step"


def other(where: str) -> str:
    """Return the other one of HERE and THERE."""
    return THERE if where == HERE else HERE
