# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from pathlib import Path

import pytest

from tandem.core.settings import Notify
from tandem.effects.notify import CONTESTED, GROUP, INSTANCE, Command, Notifier, commands_for
from tandem.effects.process import MILLISECOND, Processes
from tandem.programs import Credentials, credentials_of
from tests.unit.children import Bench, gone

SECOND = 1000 * MILLISECOND


class Recorder:
    """A notify script that writes what it is called with, and may wait for a file first."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.log.touch()
        self.script = directory / "notify.sh"
        self.gate = directory / "gate"
        self.script.write_text(
            "#!/bin/sh\n"
            f'echo "begin $*" >>{self.log}\n'
            f"while test -e {self.gate}; do sleep 0.01; done\n"
            f'echo "end $* $ACTION $TYPE $NAME" >>{self.log}\n'
        )
        self.script.chmod(0o755)

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def argv(self, *arguments: str) -> tuple[str, ...]:
        return (str(self.script), *arguments)

    def scripts(self) -> Notify:
        return Notify(
            master=self.argv("master"),
            backup=self.argv("backup"),
            fault=self.argv("fault"),
            stop=self.argv("stop"),
            any=self.argv("any"),
        )


def test_keepalived_arguments() -> None:
    scripts = Notify(master=("/m", "x"), stop=("/s",), any=("/n", "--flag"))
    environment = {"ACTION": "NOTIFY_MASTER", "TYPE": "INSTANCE", "NAME": "lan"}
    assert commands_for(INSTANCE, "lan", "MASTER", 150, scripts) == [
        Command("lan: notify_master", ("/m", "x"), environment),
        Command("lan: notify", ("/n", "--flag", "INSTANCE", "lan", "MASTER", "150"), environment),
    ]
    assert [command.argv for command in commands_for(GROUP, "all", "BACKUP", 150, scripts)] == [
        ("/n", "--flag", "GROUP", "all", "BACKUP", "0")
    ]
    assert commands_for(INSTANCE, "lan", "FAULT", 1, Notify()) == []


def test_specific_script_before_the_generic_one(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    notifier.notify(INSTANCE, "lan", "MASTER", 150, recorder.scripts())
    assert not notifier.idle
    bench.run_until(lambda: notifier.idle)
    assert recorder.lines == [
        "begin master",
        "end master NOTIFY_MASTER INSTANCE lan",
        "begin any INSTANCE lan MASTER 150",
        "end any INSTANCE lan MASTER 150 NOTIFY_MASTER INSTANCE lan",
    ]


def test_quick_transitions_never_overlap_and_the_last_role_wins(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    recorder.gate.touch()
    for state in ("MASTER", "BACKUP", "FAULT", "BACKUP"):
        notifier.notify(INSTANCE, "lan", state, 100, recorder.scripts())
    bench.run_until(lambda: recorder.lines == ["begin master"])
    recorder.gate.unlink()
    bench.run_until(lambda: notifier.idle)
    told = [" ".join(line.split()[:2]) for line in recorder.lines]
    assert told == ["begin master", "end master", "begin backup", "end backup", "begin any", "end any"]
    assert recorder.lines[-2] == "begin any INSTANCE lan BACKUP 100"
    assert notifier.superseded == 3
    assert notifier.failed == 0


def test_another_role_ends_what_is_told_of_the_last_one(bench: Bench, tmp_path: Path) -> None:
    """Its first script runs, the second one waits: a router that was contested is none that yields."""
    recorder = Recorder(tmp_path)
    scripts = Notify(master_rx_lower_pri=recorder.argv("contested"), any=recorder.argv("any"))
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    recorder.gate.touch()
    for state in (CONTESTED, "BACKUP"):
        notifier.notify(INSTANCE, "lan", state, 100, scripts)
    recorder.gate.unlink()
    bench.run_until(lambda: notifier.idle)
    begun = [line for line in recorder.lines if line.startswith("begin")]
    assert begun == ["begin contested", "begin any INSTANCE lan BACKUP 100"]


def test_a_role_without_scripts_still_supersedes_one_that_waits(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    scripts = Notify(master=recorder.argv("master"), fault=recorder.argv("fault"))
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    recorder.gate.touch()
    for state in ("FAULT", "MASTER", "BACKUP"):
        notifier.notify(INSTANCE, "lan", state, 100, scripts)
    recorder.gate.unlink()
    bench.run_until(lambda: notifier.idle)
    assert [line.split()[1] for line in recorder.lines] == ["fault", "fault"]
    notifier.notify(INSTANCE, "lan", "BACKUP", 100, scripts)
    assert notifier.idle


def test_subjects_run_side_by_side(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    recorder.gate.touch()
    for kind, name in ((INSTANCE, "lan"), (INSTANCE, "wan"), (GROUP, "lan")):
        notifier.notify(kind, name, "MASTER", 100, Notify(any=recorder.argv()))
    bench.run_until(lambda: len(recorder.lines) == 3)
    recorder.gate.unlink()
    bench.run_until(lambda: notifier.idle)
    assert sum(line.startswith("end") for line in recorder.lines) == 3


def test_more_subjects_than_places(tmp_path: Path) -> None:
    bench = Bench(limit=2)
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    for number in range(10):
        notifier.notify(INSTANCE, f"i{number}", "MASTER", 100, recorder.scripts())
    assert len(bench.processes) == 2
    bench.run_until(lambda: notifier.idle)
    assert len(recorder.lines) == 40
    assert notifier.failed == 0
    bench.processes.close()
    bench.loop.close()


def test_failures_are_counted_and_told(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify(master=("/no/such",), any=recorder.argv()))
    notifier.notify(INSTANCE, "wan", "FAULT", 100, Notify(fault=("/bin/sh", "-c", "exit 7")))
    bench.run_until(lambda: notifier.idle)
    assert sorted(bench.sink.lines) == [
        "warning lan: notify_master: /no/such: can't be executed: No such file or directory",
        "warning wan: notify_fault: /bin/sh: exit status 7",
    ]
    assert notifier.failed == 2
    assert recorder.lines[0] == "begin INSTANCE lan MASTER 100"


def test_out_of_descriptors_ends_in_a_counted_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pipe(flags: int) -> tuple[int, int]:
        raise OSError(24, os.strerror(24))

    notifier = Notifier(bench.loop, bench.processes, bench.log)
    monkeypatch.setattr(os, "pipe2", no_pipe)
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify(master=("/bin/true",), any=("/bin/true",)))
    assert notifier.idle
    assert notifier.failed == 2
    assert bench.sink.lines[0] == "error can't start /bin/true: Too many open files"


def test_drain_waits_for_stop_scripts(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    done: list[bool] = []
    notifier.notify(INSTANCE, "lan", "STOP", 100, recorder.scripts())
    notifier.drain(10 * SECOND, lambda: done.append(True))
    assert not done
    bench.run_until(lambda: done)
    assert recorder.lines[-1] == "end any INSTANCE lan STOP 100 NOTIFY_STOP INSTANCE lan"
    notifier.drain(10 * SECOND, lambda: done.append(True))
    assert done == [True, True]


def test_drain_ends_what_stop_waits_for(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    done: list[bool] = []
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify(master=("/bin/sleep", "60")))
    notifier.notify(INSTANCE, "lan", "STOP", 100, Notify(stop=recorder.argv("stop")))
    notifier.drain(3 * SECOND, lambda: done.append(True))
    bench.run_until(lambda: done)
    assert recorder.lines == ["begin stop", "end stop NOTIFY_STOP INSTANCE lan"]


def test_drain_is_bounded(bench: Bench, tmp_path: Path) -> None:
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    done: list[bool] = []
    pidfile = tmp_path / "pid"
    script = Notify(stop=("/bin/sh", "-c", f"trap '' TERM; echo $$ >{pidfile}; while :; do sleep 0.01; done"))
    notifier.notify(INSTANCE, "lan", "STOP", 100, script)
    bench.run_until(lambda: pidfile.exists() and pidfile.read_text())
    notifier.drain(SECOND // 10, lambda: done.append(True))
    bench.run_until(lambda: done)
    assert "warning 1 notify scripts did not end in time" in bench.sink.lines
    bench.run_until(lambda: gone(int(pidfile.read_text())))
    assert done == [True]


def test_a_notifier_with_processes_of_its_own(bench: Bench) -> None:
    probes = Processes(bench.loop, bench.log, 1)
    probes.start(("/bin/sleep", "60"), 60 * SECOND, bench.exits.append)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify(any=("/bin/true",)))
    bench.run_until(lambda: notifier.idle)
    assert notifier.failed == 0
    probes.close()


class Hotplug:
    """A root file system with a hotplug-call that calls what is in hotplug.d as OpenWrt's does."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.scripts = self.root / "etc/hotplug.d/tandem"
        program = self.root / "sbin/hotplug-call"
        program.parent.mkdir(parents=True)
        program.write_text(
            "#!/bin/sh\n"
            f'for script in "{self.root}/etc/hotplug.d/$1"/*; do ( [ -f "$script" ] && . "$script" ); done\n'
        )
        program.chmod(0o755)
        self.log = directory / "hotplug.log"
        self.log.touch()
        self.gate = directory / "hotplug.gate"

    def add_script(self) -> None:
        self.scripts.mkdir(parents=True)
        (self.scripts / "10-log").write_text(
            f'echo "begin $ACTION $TYPE $NAME" >>{self.log}\n'
            f"while test -e {self.gate}; do sleep 0.01; done\n"
            f'echo "end $ACTION $TYPE $NAME $(id -u)" >>{self.log}\n'
        )

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def notifier(self, bench: Bench, credentials: Credentials | None = None) -> Notifier:
        return Notifier(bench.loop, bench.processes, bench.log, credentials, str(self.root))


def test_hotplug_scripts_of_a_group_run_one_at_a_time(bench: Bench, tmp_path: Path) -> None:
    hotplug = Hotplug(tmp_path)
    hotplug.add_script()
    notifier = hotplug.notifier(bench)
    for kind, name, group in ((INSTANCE, "I1", "G1"), (INSTANCE, "E1", "G1"), (GROUP, "G1", "G1")):
        notifier.notify(kind, name, "MASTER", 100, Notify(), group)
    bench.run_until(lambda: notifier.idle)
    told = ["MASTER INSTANCE I1", "MASTER INSTANCE E1", "MASTER GROUP G1"]
    assert hotplug.lines == [
        line for role in told for line in (f"begin NOTIFY_{role}", f"end NOTIFY_{role} {os.getuid()}")
    ]


def test_hotplug_is_told_the_last_role(bench: Bench, tmp_path: Path) -> None:
    hotplug = Hotplug(tmp_path)
    hotplug.add_script()
    hotplug.gate.touch()
    notifier = hotplug.notifier(bench)
    for state in ("MASTER", "BACKUP", "FAULT", "MASTER", "BACKUP"):
        for name in ("I1", "E1"):
            notifier.notify(INSTANCE, name, state, 100, Notify(), "G1")
    notifier.notify(INSTANCE, "alone", "MASTER", 100, Notify())
    bench.run_until(lambda: len(hotplug.lines) == 2)  # one of the group, and one of another
    hotplug.gate.unlink()
    bench.run_until(lambda: notifier.idle)
    begun = [line for line in hotplug.lines if line.startswith("begin")]
    assert sorted(begun[:2]) == ["begin NOTIFY_MASTER INSTANCE I1", "begin NOTIFY_MASTER INSTANCE alone"]
    assert begun[2:] == ["begin NOTIFY_BACKUP INSTANCE I1", "begin NOTIFY_BACKUP INSTANCE E1"]
    assert notifier.superseded == 7


def test_hotplug_runs_as_root_beside_scripts_of_another_user(bench: Bench, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    hotplug = Hotplug(tmp_path)
    hotplug.add_script()
    notifier = hotplug.notifier(bench, credentials_of("nobody", None))
    notifier.notify(INSTANCE, "lan", "FAULT", 100, Notify(any=("/bin/false",)))
    bench.run_until(lambda: notifier.idle)
    assert hotplug.lines[-1] == "end NOTIFY_FAULT INSTANCE lan 0"
    assert bench.sink.lines == ["warning lan: notify: /bin/false: exit status 1"]


def test_without_hotplug_scripts_nothing_is_started(bench: Bench, tmp_path: Path) -> None:
    hotplug = Hotplug(tmp_path)
    notifier = hotplug.notifier(bench)
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify())
    assert notifier.idle and not len(bench.processes)
    hotplug.add_script()  # found without a restart
    notifier.notify(INSTANCE, "lan", "BACKUP", 100, Notify())
    bench.run_until(lambda: notifier.idle)
    assert len(hotplug.lines) == 2


def test_where_there_is_no_hotplug_call(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "etc/hotplug.d/tandem").mkdir(parents=True)
    notifier = Notifier(bench.loop, bench.processes, bench.log, root=str(tmp_path))
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify())
    assert notifier.idle and notifier.failed == 0


def test_a_hotplug_script_that_ends_with_a_test_has_not_failed(bench: Bench, tmp_path: Path) -> None:
    hotplug = Hotplug(tmp_path)
    hotplug.add_script()
    (hotplug.scripts / "20-other").write_text('[ "$ACTION" = NOTIFY_MASTER ] && exit 0\n')
    notifier = hotplug.notifier(bench)
    notifier.notify(INSTANCE, "lan", "BACKUP", 100, Notify())
    bench.run_until(lambda: notifier.idle)
    assert notifier.failed == 0 and not bench.sink.lines
    (hotplug.root / "sbin/hotplug-call").unlink()
    notifier.notify(INSTANCE, "lan", "BACKUP", 100, Notify())
    bench.run_until(lambda: notifier.idle)
    assert notifier.failed == 1 and "No such file" in bench.sink.lines[0]


def test_stop_reaches_hotplug_within_the_time(bench: Bench, tmp_path: Path) -> None:
    """A hotplug script that hangs is ended, and the farewell is told."""
    hotplug = Hotplug(tmp_path)
    hotplug.add_script()
    (hotplug.scripts / "20-hang").write_text('[ "$ACTION" != NOTIFY_MASTER ] || exec sleep 60\n')
    notifier = hotplug.notifier(bench)
    done: list[bool] = []
    notifier.notify(INSTANCE, "lan", "MASTER", 100, Notify(), "G1")
    bench.run_until(lambda: len(hotplug.lines) == 2)
    notifier.notify(INSTANCE, "lan", "STOP", 100, Notify(), "G1")
    notifier.drain(3 * SECOND, lambda: done.append(True))
    bench.run_until(lambda: done)
    assert hotplug.lines[-1].startswith("end NOTIFY_STOP INSTANCE lan")


def test_many_roles_run_few_scripts_and_the_last_role_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forged adverts change the role 125 times a second; scripts are not run as often."""
    monkeypatch.setattr("tandem.effects.notify.DISTANCE", SECOND)
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    for number in range(200):
        state = "MASTER" if number % 2 else "BACKUP"
        notifier.notify(INSTANCE, "lan", state, 100, Notify(any=recorder.argv()))
        bench.loop.turn(SECOND // 1000)
        bench.run_until(lambda: not len(bench.processes))
    assert 0 < sum(line.startswith("begin") for line in recorder.lines) <= 6
    bench.run_until(lambda: notifier.idle)
    told = [line for line in recorder.lines if line.startswith("begin")]
    assert told[-1] == "begin INSTANCE lan MASTER 100"
    assert len(told) <= 7


def test_at_the_end_nothing_waits_for_its_time(bench: Bench, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    notifier = Notifier(bench.loop, bench.processes, bench.log)
    for state in ("MASTER", "BACKUP") * 4:
        notifier.notify(INSTANCE, "lan", state, 100, Notify(any=recorder.argv()))
        bench.run_until(lambda: not len(bench.processes))
    notifier.notify(INSTANCE, "lan", "STOP", 100, Notify(any=recorder.argv()))
    done: list[bool] = []
    notifier.drain(5 * SECOND, lambda: done.append(True))
    bench.run_until(lambda: bool(done))
    assert recorder.lines[-1].startswith("end INSTANCE lan STOP 100")
