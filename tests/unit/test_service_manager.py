# SPDX-License-Identifier: GPL-2.0-or-later
"""The manager of services: real processes on a real loop, for what the tests in namespaces do not show."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tandem.core.service_claims import Word
from tandem.core.settings import Service
from tandem.log import Logger
from tandem.loop import Loop
from tandem.services import agents, record
from tandem.services.manager import Manager
from tandem.services.messages import TOPIC, pack, unpack
from tests.lab.log import Lines
from tests.lab.wait import wait_until
from tests.unit.children import gone

Make = Callable[..., Manager]


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


@pytest.fixture
def noted() -> list[tuple[str, str, str]]:
    """What a manager has given to the history: service, state, reason."""
    return []


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def make(
    loop: Loop, log: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: list[tuple[str, str, str]]
) -> Iterator[Make]:
    monkeypatch.setattr(agents, "TEMPORARY", str(tmp_path / "rsctmp"))
    made: list[Manager] = []

    def manager(*services: Service) -> Manager:
        one = Manager(
            loop, Logger("info", log), services, (), "r1", 0, lambda *_: None,
            lambda *said: noted.append(said), str(tmp_path / "record"),
        )  # fmt: skip
        made.append(one)
        one.start()
        return one

    yield manager
    for one in (one for one in made if not one._closed):
        left: list[bool] = []
        one.leave(None, lambda left=left: left.append(True))  # type: ignore[misc]
        until(loop, lambda left=left: bool(left))  # type: ignore[misc]
        one.close()
        until(loop, lambda one=one: not len(one._commands) + len(one._operations))  # type: ignore[misc]


def until(loop: Loop, condition: Callable[[], bool]) -> None:
    def turned() -> bool:
        loop.turn(5_000_000)
        return condition()

    wait_until(turned, 20, every=0)


def states(manager: Manager) -> dict[str, str]:
    return {one["name"]: one["state"] for one in manager.status()}


def test_a_command_runs_while_its_group_is_active(make: Make, loop: Loop, tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {told}\nexec sleep 1000\n")
    program.chmod(0o755)
    manager = make(Service("one", command=(str(program),), group="G", monitor_interval_ms=0))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"} and told.exists() and bool(told.read_text()))
    pid = int(told.read_text())
    os.kill(pid, 0)
    manager.retire("G")
    until(loop, lambda: states(manager) == {"one": "stopped"})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_history_and_the_log_have_what_happened_and_not_what_the_first_look_found(
    make: Make, loop: Loop, log: Lines, noted: list[tuple[str, str, str]]
) -> None:
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G", monitor_interval_ms=0))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    assert noted == []
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"})
    manager.retire("G")
    until(loop, lambda: states(manager) == {"one": "stopped"})
    assert noted == [("one", "running", ""), ("one", "stopped", "")]
    said = ("starting", "running", "stopping", "stopped")
    assert log.lines == [f"info service one: {word}" for word in said]


def test_the_status_says_since_when(make: Make, loop: Loop) -> None:
    """`since_s` and `since` are of one moment, by the monotonic clock and by the wall clock."""
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G", monitor_interval_ms=0))
    before = loop.now(), time.time()
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"})
    [one] = manager.status()
    most = (loop.now() - before[0]) / 10**9
    assert one["since_s"] is not None and one["since"] is not None
    assert 0 <= one["since_s"] <= most + 0.001
    assert before[1] - 1 <= one["since"] <= time.time() + 1


def test_a_service_of_the_backup_runs_while_its_group_is_backup(make: Make, loop: Loop) -> None:
    words = ("/bin/sleep", "1000")
    manager = make(Service("one", command=words, group="G", where="backup", monitor_interval_ms=0))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    for state, place in (("BACKUP", "running"), ("FAULT", "stopped"), ("BACKUP", "running")):
        manager.state("G", state)
        until(loop, lambda place=place: states(manager) == {"one": place})  # type: ignore[misc]


class Sent:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.links: dict[str, object] = {}
        self.words: list[tuple[str, dict[str, Word]]] = []

    def subscribe(self, topic: str, subscriber: object) -> None:
        assert topic == TOPIC

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        found = unpack(data)
        assert topic == TOPIC and found is not None
        self.words.append((peer, found[0]))
        return True


def test_a_peer_hears_of_each_change_as_long_as_it_has_a_session(make: Make, loop: Loop) -> None:
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G", monitor_interval_ms=0))
    channel = Sent()
    manager.join(channel)  # type: ignore[arg-type]
    manager.peer_opened("r2")
    assert [peer for peer, _ in channel.words] == ["r2"], "all that this router has to say"
    until(loop, lambda: states(manager) == {"one": "stopped"})
    before = channel.words[-1][1]
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"} and channel.words[-1][1] != before)
    manager.peer_closed("r2")
    said = len(channel.words)
    manager.retire("G")
    until(loop, lambda: states(manager) == {"one": "stopped"})
    assert len(channel.words) == said


def test_a_message_of_a_peer_is_answered_and_nonsense_is_said(make: Make, log: Lines) -> None:
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G"))
    channel = Sent()
    manager.join(channel)  # type: ignore[arg-type]
    manager.peer_opened("r2")
    said = len(channel.words)
    manager.received("r2", b"[1]")
    assert log.lines[-1] == "warning r2: a message about services is malformed"
    assert len(channel.words) == said
    manager.received("r2", pack({}, 7, 0, 1))
    assert len(channel.words) > said


def test_a_command_that_ends_says_what_it_printed(make: Make, loop: Loop) -> None:
    words = ("/bin/sh", "-c", "echo no such device >&2; exit 3")
    manager = make(Service("one", command=words, group="G", monitor_interval_ms=0, on_fail="block"))
    manager.serve("G", False)
    until(loop, lambda: bool(manager.health))
    assert manager.health[0].endswith("exit status 3: no such device")


def test_a_missing_agent_is_said_and_blocks_nobody(make: Make, loop: Loop) -> None:
    manager = make(Service("one", "ocf:nobody:nothing", group="G"))
    until(loop, lambda: states(manager) == {"one": "stopped"})
    [one] = manager.status()
    assert one["banned"] and "can't be executed: No such file or directory" in one["failure"]


def test_everybody_who_asked_for_a_departure_hears_of_it(make: Make, loop: Loop) -> None:
    manager = make(Service("one", command=("/bin/sleep", "1000"), group="G", monitor_interval_ms=0))
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"one": "running"})
    heard: list[str] = []
    manager.leave("G", lambda: heard.append("first"))
    manager.leave("G", lambda: heard.append("second"))
    until(loop, lambda: len(heard) == 2)
    assert states(manager) == {"one": "stopped"}


def test_unknown_services(make: Make) -> None:
    manager = make(Service("one", command=("/bin/true",), group="G"))
    for ask in (manager.clear, manager.group_of, lambda name: manager.disable(name, True)):
        with pytest.raises(ValueError, match="no service 'two'; known: one"):
            ask("two")


AGENT = """#!/bin/sh
echo $1 >> {told}
case $1 in
start) {start} touch {runs} ;;
stop) {stop} rm -f {runs} ;;
monitor) [ -e {runs} ] || exit 7 ;;
esac
"""


@pytest.mark.parametrize(
    ("start", "stop", "found"),
    [
        ("", "", ""),
        ("[ ! -e {runs} ] || exit 1;", "", "a start of what runs fails: exit status 1"),
        ("", "[ -e {runs} ] || exit 1;", "a stop of what is stopped fails: exit status 1"),
        (
            "[ ! -e {runs} ] || {{ rm {runs}; exit 0; }};",
            "",
            "it does not run any more after a second start: exit status 7",
        ),
    ],
)
def test_a_trial_of_an_agent(
    make: Make, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, stop: str, found: str
) -> None:
    monkeypatch.setattr(agents, "OCF_ROOT", str(tmp_path))
    told, runs, agent = tmp_path / "told", tmp_path / "runs", tmp_path / "resource.d/own/web"
    agent.parent.mkdir(parents=True)
    part = {"start": start.format(runs=runs), "stop": stop.format(runs=runs)}
    agent.write_text(AGENT.format(told=told, runs=runs, **part))
    agent.chmod(0o755)
    manager = make(Service("web", "ocf:own:web", group="G"))
    answers: list[str] = []
    with pytest.raises(ValueError, match="does not run here undisturbed now"):
        manager.trial("web", answers.append)
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"web": "running"})
    told.write_text("")
    manager.trial("web", answers.append)
    with pytest.raises(ValueError, match="does not run here undisturbed now"):
        manager.trial("web", answers.append)
    until(loop, lambda: bool(answers))
    assert answers == [found]
    assert told.read_text().split() == ["start", "monitor", "stop", "stop", "monitor", "start"]
    assert states(manager) == {"web": "running"} and runs.exists()


def test_an_operation_ends_with_the_manager(
    make: Make, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "OCF_ROOT", str(tmp_path))
    told, agent = tmp_path / "told", tmp_path / "resource.d/own/web"
    agent.parent.mkdir(parents=True)
    agent.write_text(f"#!/bin/sh\n[ $1 = monitor ] || exit 0\necho $$ > {told}\nexec sleep 1000\n")
    agent.chmod(0o755)
    manager = make(Service("web", "ocf:own:web", group="G"))
    until(loop, lambda: told.exists() and bool(told.read_text().strip()))
    manager.close()
    until(loop, lambda: gone(int(told.read_text())))


def test_a_trial_ends_with_the_role(
    make: Make, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "OCF_ROOT", str(tmp_path))
    told, runs, agent = tmp_path / "told", tmp_path / "runs", tmp_path / "resource.d/own/web"
    agent.parent.mkdir(parents=True)
    hangs = f"[ ! -e {runs} ] || sleep 60;"
    agent.write_text(AGENT.format(told=told, runs=runs, start=hangs, stop=""))
    agent.chmod(0o755)
    manager = make(Service("web", "ocf:own:web", group="G"))
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"web": "running"})
    answers: list[str] = []
    manager.trial("web", answers.append)
    manager.retire("G")
    until(loop, lambda: states(manager) == {"web": "stopped"} and bool(answers))
    assert answers == ["the trial was cut short: the role has changed"]
    assert not runs.exists()


SLOW = """#!/bin/sh
# Needs half a second to stop.
trap 'sleep 0.5; rm -f "$1"; exit 0' TERM
echo $$ > "$1"
while :; do sleep 0.02; done
"""


def text_of(path: Path) -> str:
    """The text of a file; empty: there is none yet."""
    return path.read_text() if path.exists() else ""


INIT = """#!/bin/sh
# An init script of OpenWrt with procd, whose stop returns before the service has ended.
case $1 in
start) {start} ;;
stop) ({stop}) >/dev/null 2>&1 & ;;
running) {running} ;;
esac
"""
HELP = r"printf '\nSyntax: x [command]\n\nAvailable commands:\n\tstart\n'"


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the init script of `procd:web`; returns the file that is there while the service runs."""
    lines = {
        what: (str(tmp_path / "init"), *words[1:]) for what, words in agents.AGENTS["procd"].lines.items()
    }
    monkeypatch.setitem(agents.AGENTS, "procd", replace(agents.AGENTS["procd"], lines=lines))

    def write(**parts: str) -> Path:
        runs = tmp_path / "runs"
        usual = {"start": f"touch {runs}", "stop": f"sleep 0.5; rm -f {runs}", "running": f"[ -e {runs} ]"}
        (tmp_path / "init").write_text(INIT.format(**usual | parts))
        (tmp_path / "init").chmod(0o755)
        return runs

    return write


def test_a_service_of_procd_is_stopped_when_it_has_ended(
    make: Make, loop: Loop, init: Callable[..., Path]
) -> None:
    runs = init()
    manager = make(Service("web", "procd:web", group="G"))
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"web": "running"})
    assert runs.exists()
    manager.retire("G")
    until(loop, lambda: states(manager) == {"web": "stopped"})
    assert not runs.exists()


def test_a_service_of_procd_that_does_not_end_blocks(
    make: Make, loop: Loop, init: Callable[..., Path]
) -> None:
    runs = init(stop=":")
    manager = make(Service("web", "procd:web", group="G", stop_timeout_ms=300))
    manager.serve("G", False)
    until(loop, lambda: states(manager) == {"web": "running"})
    manager.retire("G")
    until(loop, lambda: states(manager) == {"web": "blocked"})
    assert manager.status()[0]["failure"] == "stop failed: it still runs after 0.3 s"
    runs.unlink()
    manager.clear("web")
    until(loop, lambda: states(manager) == {"web": "stopped"})


def test_a_service_of_procd_that_is_switched_off_fails_at_its_start(
    make: Make, loop: Loop, init: Callable[..., Path]
) -> None:
    init(start=":")
    manager = make(Service("web", "procd:web", group="G"))
    manager.serve("G", False)
    until(loop, lambda: manager.status()[0]["banned"])
    assert "it does not run after its start" in manager.status()[0]["failure"]


def test_a_service_that_cannot_tell_is_stopped_before_its_start(
    make: Make, loop: Loop, init: Callable[..., Path]
) -> None:
    runs = init(running=HELP)
    runs.touch()
    manager = make(Service("web", "procd:web", group="G", monitor_interval_ms=10))
    until(loop, lambda: states(manager) == {"web": "stopped"})
    until(loop, lambda: not runs.exists())
    manager.serve("G", False)
    until(loop, lambda: manager.status()[0]["last_operation"] == "monitor")
    assert runs.exists() and states(manager) == {"web": "running"}
    assert (manager.status()[0]["failures"], manager.status()[0]["failure"]) == (0, "")


class Crashed:
    """A manager in a process of its own, which a test kills as the kernel may kill a daemon."""

    def __init__(self, tmp_path: Path, *services: Service) -> None:
        self.path = str(tmp_path / "record")
        self.pid = os.fork()
        if not self.pid:
            try:
                with_loop = Loop()
                log, nothing = Logger("error", Lines()), lambda *_: None
                one = Manager(with_loop, log, services, (), "r1", 0, nothing, nothing, self.path)
                one.start()
                one.serve("G", False)
                while True:
                    with_loop.turn(20_000_000)
            finally:
                os._exit(1)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


@pytest.fixture
def crash(tmp_path: Path) -> Iterator[Callable[..., Crashed]]:
    made: list[Crashed] = []

    def start(*services: Service) -> Crashed:
        made.append(Crashed(tmp_path, *services))
        return made[-1]

    yield start
    for one in made:
        one.kill()


Crash = Callable[..., Crashed]


@pytest.fixture
def slow(tmp_path: Path) -> tuple[str, ...]:
    program = tmp_path / "slow"
    program.write_text(SLOW)
    program.chmod(0o755)
    return str(program), str(tmp_path / "runs")


def test_the_next_daemon_waits_for_the_guardian(
    make: Make, crash: Crash, loop: Loop, tmp_path: Path, slow: tuple[str, ...]
) -> None:
    service = Service("one", command=slow, group="G", monitor_interval_ms=0)
    crashed = crash(service)
    runs = tmp_path / "runs"
    wait_until(lambda: runs.exists() and text_of(tmp_path / "record").count("\n") == 2, 10, "it runs")
    crashed.kill()
    manager = make(service)
    assert states(manager) == {"one": "probing"}
    until(loop, lambda: states(manager) != {"one": "probing"})
    assert not runs.exists(), "it has stopped when the next daemon says so"
    assert states(manager) == {"one": "stopped"}


def test_the_guardian_waits_until_a_service_of_procd_has_ended(
    make: Make, crash: Crash, loop: Loop, init: Callable[..., Path]
) -> None:
    service = Service("web", "procd:web", group="G")
    runs = init()
    crashed = crash(service)
    wait_until(lambda: runs.exists() and bool(text_of(runs.parent / "record")), 10, "it runs")
    crashed.kill()
    manager = make(service)
    until(loop, lambda: states(manager) == {"web": "stopped"})
    assert not runs.exists()
    assert manager.status()[0]["last_operation"] == "probe", "which found it stopped"


def test_what_runs_everywhere_outlives_a_crash_and_is_adopted(
    make: Make, crash: Crash, loop: Loop, tmp_path: Path, slow: tuple[str, ...]
) -> None:
    service = Service("one", command=slow, where="everywhere", monitor_interval_ms=0, stop_timeout_ms=5000)
    gone = Service("gone", command=(slow[0], str(tmp_path / "other")), where="everywhere")
    crashed = crash(service, gone)
    runs, other = tmp_path / "runs", tmp_path / "other"
    wait_until(lambda: bool(text_of(other) and text_of(runs)), 10, "both run")
    pid, stray = int(runs.read_text()), int(other.read_text())
    wait_until(
        lambda: {str(pid), str(stray)} <= set(text_of(tmp_path / "record").split()), 10, "the record has both"
    )
    crashed.kill()
    manager = make(service)
    until(loop, lambda: states(manager) == {"one": "running"} and record.started(stray) is None)
    assert int(runs.read_text()) == pid, "the same process; the other one is configured no more"
    manager.disable("one", True)
    until(loop, lambda: states(manager) == {"one": "stopped"})
    assert not runs.exists(), "it was stopped in good order"
    manager.disable("one", False)
    until(loop, lambda: states(manager) == {"one": "running"} and runs.exists())


def test_an_adopted_service_that_ends_is_started_again(
    make: Make, crash: Crash, loop: Loop, tmp_path: Path, slow: tuple[str, ...]
) -> None:
    service = Service("one", command=slow, where="everywhere", monitor_interval_ms=0)
    crashed = crash(service)
    runs = tmp_path / "runs"
    wait_until(lambda: bool(text_of(runs)), 10, "it runs")
    pid = int(runs.read_text())
    wait_until(lambda: str(pid) in text_of(tmp_path / "record"), 10, "and the record has it")
    crashed.kill()
    manager = make(service)
    until(loop, lambda: states(manager) == {"one": "running"})
    os.kill(pid, signal.SIGKILL)
    until(loop, lambda: states(manager) == {"one": "running"} and text_of(runs) not in ("", f"{pid}\n"))
    assert manager.status()[0]["failure"] == "monitor ended by itself: has ended"


def test_a_record_names_only_the_same_processes(tmp_path: Path) -> None:
    path = str(tmp_path / "record")
    since = record.started(os.getpid())
    assert since is not None and record.started(2**22 + 1) is None
    record.write(path, {"": (os.getpid(), since), "one": (os.getpid(), since), "gone": (2**22 + 1, since)})
    assert record.read(path) == {"": (os.getpid(), since), "one": (os.getpid(), since)}
    Path(path).write_text(f"{os.getpid()} {since + 1} one\nnonsense\n-1 2 two\n{os.getpid()} x three\n")
    assert record.read(path) == {}, "another process has this id now"
    assert record.read(str(tmp_path / "none")) == {}
    Path(path).write_text("x" * 65_535 + f"\n{os.getpid()} {since} one\n")
    assert record.read(path) == {}, "no daemon wrote so much: it is not read to its end"
