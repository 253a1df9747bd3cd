# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of an upgrade of a pair: pure.

The order is the product. One of two routers has the role, and the other one is its spare: the spare is
upgraded first, while the gateway stays where it works. Only when the upgraded router is back and in step does
it get the role, so that the new release has proved itself before the old one goes. Then the other router is
upgraded.

The first thing that is wrong ends the upgrade. Nothing is undone then: packages are not downgraded, and the
role is where it works. What a person has to do next stands beside each step. A later run goes on from there,
because it looks at both routers anew.

A step begins with its orders. It ends when the routers are seen to be as the step wants them, whatever an
order has reported, and no later than its limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from tandem.core.timers import SECOND
from tandem.upgrade.report import DONE, FAILED, RUNNING, Report
from tandem.upgrade.view import HERE, NONE, THERE, PairView, other


class Step(Enum):
    """The steps of an upgrade. FIRST is the router that is upgraded first, SECOND the other one."""

    EXAMINE = "doctor on both"
    LOOK = "look for packages"
    CLEAR_FIRST = "hand over the role of the first"
    INSTALL_FIRST = "upgrade the first"
    REJOIN_FIRST = "wait for the first"
    EXAMINE_AGAIN = "doctor again"
    CLEAR_SECOND = "switch over"
    INSTALL_SECOND = "upgrade the second"
    REJOIN_SECOND = "wait for the second"
    RETURN = "let priorities decide"
    FINISHED = "finished"
    STOPPED = "stopped"


class Turn(Enum):
    """How a step ends."""

    DONE = "done"
    NOTHING = "nothing to upgrade"
    WRONG = "something is wrong"
    LATE = "too late"


_UNHAPPY = (Turn.WRONG, Turn.LATE)
TABLE: dict[tuple[Step, Turn], Step] = {
    (Step.EXAMINE, Turn.DONE): Step.LOOK,
    (Step.LOOK, Turn.DONE): Step.CLEAR_FIRST,
    (Step.LOOK, Turn.NOTHING): Step.FINISHED,
    (Step.CLEAR_FIRST, Turn.DONE): Step.INSTALL_FIRST,
    (Step.CLEAR_FIRST, Turn.NOTHING): Step.CLEAR_SECOND,
    (Step.INSTALL_FIRST, Turn.DONE): Step.REJOIN_FIRST,
    (Step.REJOIN_FIRST, Turn.DONE): Step.EXAMINE_AGAIN,
    (Step.EXAMINE_AGAIN, Turn.DONE): Step.CLEAR_SECOND,
    (Step.CLEAR_SECOND, Turn.DONE): Step.INSTALL_SECOND,
    (Step.CLEAR_SECOND, Turn.NOTHING): Step.RETURN,
    (Step.INSTALL_SECOND, Turn.DONE): Step.REJOIN_SECOND,
    (Step.REJOIN_SECOND, Turn.DONE): Step.RETURN,
    (Step.RETURN, Turn.DONE): Step.FINISHED,
    (Step.RETURN, Turn.LATE): Step.FINISHED,  # a long preempt_delay: it goes back by itself
    **{
        (step, turn): Step.STOPPED
        for step in (
            Step.EXAMINE, Step.LOOK, Step.CLEAR_FIRST, Step.INSTALL_FIRST, Step.REJOIN_FIRST,
            Step.EXAMINE_AGAIN, Step.CLEAR_SECOND, Step.INSTALL_SECOND, Step.REJOIN_SECOND,
        )
        for turn in _UNHAPPY
    },
}  # fmt: skip

# How long a step may take. The slowest router that was tried takes 63 s for an installation, and 10 s to
# start a Python; feeds may be slow.
LIMITS = {
    Step.EXAMINE: 150 * SECOND,
    Step.LOOK: 240 * SECOND,
    Step.CLEAR_FIRST: 60 * SECOND,
    Step.INSTALL_FIRST: 900 * SECOND,
    Step.REJOIN_FIRST: 300 * SECOND,
    Step.EXAMINE_AGAIN: 150 * SECOND,
    Step.CLEAR_SECOND: 60 * SECOND,
    Step.INSTALL_SECOND: 900 * SECOND,
    Step.REJOIN_SECOND: 300 * SECOND,
    Step.RETURN: 60 * SECOND,
}
EXAMINATIONS = 3  # of a router that has just come back: some of what is wrong then mends itself in seconds
# What to do when a step has failed. {router} is the one that the step is about, {other} the other one.
ADVICE = {
    Step.EXAMINE: "Mend that, or use --force if you know it does no harm",
    Step.LOOK: "Look at the feeds of that router; nothing was changed",
    Step.CLEAR_FIRST: "Run `tandem why` on both routers; nothing was changed",
    Step.INSTALL_FIRST: "The gateway is on {other}. Mend it on {router} by hand ({by_hand}), then run"
    " `tandem upgrade` again",
    Step.REJOIN_FIRST: "The gateway is on {other}, which has the old release. Run `tandem status` and"
    " `logread -e tandemd` on {router}",
    Step.EXAMINE_AGAIN: "The gateway is on {other}, which has the old release. Mend that on {router}, then"
    " run `tandem upgrade` again",
    Step.CLEAR_SECOND: "{other} has the new release, {router} the old one. Run `tandem why` on both routers",
    Step.INSTALL_SECOND: "The gateway is on {other}, which has the new release. Mend it on {router} by hand"
    " ({by_hand})",
    Step.REJOIN_SECOND: "The gateway is on {other}, which has the new release. Run `tandem status` and"
    " `logread -e tandemd` on {router}",
}


@dataclass(frozen=True, slots=True)
class Examine:
    """Run the doctor on both; then call `examined`."""


@dataclass(frozen=True, slots=True)
class Start:
    """Give a router an order, see `order`."""

    where: str
    job: str
    number: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user."""

    text: str


Action = Examine | Start | Say
Judgement = tuple[Turn, str]


class Upgrade:
    """One upgrade. `number` begins the numbers of its orders: 4 hexadecimal digits that no former one had.

    `only_look`: nothing is changed. `accepts`: findings of the doctor do not stop it.
    """

    def __init__(self, number: str, only_look: bool = False, accepts: bool = False) -> None:
        self.step = Step.EXAMINE
        self.deadline: int | None = None
        self.why = ""  # of STOPPED
        self._only_look = only_look
        self._accepts = accepts
        self._number = number
        self._orders = 0
        self._expected: dict[str, str] = {}  # number of the last order by router
        self._todo: dict[str, dict[str, tuple[str, str]]] = {HERE: {}, THERE: {}}
        self._first = THERE
        self._pid = 0
        self._known: frozenset[str] = frozenset()  # findings of the first examination
        self._again = 0  # examinations after the first router's upgrade
        self._handed_over: list[str] = []
        self._preferred = ""

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.step in (Step.FINISHED, Step.STOPPED)

    def begin(self, pair: PairView, now: int) -> list[Action]:
        """Begin with the first step."""
        self._preferred = pair.preferred
        self.deadline = now + LIMITS[self.step]
        if trouble := pair.trouble:
            return self._turn(Turn.WRONG, trouble, pair, now)
        return [Say("the doctor looks at both routers"), Examine()]

    def examined(self, findings: Sequence[str], pair: PairView, now: int) -> list[Action]:
        """Take the findings of the doctor."""
        if self.step is Step.EXAMINE:
            self._known = frozenset(findings)
            worse = [] if self._accepts else list(findings)
        elif self.step is Step.EXAMINE_AGAIN:
            worse = [finding for finding in findings if finding not in self._known]
            self._again += 1
            if worse and self._again < EXAMINATIONS:
                return [Examine()]
        else:
            return []
        if worse:
            return self._turn(Turn.WRONG, "; ".join(worse), pair, now)
        said: list[Action] = [Say(f"the doctor: {finding}") for finding in findings]
        return said + self._turn(Turn.DONE, "", pair, now)

    def look(self, pair: PairView, now: int) -> list[Action]:
        """Take the routers as they are seen now, which may end the step."""
        self._preferred = pair.preferred or self._preferred
        judgement = _JUDGES[self.step](self, pair) if self.step in _JUDGES else None
        if judgement is None and self.deadline is not None and now >= self.deadline:
            judgement = Turn.LATE, self._missing(pair)
        return [] if judgement is None else self._turn(*judgement, pair, now)

    # Moving

    def _turn(self, turn: Turn, why: str, pair: PairView, now: int) -> list[Action]:
        before, self.step = self.step, TABLE[self.step, turn]
        self.deadline = now + LIMITS[self.step] if self.step in LIMITS else None
        if self.step is Step.STOPPED:
            return self._stop(before, why, pair)
        actions: list[Action] = [Say(why)] if why else []
        begin = _BEGINS.get(self.step)
        return actions + (begin(self, pair) if begin is not None else [])

    def _stop(self, at: Step, why: str, pair: PairView) -> list[Action]:
        router = self._subject(at)
        names = {"router": pair.of(router).name, "other": pair.of(other(router)).name}
        self.why = f"{why}. {ADVICE[at].format(by_hand=pair.of(router).by_hand, **names)}"
        # A router that was told to hand over does not preempt until `resume`.
        resume = at in (Step.CLEAR_FIRST, Step.CLEAR_SECOND) and router in self._handed_over
        return [self._order(router, "resume")] if resume else []

    def _missing(self, pair: PairView) -> str:
        """Say what a step that is late has waited for."""
        router = pair.of(self._subject(self.step))
        what = {
            Step.CLEAR_FIRST: "has not handed over",
            Step.CLEAR_SECOND: "has not handed over",
            Step.INSTALL_FIRST: "has not finished the upgrade of its packages",
            Step.INSTALL_SECOND: "has not finished the upgrade of its packages",
        }.get(self.step, "is not back")
        if self.step in (Step.EXAMINE, Step.EXAMINE_AGAIN, Step.LOOK):
            return "there was no answer in time"
        if self.step is Step.RETURN:
            return f"{pair.of(self._preferred).name} takes the role back later by itself (`tandem why`)"
        return f"{router.name} {what}: {pair.trouble or 'it goes on as before'}"

    def _subject(self, step: Step) -> str:
        second = (Step.CLEAR_SECOND, Step.INSTALL_SECOND, Step.REJOIN_SECOND)
        return other(self._first) if step in second else self._first

    def _order(self, where: str, job: str) -> Start:
        self._orders += 1
        number = f"{self._number}{self._orders:04x}"
        self._expected[where] = number
        return Start(where, job, number)

    # How steps begin

    def _begin_look(self, pair: PairView) -> list[Action]:
        return [
            Say("both routers read the indexes of their feeds"),
            self._order(HERE, "check"),
            self._order(THERE, "check"),
        ]

    def _begin_clear(self, pair: PairView) -> list[Action]:
        where = self._subject(self.step)
        if not self._todo[where] or not pair.active(where):
            return []
        self._handed_over.append(where)
        text = f"{pair.of(where).name} hands over to {pair.of(other(where)).name}"
        return [Say(text), self._order(where, "failover")]

    def _begin_install(self, pair: PairView) -> list[Action]:
        where = self._subject(self.step)
        self._pid = pair.of(where).pid
        return [Say(f"{pair.of(where).name}: {_upgrades(self._todo[where])}"), self._order(where, "install")]

    def _begin_rejoin(self, pair: PairView) -> list[Action]:
        return [Say(f"{pair.of(self._subject(self.step)).name} has the packages; until it is in step ...")]

    def _begin_examine(self, pair: PairView) -> list[Action]:
        return [Say("the doctor looks again"), Examine()]

    def _begin_return(self, pair: PairView) -> list[Action]:
        return [self._order(where, "resume") for where in dict.fromkeys(self._handed_over)]

    # How steps end

    def _done_look(self, pair: PairView) -> Judgement | None:
        for where in (HERE, THERE):
            if why := self._failed(pair, where):
                return Turn.WRONG, why
        if not all(self._report(pair, where).state == DONE for where in (HERE, THERE)):
            return None
        self._todo = {where: pair.of(where).report.upgradable for where in (HERE, THERE)}
        # The router that is active for less; of two that share the work, the peer.
        self._first = HERE if pair.active(HERE) < pair.active(THERE) else THERE
        lines = [f"{pair.of(where).name}: {_upgrades(self._todo[where])}" for where in (HERE, THERE)]
        nothing = self._only_look or not any(self._todo.values())
        return (Turn.NOTHING if nothing else Turn.DONE), "; ".join(lines)

    def _done_clear(self, pair: PairView) -> Judgement | None:
        where = self._subject(self.step)
        if not self._todo[where]:
            return Turn.NOTHING, ""
        if where in self._handed_over and (why := self._failed(pair, where)):
            return Turn.WRONG, why
        return None if pair.active(where) or pair.trouble else (Turn.DONE, "")

    def _done_install(self, pair: PairView) -> Judgement | None:
        where = self._subject(self.step)
        if why := self._failed(pair, where):
            return Turn.WRONG, why
        return (Turn.DONE, "") if self._report(pair, where).state == DONE else None

    def _done_rejoin(self, pair: PairView) -> Judgement | None:
        where = self._subject(self.step)
        restarts = "tandem" in self._todo[where]  # the other packages hold nothing that runs
        if pair.trouble or (restarts and pair.of(where).pid == self._pid):
            return None
        return Turn.DONE, f"{pair.of(where).name} is back and in step"

    def _done_return(self, pair: PairView) -> Judgement | None:
        if any(
            self._report(pair, where).state in ("", RUNNING) for where in dict.fromkeys(self._handed_over)
        ):
            return None
        if self._preferred and pair.active(self._preferred) < len(pair.of(self._preferred).states):
            return None
        return Turn.DONE, ""

    def _report(self, pair: PairView, where: str) -> Report:
        """Return the report of the last order; an empty one while there is none."""
        report = pair.of(where).report
        return report if report.number == self._expected.get(where) else NONE

    def _failed(self, pair: PairView, where: str) -> str:
        report = self._report(pair, where)
        return f"{pair.of(where).name}: {report.why or 'failed'}" if report.state == FAILED else ""


_BEGINS: dict[Step, Callable[[Upgrade, PairView], list[Action]]] = {
    Step.LOOK: Upgrade._begin_look,
    Step.CLEAR_FIRST: Upgrade._begin_clear,
    Step.INSTALL_FIRST: Upgrade._begin_install,
    Step.REJOIN_FIRST: Upgrade._begin_rejoin,
    Step.EXAMINE_AGAIN: Upgrade._begin_examine,
    Step.CLEAR_SECOND: Upgrade._begin_clear,
    Step.INSTALL_SECOND: Upgrade._begin_install,
    Step.REJOIN_SECOND: Upgrade._begin_rejoin,
    Step.RETURN: Upgrade._begin_return,
}
_JUDGES: dict[Step, Callable[[Upgrade, PairView], Judgement | None]] = {
    Step.LOOK: Upgrade._done_look,
    Step.CLEAR_FIRST: Upgrade._done_clear,
    Step.INSTALL_FIRST: Upgrade._done_install,
    Step.REJOIN_FIRST: Upgrade._done_rejoin,
    Step.CLEAR_SECOND: Upgrade._done_clear,
    Step.INSTALL_SECOND: Upgrade._done_install,
    Step.REJOIN_SECOND: Upgrade._done_rejoin,
    Step.RETURN: Upgrade._done_return,
}


def _upgrades(todo: dict[str, tuple[str, str]]) -> str:
    """Return what is upgraded, for people."""
    return ", ".join(f"{name} {old} -> {new}" for name, (old, new) in todo.items()) or "nothing to upgrade"
