# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

from tandem.config.schema import Script
from tandem.effects.process import MILLISECOND, Exit
from tandem.health.script import script_probe
from tests.unit.children import Bench


class FakeLoop:
    """Time by hand."""

    def __init__(self) -> None:
        self.time = 0
        self.timers: dict[object, tuple[int, object]] = {}

    def now(self) -> int:
        return self.time

    def call_at(self, key: object, when: int | None, callback: object = None) -> None:
        if when is None:
            self.timers.pop(key, None)
        else:
            self.timers[key] = (when, callback)

    def advance(self, milliseconds: int) -> None:
        self.time += milliseconds * MILLISECOND
        for key, (when, callback) in list(self.timers.items()):
            if when <= self.time:
                del self.timers[key]
                callback(self.time)  # type: ignore[operator]


class FakeProcesses:
    def __init__(self) -> None:
        self.started: list[object] = []
        self.expired: list[int | None] = []
        self.full = False

    def start(self, argv: object, timeout: int, on_exit: object, **_options: object) -> int | None:
        if self.full:
            return None
        self.started.append(on_exit)
        return 100 + len(self.started)

    def expire(self, pid: int | None, when: int) -> None:
        self.expired.append(pid)

    def end(self, status: int = 0, timed_out: bool = False) -> None:
        self.started[-1](Exit(status, 1, timed_out))  # type: ignore[operator]


class Probe:
    def __init__(self, **options: object) -> None:
        self.loop = FakeLoop()
        self.processes = FakeProcesses()
        self.changes: list[tuple[str, bool]] = []
        script = Script("check", ("/bin/check",), interval_ms=1000, **options)  # type: ignore[arg-type]
        bench = Bench()
        self.said = bench.sink.lines
        shell = (self.loop, self.processes, bench.log)
        self.probe = script_probe(script, *shell, lambda *c: self.changes.append(c))  # type: ignore[arg-type]
        self.probe.start()


def test_runs_at_once_and_then_every_interval() -> None:
    it = Probe()
    assert len(it.processes.started) == 1
    assert it.probe.up is None
    it.processes.end()
    it.loop.advance(999)
    assert len(it.processes.started) == 1
    it.loop.advance(1)
    assert len(it.processes.started) == 2
    it.loop.advance(0)
    it.processes.end(1)
    it.loop.advance(1005)  # late once, but the beat stays
    it.processes.end(1)
    it.loop.advance(995)
    assert len(it.processes.started) == 4
    assert it.changes == [("check", True), ("check", False)]
    assert (it.probe.successes, it.probe.failures) == (1, 2)
    assert it.probe.last is not None
    assert it.probe.last.status == 1


def test_a_result_is_told_when_it_is_another_one() -> None:
    it = Probe()
    for status in (0, 0, 1, 1, 2, 2):
        it.processes.end(status)
        it.loop.advance(1000)
    assert it.said == [
        "info script check: exit status 0",
        "info script check is up (exit status 0)",
        "warning script check: exit status 1",
        "info script check is down (exit status 1)",
        "warning script check: exit status 2",
    ]


def test_a_run_that_lasts_is_not_started_twice() -> None:
    it = Probe()
    it.loop.advance(1000)
    it.loop.advance(1000)
    assert (len(it.processes.started), it.probe.skipped) == (1, 2)
    it.processes.end(-15, timed_out=True)
    assert it.changes == [("check", False)]
    assert it.probe.timeouts == 1
    it.processes.full = True
    it.loop.advance(1000)
    assert it.probe.skipped == 3
    it.processes.full = False
    it.loop.advance(1000)
    assert len(it.processes.started) == 2


def test_a_script_that_contradicts_the_state_is_run_when_it_is_due_and_not_before() -> None:
    it = Probe(fall=2)
    it.processes.end()
    it.loop.advance(1000)
    it.processes.end(1)
    it.loop.advance(999)
    assert len(it.processes.started) == 2


def test_no_catching_up_after_a_pause() -> None:
    it = Probe()
    it.processes.end()
    it.loop.advance(3600_000)
    it.processes.end()
    it.loop.advance(0)
    it.processes.end()
    it.loop.advance(999)
    assert len(it.processes.started) <= 3


def test_init_fail_reports_only_when_it_comes_up() -> None:
    it = Probe(init_fail=True, rise=2)
    assert it.probe.up is False
    it.processes.end(1)
    it.loop.advance(1000)
    it.processes.end(0)
    assert it.changes == []
    it.loop.advance(1000)
    it.processes.end(0)
    assert it.changes == [("check", True)]


def test_stopped_means_silent() -> None:
    it = Probe()
    it.probe.stop()
    assert it.processes.expired == [101]
    it.processes.end(1)
    it.loop.advance(5000)
    assert it.changes == []
    assert len(it.processes.started) == 1


def test_a_real_script(bench: Bench, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    script = Script(
        "check", ("/usr/bin/test", "-e", str(flag)), interval_ms=20, timeout_ms=2000, rise=2, fall=2
    )
    changes: list[tuple[str, bool]] = []
    probe = script_probe(script, bench.loop, bench.processes, bench.log, lambda *c: changes.append(c))
    probe.start()
    bench.run_until(lambda: changes == [("check", False)])
    flag.touch()
    bench.run_until(lambda: changes == [("check", False), ("check", True)])
    flag.unlink()
    bench.run_until(lambda: len(changes) == 3)
    probe.stop()
    assert probe.last is not None
    assert str(probe.last) == "exit status 1"
    assert "warning script check: exit status 1" in bench.sink.lines
    assert "info script check is up (exit status 0)" in bench.sink.lines


def test_a_script_that_hangs_is_down(bench: Bench) -> None:
    script = Script("hang", ("/bin/sleep", "60"), interval_ms=50, timeout_ms=20)
    changes: list[tuple[str, bool]] = []
    probe = script_probe(script, bench.loop, bench.processes, bench.log, lambda *c: changes.append(c))
    probe.start()
    bench.run_until(lambda: changes == [("hang", False)])
    probe.stop()
    assert str(probe.last) == "timed out"


def test_a_script_that_is_missing_is_down(bench: Bench) -> None:
    script = Script("missing", ("/no/such/script",), interval_ms=20)
    changes: list[tuple[str, bool]] = []
    probe = script_probe(script, bench.loop, bench.processes, bench.log, lambda *c: changes.append(c))
    probe.start()
    bench.run_until(lambda: probe.failures > 2)
    probe.stop()
    assert changes == [("missing", False)]
    told = [line for line in bench.sink.lines if line.startswith("warning")]
    assert told == ["warning script missing: can't be executed: No such file or directory"]
