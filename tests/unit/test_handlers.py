# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's answers to requests: one each, whatever happens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tandem import __version__, handlers
from tandem.handlers import Handlers
from tandem.log import Logger


class Bench:
    """Handlers around fakes; `calls`: what the parts were asked, `answers`: what the clients got."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.answers: list[dict[str, Any]] = []
        self.caught: list[Exception] = []
        self.lines: list[str] = []
        self.manager: Any = SimpleNamespace(
            group_of={"web": "G1", "everywhere": ""}.__getitem__,
            clear=self.notes("clear"),
            disable=self.notes("disable"),
            trial=lambda name, then: (self.calls.append(("trial", name)), setattr(self, "then", then)),
        )
        self.serving: Any = SimpleNamespace(manager=self.manager, status=lambda: ["web"], leave=None)
        self.sharing: Any = SimpleNamespace(
            doctor=None, upgrade_peer=self.notes("upgrade"), replicating=lambda: self.replication
        )
        self.replication: Any = SimpleNamespace(
            status=lambda: {"own": 1}, listing=lambda peer, cursor: {"listed": (peer, cursor)}
        )
        history: Any = SimpleNamespace(entries=lambda now: [{"at": now}])
        loop: Any = SimpleNamespace(now=lambda: 7)
        sink: Any = SimpleNamespace(write=lambda _level, line: self.lines.append(line) or True)
        facts: Any = lambda: {"checks": ["c"], "virtual_servers": ["v"], "pid": 1}  # noqa: E731
        parts: list[Any] = [None, self.sharing, history, None, self.serving, facts]
        self.handlers = Handlers(
            loop, Logger("info", sink), *parts, self.notes("reload"), self.caught.append
        )  # fmt: skip

    def notes(self, what: str) -> Any:
        return lambda *given: self.calls.append((what, *given))

    def ask(self, command: str, **arguments: str) -> dict[str, Any]:
        """Return the answer; {}: it comes later."""
        before = len(self.answers)
        self.handlers.handle({"command": command, **arguments}, self.answers.append)
        assert len(self.answers) - before <= 1, "one answer at most"
        return self.answers[-1] if len(self.answers) > before else {}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench()
    monkeypatch.setattr(handlers, "snapshot", lambda *_: {"groups": [1], "counters": {}, "pid": 1})
    monkeypatch.setattr(
        handlers, "operate", lambda _r, _l, _s, request, _leave, done: found.calls.append((request, done))
    )
    return found


def test_status_is_all_or_the_words_that_were_asked_for(bench: Bench) -> None:
    assert bench.ask("status")["result"] == {"groups": [1], "counters": {}, "pid": 1}
    assert bench.ask("status", only="groups pid nothing")["result"] == {"groups": [1], "pid": 1}
    assert bench.ask("status", only="nothing")["result"] == {}


def test_what_people_see(bench: Bench) -> None:
    assert bench.ask("history")["result"] == {"transitions": [{"at": 7}]}
    assert bench.ask("services")["result"] == {"services": ["web"]}
    assert bench.ask("checks")["result"] == {"checks": ["c"], "virtual_servers": ["v"]}
    assert bench.ask("version")["result"] == {"version": __version__}
    assert bench.ask("conntrack") == {"ok": True, "result": {"own": 1}}
    assert bench.ask("conntrack_list")["result"] == {"listed": (None, "0")}
    assert bench.ask("conntrack_list", peer="r2", cursor="9")["result"] == {"listed": ("r2", "9")}


def test_without_a_channel_there_is_nobody_else_to_examine(bench: Bench) -> None:
    assert bench.ask("examine") == {"ok": True, "result": {}}
    bench.sharing.doctor = SimpleNamespace(examine=bench.notes("examine"))
    assert bench.ask("examine") == {} and bench.calls == [("examine", "4", bench.calls[0][2])]
    bench.ask("examine", listen="9")
    assert bench.calls[1][:2] == ("examine", "9")


def test_what_answers_later_gets_the_client(bench: Bench) -> None:
    assert bench.ask("reload") == {} and bench.ask("upgrade_peer", peer="r2", order="check:1") == {}
    (reload, reply), (upgrade, *asked) = bench.calls
    assert (reload, upgrade, asked[:2]) == ("reload", "upgrade", ["r2", "check:1"])
    reply({"ok": True})
    assert bench.answers == [{"ok": True}]


@pytest.mark.parametrize("command", ["failover", "standby", "resume"])
def test_the_operator_hears_when_it_is_done(bench: Bench, command: str) -> None:
    assert bench.ask(command, group="G1") == {}
    [(request, done)] = bench.calls
    assert request == {"command": command, "group": "G1"}
    done({"groups": {"G1": "BACKUP"}})
    assert bench.answers == [{"ok": True, "result": {"groups": {"G1": "BACKUP"}}}]


# Services


def test_a_service_moves_with_its_group(bench: Bench) -> None:
    assert bench.ask("service", action="move", name="web", by="me") == {}
    assert bench.calls[0][0] == {"command": "failover", "group": "G1", "by": "me"}
    assert any("service web: move asked for by me" in line for line in bench.lines)
    answer = bench.ask("service", action="move", name="everywhere")
    assert answer == {"ok": False, "error": "service everywhere runs everywhere: it cannot move"}


@pytest.mark.parametrize(
    ("action", "call"),
    [("clear", ("clear", "web")), ("start", ("disable", "web", False)), ("stop", ("disable", "web", True))],
)
def test_a_service_is_cleared_started_and_stopped(
    bench: Bench, action: str, call: tuple[object, ...]
) -> None:
    answer = bench.ask("service", action=action, name="web")
    assert answer == {"ok": True, "result": f"service web: {action} asked for"} and bench.calls == [call]
    assert bench.lines == [f"service web: {action} asked for"]


@pytest.mark.parametrize(("found", "ok"), [("", True), ("it failed when it ran already", False)])
def test_a_trial_answers_at_its_end(bench: Bench, found: str, ok: bool) -> None:
    assert bench.ask("service", action="trial", name="web") == {} and bench.calls == [("trial", "web")]
    then: Any = bench.then  # type: ignore[attr-defined]
    then(found)
    [answer] = bench.answers
    assert answer["ok"] is ok
    assert answer.get("error", answer.get("result")) == (
        f"service web: {found}" if found else "service web: its agent can be started twice and stopped twice"
    )


def test_an_unknown_action_and_no_service_at_all(bench: Bench) -> None:
    answer = bench.ask("service", action="jump", name="web")
    assert answer == {
        "ok": False,
        "error": "no action 'jump'; known: move, clear, start, stop, trial",
    }
    bench.serving.manager = None
    assert bench.ask("service", action="stop", name="web")["error"] == "there is no service section"


# What goes wrong


def test_a_refusal_is_a_sentence_and_a_bug_is_caught(bench: Bench) -> None:
    def refuses() -> object:
        raise ValueError("connections are not replicated: x")

    bench.sharing.replicating = refuses
    assert bench.ask("conntrack") == {"ok": False, "error": "connections are not replicated: x"}
    assert not bench.caught
    bug = RuntimeError("broken")

    def fails() -> object:
        raise bug

    bench.sharing.replicating = fails
    answer = bench.ask("conntrack")
    assert not answer["ok"] and "conntrack failed: RuntimeError('broken')" in answer["error"]
    assert bench.caught == [bug]
