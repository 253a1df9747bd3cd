# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of an upgrade: every row of the table, a pair that is upgraded, and what may go wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.core.timers import SECOND
from tandem.upgrade.report import DONE, FAILED, RUNNING, Report
from tandem.upgrade.steps import ADVICE, LIMITS, TABLE, Action, Examine, Say, Start, Step, Turn, Upgrade
from tandem.upgrade.view import HERE, NONE, THERE, PairView, RouterView, other

D, N, W, L = Turn.DONE, Turn.NOTHING, Turn.WRONG, Turn.LATE
ROWS = {  # what follows DONE, NOTHING and LATE; what is wrong always stops
    "EXAMINE": "LOOK - STOPPED",
    "LOOK": "CLEAR_FIRST FINISHED STOPPED",
    "CLEAR_FIRST": "INSTALL_FIRST CLEAR_SECOND STOPPED",
    "INSTALL_FIRST": "REJOIN_FIRST - STOPPED",
    "REJOIN_FIRST": "EXAMINE_AGAIN - STOPPED",
    "EXAMINE_AGAIN": "CLEAR_SECOND - STOPPED",
    "CLEAR_SECOND": "INSTALL_SECOND RETURN STOPPED",
    "INSTALL_SECOND": "REJOIN_SECOND - STOPPED",
    "REJOIN_SECOND": "RETURN - STOPPED",
    "RETURN": "FINISHED - FINISHED",
}
NEWER = {"tandem": ("0.1.0-r1", "0.2.0-r1")}


def test_the_table_is_this_one() -> None:
    wanted = {}
    for name, words in ROWS.items():
        for turn, word in zip((D, N, L), words.split(), strict=True):
            if word != "-":
                wanted[Step[name], turn] = Step[word]
        if name != "RETURN":
            wanted[Step[name], W] = Step.STOPPED
    assert wanted == TABLE
    assert LIMITS.keys() == {Step[name] for name in ROWS} and ADVICE.keys() == LIMITS.keys() - {Step.RETURN}


@dataclass
class Machine:
    """A router that does what it is told, unless `fails` has the job."""

    name: str
    pid: int
    state: str
    priority: int = 100
    newer: bool = True
    answers: bool = True
    held: bool = False
    report: Report = NONE
    done: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)

    def view(self) -> RouterView:
        return RouterView(self.name, self.answers, self.pid, (self.state,), self.report)


class Scene:
    """A pair, whose coordinator is on `r1`; the time is in seconds."""

    def __init__(self, active: str = HERE, preempt: str = "", **options: bool) -> None:
        self.machines = {
            where: Machine(name, pid, "MASTER" if where == active else "BACKUP")
            for where, name, pid in ((HERE, "r1", 1), (THERE, "r2", 2))
        }
        self.preempt = preempt
        self.in_step = True
        self.findings: list[list[str]] = [[], []]
        self.said: list[str] = []
        self.done: list[str] = []
        self.times: dict[Step, int] = {}  # that each step may take
        self.now = 0
        self.upgrade = Upgrade("abcd", **options)

    def view(self) -> PairView:
        here, there = (self.machines[where].view() for where in (HERE, THERE))
        return PairView(here, there, self.in_step, self.preempt)

    def obey(self, actions: list[Action]) -> None:
        if self.upgrade.deadline is not None:
            self.times.setdefault(self.upgrade.step, self.upgrade.deadline - self.now)
        for action in actions:
            if isinstance(action, Say):
                self.said.append(action.text)
            elif isinstance(action, Start):
                self.start(action)
            else:
                assert isinstance(action, Examine)
                self.obey(self.upgrade.examined(self.findings.pop(0), self.view(), self.now))

    def start(self, order: Start) -> None:
        machine = self.machines[order.where]
        self.done.append(f"{machine.name} {order.job}")
        if order.job in machine.fails:
            state = RUNNING if machine.fails[order.job] == "never" else FAILED
            machine.report = Report(order.number, state, machine.fails[order.job])
            return
        if order.job == "failover":
            self.activate(other(order.where))
            machine.held = True
        elif order.job == "install":
            assert machine.state == "BACKUP", "the gateway was ended"
            machine.newer, machine.held = False, False
            machine.pid += 10
        elif order.job == "resume":
            machine.held = False
        upgradable = NEWER if order.job == "check" and machine.newer else {}
        machine.report = Report(order.number, DONE, "", upgradable)

    def activate(self, where: str) -> None:
        self.machines[where].state, self.machines[other(where)].state = "MASTER", "BACKUP"

    def run(self, limit: int = 4000) -> None:
        self.obey(self.upgrade.begin(self.view(), self.now))
        self.go_on(limit)

    def go_on(self, limit: int = 4000) -> None:
        while not self.upgrade.ended and self.now < limit * SECOND:
            self.now += SECOND
            preferred = self.machines.get(self.preempt)
            if preferred is not None and not preferred.held and self.upgrade.step is Step.RETURN:
                self.activate(self.preempt)
            self.obey(self.upgrade.look(self.view(), self.now))


CHECKS = ["r1 check", "r2 check"]


def test_the_backup_first_then_the_other() -> None:
    scene = Scene(active=HERE)
    scene.run()
    assert scene.upgrade.step is Step.FINISHED
    assert scene.done == [*CHECKS, "r2 install", "r1 failover", "r1 install", "r1 resume"]
    assert "r2: tandem 0.1.0-r1 -> 0.2.0-r1" in scene.said and "r1 hands over to r2" in scene.said


def test_from_the_backup_as_well() -> None:
    scene = Scene(active=THERE)
    scene.run()
    assert scene.upgrade.step is Step.FINISHED
    assert scene.done == [*CHECKS, "r1 install", "r2 failover", "r2 install", "r2 resume"]


def test_the_role_goes_back_where_priorities_say_so() -> None:
    scene = Scene(active=HERE, preempt=HERE)
    scene.run()
    assert scene.upgrade.step is Step.FINISHED and scene.machines[HERE].state == "MASTER"
    assert scene.now < 30 * SECOND
    slow = Scene(active=HERE, preempt=HERE)
    slow.machines[HERE].fails["resume"] = "later"  # as a preempt_delay of minutes
    slow.activate = lambda where: Scene.activate(slow, THERE)  # type: ignore[method-assign]
    slow.run()
    assert slow.upgrade.step is Step.FINISHED and any("later by itself" in text for text in slow.said)


def test_what_is_upgraded_already_is_left_alone() -> None:
    """A second run goes on where the first one has stopped."""
    scene = Scene(active=HERE)
    scene.machines[THERE].newer = False
    scene.run()
    assert scene.done == [*CHECKS, "r1 failover", "r1 install", "r1 resume"]
    scene = Scene(active=HERE)
    scene.machines[HERE].newer = False
    scene.run()
    assert scene.done == [*CHECKS, "r2 install"]
    scene = Scene(active=HERE)
    for machine in scene.machines.values():
        machine.newer = False
    scene.run()
    assert scene.done == CHECKS and "nothing to upgrade" in scene.said[-1]


def test_a_look_changes_nothing() -> None:
    scene = Scene(only_look=True, accepts=True)
    scene.findings[0] = ["a finding"]
    scene.run()
    assert scene.done == CHECKS and scene.upgrade.step is Step.FINISHED
    assert "r1: tandem 0.1.0-r1 -> 0.2.0-r1; r2: tandem 0.1.0-r1 -> 0.2.0-r1" in scene.said
    assert "the doctor: a finding" in scene.said


def test_the_doctor_stops_it_unless_accepted() -> None:
    scene = Scene()
    scene.findings[0] = ["no key"]
    scene.run()
    assert scene.upgrade.step is Step.STOPPED and scene.done == [] and "no key" in scene.upgrade.why
    scene = Scene(accepts=True)
    scene.findings = [["no key"], ["no key"]]
    scene.run()
    assert scene.upgrade.step is Step.FINISHED
    scene = Scene(accepts=True)
    scene.findings = [["no key"], *[["no key", "something new"]] * 2, ["no key"]]
    scene.run()
    assert scene.upgrade.step is Step.FINISHED, "it has mended itself"
    scene = Scene(accepts=True)
    scene.findings = [["no key"], *[["no key", "something new"]] * 3]
    scene.run()
    assert scene.upgrade.step is Step.STOPPED and scene.upgrade.why.startswith("something new")
    assert scene.done == [*CHECKS, "r2 install"] and scene.machines[HERE].state == "MASTER"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"state": "FAULT"}, "r2 is FAULT"),
        ({"answers": False}, "r2 does not answer"),
        ({"state": "MASTER"}, "not one router is MASTER"),
    ],
)
def test_a_pair_that_is_not_ready_is_left_alone(change: dict[str, object], why: str) -> None:
    scene = Scene()
    scene.machines[THERE] = replace(scene.machines[THERE], **change)  # type: ignore[arg-type]
    scene.run()
    assert scene.upgrade.step is Step.STOPPED and scene.upgrade.why.startswith(why) and scene.done == []


def test_not_in_step() -> None:
    scene = Scene()
    scene.in_step = False
    scene.run()
    assert "not in step" in scene.upgrade.why and scene.done == []


@pytest.mark.parametrize("how", ["disk full", "never"])
@pytest.mark.parametrize(
    ("where", "job", "active", "done"),
    [
        (THERE, "check", HERE, 2),
        (THERE, "install", HERE, 3),
        (HERE, "failover", HERE, 5),  # and resume
        (HERE, "install", THERE, 5),
    ],
)
def test_the_first_failure_stops_it_and_the_gateway_stays(
    where: str, job: str, active: str, done: int, how: str
) -> None:
    scene = Scene(active=HERE)
    scene.machines[where].fails[job] = how
    scene.run()
    assert scene.upgrade.step is Step.STOPPED and len(scene.done) == done
    assert scene.machines[active].state == "MASTER"
    if how != "never":
        assert how in scene.upgrade.why
    assert scene.now <= 905 * SECOND


def test_a_router_that_does_not_come_back_in_step_stops_it() -> None:
    scene = Scene(active=HERE)
    scene.machines[THERE].fails["install"] = "never"
    scene.obey(scene.upgrade.begin(scene.view(), 0))
    for step in (Step.CLEAR_FIRST, Step.INSTALL_FIRST):
        scene.obey(scene.upgrade.look(scene.view(), 1))
        assert scene.upgrade.step is step
    machine = scene.machines[THERE]
    machine.report = replace(machine.report, state=DONE)
    scene.obey(scene.upgrade.look(scene.view(), 2))
    assert scene.upgrade.step is Step.REJOIN_FIRST  # the same process: the daemon is the old one
    scene.obey(scene.upgrade.look(scene.view(), 3))
    assert scene.upgrade.step is Step.REJOIN_FIRST
    machine.pid, machine.answers = 77, False
    limit = LIMITS[Step.REJOIN_FIRST] + 2
    scene.obey(scene.upgrade.look(scene.view(), limit - 1))
    assert scene.upgrade.step is Step.REJOIN_FIRST
    scene.obey(scene.upgrade.look(scene.view(), limit))
    assert scene.upgrade.step is Step.STOPPED
    assert scene.upgrade.why.startswith("r2 is not back: r2 does not answer. The gateway is on r1")


def test_each_step_has_its_time() -> None:
    """An installation took 63 s on the slowest router that was tried, and a start of Python 10 s."""
    scene = Scene(active=HERE)
    scene.run()
    assert {step.name: time // SECOND for step, time in scene.times.items()} == {
        "EXAMINE": 150, "LOOK": 240, "CLEAR_FIRST": 60, "INSTALL_FIRST": 900, "REJOIN_FIRST": 300,
        "EXAMINE_AGAIN": 150, "CLEAR_SECOND": 60, "INSTALL_SECOND": 900, "REJOIN_SECOND": 300, "RETURN": 60,
    }  # fmt: skip


@pytest.mark.parametrize(("known_at_first", "known_later"), [(True, False), (False, True), (False, False)])
def test_the_router_of_the_role_is_remembered(known_at_first: bool, known_later: bool) -> None:
    """A router that is being upgraded does not say that it takes the role back."""
    scene = Scene(active=HERE, preempt=HERE if known_at_first else "")
    scene.obey(scene.upgrade.begin(scene.view(), 0))
    scene.activate = lambda where: Scene.activate(scene, THERE)  # type: ignore[method-assign]
    scene.preempt = HERE if known_later else ""
    scene.go_on()
    waited = scene.now >= LIMITS[Step.RETURN]
    assert scene.upgrade.step is Step.FINISHED and waited is (known_at_first or known_later)
    assert any(text.startswith("r1 takes the role back later") for text in scene.said) is waited


def test_packages_without_a_daemon_need_no_restart() -> None:
    scene = Scene(active=HERE)
    tools = {"tandem-tools": ("1", "2")}
    start = scene.start
    scene.start = lambda order: (start(order), setattr(scene.machines[THERE], "pid", 2))[0]  # type: ignore
    scene.obey(scene.upgrade.begin(scene.view(), 0))
    for where in (HERE, THERE):
        machine = scene.machines[where]
        machine.report = replace(machine.report, upgradable=tools if where == THERE else {})
    scene.go_on()
    assert scene.upgrade.step is Step.FINISHED and scene.done == [*CHECKS, "r2 install"]
    assert scene.now < 30 * SECOND


def test_a_pair_that_shares_the_work() -> None:
    """Each router is active for a group: the peer hands over first."""
    scene = Scene()
    here, there = (scene.machines[where].view() for where in (HERE, THERE))
    pair = PairView(
        replace(here, states=("MASTER", "BACKUP")), replace(there, states=("BACKUP", "MASTER")), True
    )
    assert pair.trouble == ""
    upgrade = Upgrade("abcd")
    upgrade.begin(pair, 0)
    checks = [action for action in upgrade.examined([], pair, 0) if isinstance(action, Start)]
    reports = {order.where: Report(order.number, DONE, "", NEWER) for order in checks}
    pair = replace(
        pair,
        here=replace(pair.here, report=reports[HERE]),
        there=replace(pair.there, report=reports[THERE]),
    )
    actions = upgrade.look(pair, 1)
    assert [(action.where, action.job) for action in actions if isinstance(action, Start)] == [
        (THERE, "failover")
    ]


STATES = st.sampled_from(["MASTER", "BACKUP", "FAULT", "not known"])


@given(st.data())
def test_whatever_is_seen_it_ends_and_never_installs_on_the_only_gateway(data: st.DataObject) -> None:
    upgrade, now = Upgrade("abcd", accepts=True), 0
    reports = {HERE: Report(), THERE: Report()}
    pair = PairView(RouterView("r1", True, 1, ("MASTER",)), RouterView("r2", True, 2, ("BACKUP",)), True)
    actions = upgrade.begin(pair, now)
    while not upgrade.ended:
        for action in actions:
            if isinstance(action, Start):
                if action.job == "install":
                    assert pair.active(other(action.where)) and not pair.active(action.where)
                end = data.draw(st.sampled_from([DONE, FAILED, RUNNING]))
                reports[action.where] = Report(action.number, end, "", NEWER if action.job == "check" else {})
        if any(isinstance(action, Examine) for action in actions):
            actions = upgrade.examined(data.draw(st.sampled_from([[], ["x"]])), pair, now)
            continue
        assert upgrade.deadline is not None
        now += data.draw(st.sampled_from([SECOND, 100 * SECOND, 1000 * SECOND]))
        views = {
            where: RouterView(
                name,
                data.draw(st.booleans()),
                data.draw(st.integers(1, 2)),
                (data.draw(STATES),),
                reports[where],
            )
            for where, name in ((HERE, "r1"), (THERE, "r2"))
        }
        pair = PairView(views[HERE], views[THERE], data.draw(st.booleans()))
        actions = upgrade.look(pair, now)
        assert now < 10_000 * SECOND
