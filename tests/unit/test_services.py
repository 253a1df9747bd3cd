# SPDX-License-Identifier: GPL-2.0-or-later
"""The services of a router: order, places, claims, departure; 100 of them are planned in no time."""

from __future__ import annotations

from collections.abc import Sequence

from tandem.core.limits import ANSWER_LIMIT, DEPARTURE_LIMIT
from tandem.core.service import Operation, State
from tandem.core.service_claims import Claims, Hold, Word
from tandem.core.services import (
    MONITOR_PAUSE,
    OPERATIONS_MAX,
    Action,
    Changed,
    Failed,
    Fit,
    Left,
    Place,
    Run,
    Runs,
    Services,
    Tell,
)
from tandem.core.settings import Service
from tandem.core.timers import MILLISECOND, SECOND

NGINX = "ocf:heartbeat:nginx"
GOOD, ABSENT = 0, 7
FREE, HELD = Word(Hold.FREE, True), Word(Hold.HELD, True)


def service(name: str, *after: str, **settings: object) -> Service:
    return Service(name, NGINX, **{"group": "G", "after": after, **settings})  # type: ignore[arg-type]


class Bench:
    """A router whose operations end when the test says so."""

    def __init__(self, *settings: Service, peers: Sequence[str] = ()) -> None:
        self.core = Services(settings, peers, 5)
        self.now = SECOND
        self.actions: list[Action] = []
        self.done(self.core.start(self.now))
        for name in self.core.services:
            self.end(name, Operation.PROBE, ABSENT)
        self.actions.clear()

    def done(self, actions: list[Action]) -> None:
        self.actions += actions

    def runs(self) -> list[tuple[str, str]]:
        """The operations since the last question."""
        found = [(action.name, action.operation.value) for action in self.actions if isinstance(action, Run)]
        self.actions.clear()
        return found

    def place(self, place: Place, handed_over: bool = False, group: str = "G") -> None:
        self.done(self.core.placed(group, place, self.now, handed_over))

    def end(self, name: str, operation: Operation, status: int = GOOD) -> None:
        self.done(self.core.ended(name, operation, status, "", self.now))

    def heard(self, words: dict[str, Word], ack: int, nonce: int = 1) -> None:
        self.done(self.core.heard("r2", words, 1, ack, nonce, self.now))

    def wait(self, ns: int) -> None:
        self.now += ns
        deadline = self.core.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.done(self.core.due(self.now))


def test_each_is_probed_first_and_stays_stopped_without_a_role() -> None:
    core = Services([service("a"), service("b")], (), 5)
    assert [action for action in core.start(0) if isinstance(action, Run)] == [
        Run("a", Operation.PROBE), Run("b", Operation.PROBE),
    ]  # fmt: skip
    assert not [a for a in core.placed("G", Place.ACTIVE, 1) if isinstance(a, Run)], (
        "nothing starts before its probe"
    )
    assert Run("a", Operation.START) in core.ended("a", Operation.PROBE, ABSENT, "", 2)


def test_what_runs_where_it_must_not_is_stopped() -> None:
    core = Services([service("a")], (), 5)
    core.start(0)
    assert Run("a", Operation.STOP) in core.ended("a", Operation.PROBE, GOOD, "", 2)


def test_in_order_and_side_by_side_where_no_order_forbids_it() -> None:
    bench = Bench(service("disk"), service("db", "disk"), service("web", "db"), service("vpn"))
    bench.place(Place.ACTIVE)
    assert bench.runs() == [("disk", "start"), ("vpn", "start")]
    bench.end("disk", Operation.START)
    assert bench.runs() == [("db", "start")]
    bench.end("db", Operation.START)
    bench.end("web", Operation.START)
    bench.end("vpn", Operation.START)
    bench.runs()
    bench.place(Place.NONE)
    assert bench.runs() == [("web", "stop"), ("vpn", "stop")], "backwards"
    bench.end("web", Operation.STOP)
    assert bench.runs() == [("db", "stop")]
    bench.end("db", Operation.STOP)
    assert bench.runs() == [("disk", "stop")]


def test_all_that_stands_on_a_failed_service_stops_first_and_starts_again() -> None:
    bench = Bench(service("disk"), service("db", "disk"), service("web", "db"))
    bench.place(Place.ACTIVE)
    for name in ("disk", "db", "web"):
        bench.end(name, Operation.START)
    bench.runs()
    bench.wait(SECOND)
    bench.done(bench.core.died("disk", "killed", bench.now))
    for name in ("web", "db", "disk"):
        assert bench.runs() == [(name, "stop")]
        bench.end(name, Operation.STOP)
    for name in ("disk", "db", "web"):
        assert bench.runs() == [(name, "start")]
        bench.end(name, Operation.START)
    assert all(one.up for one in bench.core.services.values())


def test_the_role_goes_while_a_service_starts() -> None:
    bench = Bench(service("a"))
    bench.place(Place.ACTIVE)
    bench.runs()
    bench.place(Place.NONE)
    assert bench.runs() == [("a", "stop")], "the start is ended, and then it is stopped"


def test_a_restart_of_one_restarts_what_stands_on_it() -> None:
    bench = Bench(service("a"), service("b", "a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.end("b", Operation.START)
    bench.runs()
    bench.done(bench.core.died("a", "", bench.now))
    assert bench.runs() == [("b", "stop")]
    bench.end("b", Operation.STOP)
    assert bench.runs() == [("a", "stop")]
    bench.end("a", Operation.STOP)
    assert bench.runs() == [], "not twice in a second"
    bench.wait(SECOND)
    assert bench.runs() == [("a", "start")]
    bench.end("a", Operation.START)
    bench.wait(SECOND)
    assert bench.runs() == [("b", "start")]


def test_after_orders_only_what_runs_here_and_with_binds() -> None:
    bench = Bench(
        service("replica", where="backup"),
        service("a", "replica"),
        service("b", together=("a",)),
        service("c"),
    )
    bench.place(Place.ACTIVE)
    assert bench.runs() == [("a", "start"), ("b", "start"), ("c", "start")]
    bench.end("b", Operation.START)
    bench.end("a", Operation.START, 1)  # a is banned, and b with it
    assert bench.runs() == [("a", "stop"), ("b", "stop")]


def test_places() -> None:
    bench = Bench(service("a"), service("b", where="backup"), service("e", where="everywhere", group=""))
    assert [one.state for one in bench.core.services.values()] == [S.STOPPED, S.STOPPED, S.STARTING]
    bench.place(Place.BACKUP)
    assert bench.runs() == [("b", "start")]
    bench.end("b", Operation.START)
    bench.place(Place.ACTIVE)
    assert bench.runs() == [("a", "start"), ("b", "stop")]


S = State


def test_the_group_loses_its_role_where_a_service_cannot_run() -> None:
    bench = Bench(service("a", on_fail="failover"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.actions.clear()
    bench.done(bench.core.died("a", "", bench.now))
    assert Fit("a", False) in bench.actions
    bench.done(bench.core.clear("a", bench.now))
    assert Fit("a", True) in bench.actions


def test_a_role_that_nobody_could_serve_better_stays() -> None:
    """With both routers unfit the gateway goes on without the service."""
    bench = Bench(service("a"), peers=["r2"])
    bench.done(bench.core.connected("r2", bench.now))
    bench.heard({"a": Word(Hold.FREE, False)}, 1)
    bench.place(Place.ACTIVE)
    bench.heard({"a": Word(Hold.FREE, False)}, 9)
    bench.actions.clear()
    bench.end("a", Operation.START, 5)
    assert bench.core.services["a"].banned and Fit("a", False) not in bench.actions
    bench.actions.clear()
    bench.heard({"a": FREE}, 9)
    assert Fit("a", False) in bench.actions, "the other one can run it now"
    assert Changed("a") not in bench.actions


def test_a_failure_is_told_once() -> None:
    bench = Bench(service("a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START, 1)
    assert bench.actions.count(Failed("a")) == 1
    bench.actions.clear()
    bench.end("a", Operation.STOP)
    assert Failed("a") not in bench.actions
    bench.done(bench.core.died("a", "", bench.now))
    assert Failed("a") not in bench.actions, "it was not up"


def test_what_is_said_of_a_service_that_is_not_there_changes_nothing() -> None:
    bench = Bench(service("a"))
    for actions in (
        bench.core.died("b", "", bench.now),
        bench.core.ailed("b", "ping", "", bench.now),
        bench.core.ended("b", Operation.STOP, 1, "", bench.now),
    ):
        assert actions == []


def test_a_ban_ends_with_its_failures() -> None:
    bench = Bench(service("a", failure_timeout_ms=5000))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START, 1)
    bench.end("a", Operation.STOP)
    assert bench.core.services["a"].banned
    bench.actions.clear()
    bench.wait(5 * SECOND)
    assert Fit("a", True) in bench.actions and bench.runs() == [("a", "start")]


def test_a_reload_says_everything_again() -> None:
    """The groups of the new configuration begin without news."""
    bench = Bench(service("a", stickiness=10))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.actions.clear()
    bench.done(bench.core.reload([service("a", stickiness=10)], (), bench.now))
    assert bench.actions == [Fit("a", True), Runs("a", True), Changed("a")]


def test_stickiness_follows_the_service() -> None:
    bench = Bench(service("a", stickiness=10))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    assert Runs("a", True) in bench.actions and Changed("a") in bench.actions
    bench.place(Place.NONE)
    assert Runs("a", False) in bench.actions


def test_a_look_monitors_at_once_what_runs() -> None:
    """After a move of the firewall or of the network nobody waits for the interval."""
    bench = Bench(service("a"), service("b", monitor_interval_ms=0))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.end("b", Operation.START)
    bench.runs()
    bench.done(bench.core.look(bench.now))
    assert bench.runs() == [("a", "monitor")], "b has no monitor"


def test_what_keeps_a_service_from_its_start_is_told() -> None:
    bench = Bench(service("db"), service("web", "db"))
    assert bench.core.waits_for("web") == "", "nobody wants it here"
    bench.place(Place.ACTIVE)
    assert (bench.core.waits_for("db"), bench.core.waits_for("web")) == ("", "service db")
    bench.end("db", Operation.START)
    assert bench.core.waits_for("web") == ""
    bench.done(bench.core.disable("web", True, bench.now))
    assert bench.core.waits_for("web") == "an operator: tandem service start web"
    bench.end("web", Operation.START)
    bench.end("web", Operation.STOP, 1)
    bench.done(bench.core.disable("web", False, bench.now))
    assert bench.core.waits_for("web").startswith("an operator, because it could not be stopped")
    bench.done(bench.core.died("db", "", bench.now))
    bench.end("db", Operation.STOP)
    assert bench.core.waits_for("db") == ""


def test_a_banned_service_waits_for_the_end_of_its_failures() -> None:
    bench = Bench(service("a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START, 5)
    assert bench.core.waits_for("a") == "an end of its failures: tandem service clear a"


# Claims


def test_a_router_says_whether_it_is_able_to_run_a_service() -> None:
    bench = Bench(service("a"), service("e", where="everywhere", group=""))
    word = bench.core.claims.words
    assert word == {"a": FREE}, "nobody asks about a service that runs everywhere"
    bench.done(bench.core.disable("a", True, bench.now))
    assert bench.core.claims.words == {"a": Word(Hold.FREE, False)}
    bench.done(bench.core.disable("a", False, bench.now))
    bench.place(Place.ACTIVE)
    assert bench.core.claims.words == {"a": HELD}
    bench.end("a", Operation.START, 1)
    assert bench.core.claims.words == {"a": Word(Hold.HELD, False)}, "banned"
    bench.end("a", Operation.STOP, 1)
    assert bench.core.claims.words == {"a": Word(Hold.BLOCKED, False)}


def claimed(handed_over: bool = False) -> Bench:
    """A router with a peer that is there, and that has just become active."""
    bench = Bench(service("a"), peers=["r2"])
    bench.done(bench.core.connected("r2", bench.now))
    bench.heard({"a": HELD}, 1)
    bench.place(Place.ACTIVE, handed_over)
    assert bench.runs() == [] and bench.core.claims.words["a"].hold is Hold.CLAIMED
    return bench


def test_a_start_waits_for_the_peer_to_say_that_it_holds_nothing() -> None:
    bench = claimed(handed_over=True)
    bench.heard({"a": FREE}, bench.core.claims.sequence - 1)
    assert bench.runs() == [], "that was said before the claim was known"
    bench.heard({"a": FREE}, bench.core.claims.sequence)
    assert Tell() in bench.actions and bench.runs() == [("a", "start")]
    assert bench.core.claims.words["a"].hold is Hold.HELD


def test_what_a_claim_waits_for_is_told() -> None:
    bench = claimed()
    assert bench.core.waits_for("a") == "r2, which has not stopped it yet"
    bench.heard({"a": FREE}, bench.core.claims.sequence - 1)
    assert bench.core.waits_for("a") == "an answer of r2"
    bench.heard({"a": FREE}, bench.core.claims.sequence)
    assert bench.core.waits_for("a") == ""


def test_a_peer_is_told_which_of_its_messages_is_known() -> None:
    bench = claimed()
    assert (bench.core.claims.ack("r2"), bench.core.claims.ack("r9")) == (1, 0)
    assert Bench(service("a"), peers=["r2"]).core.claims.ack("r2") == 0, "it has said nothing"


def test_a_peer_of_an_older_release_says_nothing_and_is_waited_for_once() -> None:
    bench = Bench(service("a"), peers=["r2"])
    bench.done(bench.core.connected("r2", bench.now))
    bench.place(Place.ACTIVE, handed_over=True)
    bench.wait(ANSWER_LIMIT - 1)
    assert bench.runs() == []
    bench.wait(1)
    assert bench.runs() == [("a", "start")]


def test_a_peer_that_knows_all_words_is_not_waited_for() -> None:
    claims = Claims(["r2"], 5)
    claims.connected("r2", 0)
    assert claims.waits_for("a", False, 0) == "", "it may be of an older release"
    claims.heard("r2", {"a": FREE}, 1, 0, 1, 0)
    assert claims.waits_for("a", False, 0) == ""
    claims.tell({"a": FREE}, 0)
    assert claims.waits_for("a", False, 0) == "an answer of r2"


def test_a_peer_that_is_not_configured_any_more_is_not_waited_for() -> None:
    bench = claimed(handed_over=True)
    bench.done(bench.core.reload([service("a")], ["r3"], bench.now))
    assert bench.runs() == [] and bench.core.waits_for("a").startswith("r3, which is gone")
    bench.done(bench.core.reload([service("a")], [], bench.now))
    assert bench.runs() == [("a", "start")]


def test_of_two_that_claim_the_greater_nonce_gets_it() -> None:
    for nonce, gets in ((1, True), (9, False)):
        bench = claimed()
        bench.heard({"a": Word(Hold.CLAIMED, True)}, bench.core.claims.sequence, nonce)
        assert bool(bench.runs()) is gets


def test_a_silent_router_that_does_not_answer_is_dead() -> None:
    bench = claimed()
    bench.wait(ANSWER_LIMIT)
    assert bench.runs() == [("a", "start")]


def test_a_router_that_handed_over_is_waited_for() -> None:
    bench = claimed(handed_over=True)
    bench.wait(ANSWER_LIMIT)
    bench.wait(60 * SECOND)
    bench.done(bench.core.lost("r2", False, bench.now))
    assert bench.runs() == [] and "has not said that it stopped" in bench.core.waits_for("a")
    bench.done(bench.core.clear("a", bench.now))
    bench.end("a", Operation.PROBE, ABSENT)
    assert bench.runs() == [("a", "probe"), ("a", "start")]


def test_a_router_that_lives_is_waited_for_when_it_is_lost() -> None:
    bench = claimed()
    bench.wait(1)
    bench.heard({"a": HELD}, bench.core.claims.sequence)
    bench.done(bench.core.lost("r2", False, bench.now))
    bench.wait(60 * SECOND)
    assert bench.runs() == []


def test_a_router_that_dies_in_the_middle_of_a_hand_over_is_not_waited_for() -> None:
    for session_first in (True, False):
        bench = claimed(handed_over=True)
        bench.wait(SECOND)
        bench.heard({"a": HELD}, bench.core.claims.sequence)
        bench.actions.clear()
        if session_first:
            bench.done(bench.core.lost("r2", False, bench.now))
            assert bench.runs() == [], "it may have lost the channel only"
            bench.done(bench.core.peer_died("r2", bench.now))
        else:
            bench.done(bench.core.peer_died("r2", bench.now))
            assert Tell() in bench.actions and bench.runs() == [], "it may have lost the heartbeats only"
            bench.wait(ANSWER_LIMIT - 1)
            assert bench.runs() == [] and bench.core.waits_for("a") == "r2, which has not stopped it yet"
            bench.wait(1)
        assert bench.runs() == [("a", "start")]


def test_a_router_that_loses_only_its_heartbeats_is_waited_for() -> None:
    bench = claimed(handed_over=True)
    bench.done(bench.core.peer_died("r2", bench.now))
    bench.heard({"a": HELD}, bench.core.claims.sequence)
    bench.wait(60 * SECOND)
    bench.done(bench.core.lost("r2", False, bench.now))
    bench.wait(60 * SECOND)
    assert bench.runs() == [], "it has answered after that"


def test_a_router_whose_heartbeats_come_again_is_waited_for() -> None:
    bench = claimed(handed_over=True)
    bench.wait(1)
    bench.done(bench.core.peer_died("r2", bench.now))
    bench.core.peer_lives("r2")
    bench.done(bench.core.lost("r2", False, bench.now))
    bench.wait(60 * SECOND)
    assert bench.runs() == []
    bench.done(bench.core.peer_died("r9", bench.now))
    bench.core.peer_lives("r9")
    assert bench.runs() == [], "a peer of no claim is no peer"


def test_the_guardian_of_a_crashed_daemon_gets_its_time() -> None:
    bench = claimed()
    bench.done(bench.core.lost("r2", True, bench.now))
    assert bench.runs() == [] and "guardian" in bench.core.waits_for("a")
    bench.wait(20 * SECOND)
    assert bench.runs() == [("a", "start")]


def test_a_crashed_daemon_may_have_started_what_it_claimed() -> None:
    bench = claimed()
    bench.heard({"a": Word(Hold.CLAIMED, True)}, bench.core.claims.sequence, 9)
    bench.done(bench.core.lost("r2", True, bench.now))
    assert bench.runs() == [] and "guardian" in bench.core.waits_for("a")
    bench.wait(20 * SECOND)
    assert bench.runs() == [("a", "start")]


def test_a_blocked_service_stays_blocked_when_its_router_goes() -> None:
    bench = claimed()
    bench.heard({"a": Word(Hold.BLOCKED, False)}, bench.core.claims.sequence)
    bench.done(bench.core.lost("r2", False, bench.now))
    bench.wait(600 * SECOND)
    assert bench.runs() == [] and "could not stop it" in bench.core.waits_for("a")


# Ends


def test_a_departure_waits_for_the_last_stop() -> None:
    bench = Bench(service("a"), service("e", where="everywhere", group=""))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.actions.clear()
    bench.done(bench.core.leave("G", bench.now))
    assert bench.runs() == [("a", "stop")]
    bench.end("a", Operation.STOP)
    assert Left("G") in bench.actions
    bench.actions.clear()
    bench.place(Place.ACTIVE)
    bench.wait(SECOND)
    assert bench.runs() == [("a", "start")], "it stayed after all"


def test_a_departure_ends_at_its_limit() -> None:
    bench = Bench(service("a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.done(bench.core.leave(None, bench.now))
    bench.wait(DEPARTURE_LIMIT - 1)
    assert Left(None) not in bench.actions
    bench.wait(1)
    assert Left(None) in bench.actions


def test_a_blocked_service_keeps_nobody_waiting() -> None:
    bench = Bench(service("a"), service("b", "a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.end("b", Operation.START)
    bench.done(bench.core.leave("G", bench.now))
    bench.end("b", Operation.STOP, 1)
    assert Left("G") in bench.actions and bench.core.services["a"].up, "b may use it"


# Reload


def test_a_reload_keeps_what_is_the_same_and_stops_the_rest_as_it_was_started() -> None:
    bench = Bench(service("a"), service("b"), service("c"))
    bench.place(Place.ACTIVE)
    for name in "abc":
        bench.end(name, Operation.START)
    bench.runs()
    new = [service("a", stop_timeout_ms=7), Service("b", "systemd:b", group="G"), service("d")]
    bench.done(bench.core.reload(new, (), bench.now))
    assert sorted(bench.runs()) == [("b", "stop"), ("c", "stop"), ("d", "probe")]
    assert bench.core.services["a"].settings.stop_timeout_ms == 7 and bench.core.services["a"].up
    assert bench.core.services["b"].settings.agent == NGINX
    bench.end("b", Operation.STOP)
    assert bench.core.services["b"].settings.agent == "systemd:b"
    bench.end("c", Operation.STOP)
    assert list(bench.core.services) == ["a", "b", "d"]


# Bounds


def test_operations_are_bounded() -> None:
    bench = Bench(*(service(f"s{number}") for number in range(100)))
    bench.place(Place.ACTIVE)
    assert len(bench.runs()) == OPERATIONS_MAX
    bench.end("s0", Operation.START)
    assert bench.runs() == [("s16", "start")]


def test_a_monitor_without_room_is_put_off() -> None:
    services = [service(f"s{number}") for number in range(OPERATIONS_MAX + 1)]
    bench = Bench(*services)
    bench.place(Place.ACTIVE)
    for one in services:
        bench.end(one.name, Operation.START)
    bench.runs()
    bench.done(bench.core.look(bench.now))
    assert len(bench.runs()) == OPERATIONS_MAX
    last = services[-1].name
    assert bench.core.services[last].monitor_at == bench.now + MONITOR_PAUSE
    bench.end("s0", Operation.MONITOR)
    assert bench.runs() == [], "not before the pause is over"
    bench.wait(MONITOR_PAUSE)
    assert bench.runs() == [(last, "monitor")]


def test_no_monitor_while_a_stop_is_due() -> None:
    """A service that waits for a later one to stop does not wake the router for its monitor."""
    bench = Bench(service("a"), service("b", "a"))
    bench.place(Place.ACTIVE)
    bench.end("a", Operation.START)
    bench.end("b", Operation.START)
    bench.place(Place.NONE)
    bench.runs()
    bench.wait(service("a").monitor_interval_ms * MILLISECOND)
    assert bench.runs() == [] and bench.core.services["a"].monitor_at == bench.now + MONITOR_PAUSE


def test_a_hundred_in_a_chain_come_up_and_go() -> None:
    names = [f"s{number}" for number in range(100)]
    bench = Bench(*(service(name, *names[max(number - 2, 0) : number]) for number, name in enumerate(names)))
    bench.place(Place.ACTIVE)
    for name in names:
        bench.wait(MILLISECOND)
        assert (name, "start") in bench.runs()
        bench.end(name, Operation.START)
    bench.runs()
    bench.place(Place.NONE)
    for name in reversed(names):
        assert bench.runs() == [(name, "stop")]
        bench.end(name, Operation.STOP)
