# SPDX-License-Identifier: GPL-2.0-or-later
"""Real child processes; every wait is a turn of the real loop with a deadline."""

from __future__ import annotations

import gc
import os
import pwd
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tandem.effects import process
from tandem.programs import credentials_of, insecure_path
from tests.unit.children import SECOND, Bench, gone

ROOT = os.geteuid() == 0


@pytest.mark.parametrize("spawned", [False, True])
def test_exit_status(bench: Bench, spawned: bool) -> None:
    ends = [bench.run(f"exit {status}", spawned=spawned) for status in (0, 3)]
    assert (ends[0].ok, ends[1].status) == (True, 3)
    died = bench.run("kill -SEGV $$", spawned=spawned)
    assert (died.status, str(died)) == (-signal.SIGSEGV, "ended by SIGSEGV")
    assert len(bench.processes) == 0
    assert bench.processes.failed_starts == 0


def test_reaping_without_pidfd(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_pidfd", lambda pid: -1)
    assert bench.run("exit 5").status == 5
    assert bench.run("sleep 60", timeout=SECOND // 20).timed_out


@pytest.mark.parametrize("spawned", [False, True])
@pytest.mark.parametrize(
    ("mode", "reason"),
    [(None, "No such file or directory"), (0o644, "Permission denied"), (0o755, "Exec format error")],
)
def test_what_cant_be_executed_is_a_counted_failure(
    bench: Bench, tmp_path: Path, mode: int | None, reason: str, spawned: bool
) -> None:
    script = tmp_path / "script"
    if mode is not None:
        script.write_bytes(b"\x7fnothing")
        script.chmod(mode)
    argv = [str(script)]
    assert bench.processes.start(argv, SECOND, bench.exits.append, spawned=spawned) is not None
    bench.run_until(lambda: bench.exits)
    assert str(bench.exits[0]) == f"can't be executed: {reason}"
    assert not bench.exits[0].ok
    assert bench.processes.failed_starts == 1


@pytest.mark.parametrize("spawned", [False, True])
def test_timeout_ends_the_whole_group(bench: Bench, tmp_path: Path, spawned: bool) -> None:
    pidfile = tmp_path / "pid"
    pid = bench.shell(f"sleep 60 & echo $! >{pidfile}; wait", timeout=60 * SECOND, spawned=spawned)
    bench.run_until(lambda: pidfile.exists() and pidfile.read_text())
    bench.processes.expire(pid, bench.loop.now())
    bench.run_until(lambda: bench.exits)
    [ended] = bench.exits
    assert (ended.timed_out, ended.ok, str(ended)) == (True, False, "timed out")
    bench.run_until(lambda: gone(int(pidfile.read_text())))


def test_sigkill_follows_sigterm(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_GRACE", SECOND // 10)
    ready = tmp_path / "ready"
    pid = bench.shell(f"trap '' TERM; touch {ready}; while :; do sleep 0.01; done", timeout=60 * SECOND)
    bench.run_until(ready.exists)
    bench.processes.expire(pid, bench.loop.now())
    bench.run_until(lambda: bench.exits)
    assert bench.exits[0].timed_out
    assert bench.exits[0].status == -signal.SIGKILL


NPTL = 0x180000000  # signals 32 and 33: libc keeps them from everybody, and make may leave them ignored


def test_clean_surroundings(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    out = tmp_path / "out"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    handler = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        ended = bench.run(
            f"exec >{out}; env; pwd; umask; ls -l /proc/$$/fd; cat /proc/self/status; cat /proc/$$/stat",
            environment={"NAME": "lan"},
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGUSR2, handler)
    text = out.read_text()
    assert ended.ok
    assert "SECRET" not in text
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in text
    assert "NAME=lan\n" in text
    assert "\n/\n0022\n" in text
    links = [line.partition(" -> ")[2] for line in text.splitlines() if " -> " in line]
    assert {link for link in links if str(tmp_path) not in link} <= {"/dev/null", "/bin/sh"}
    assert "SigBlk:\t0000000000000000\n" in text
    ignored = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("SigIgn"))
    assert ignored & ~NPTL == 0
    fields = text.rstrip().splitlines()[-1].rpartition(")")[2].split()
    pid = int(text.rstrip().splitlines()[-1].split()[0])
    assert fields[2:4] == [str(pid)] * 2  # process group and session
    assert fields[38] == "0"  # SCHED_OTHER


def test_a_spawned_child_has_nothing_of_its_parent(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("it was forked"))
    out = tmp_path / "out"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        command = f"exec >{out}; env; ls -l /proc/$$/fd; cat /proc/self/status; cat /proc/$$/stat"
        assert bench.run(command, environment={"NAME": "lan"}, spawned=True).ok
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    text = out.read_text()
    assert "SECRET" not in text and "NAME=lan\n" in text and "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in text
    links = [line.partition(" -> ")[2] for line in text.splitlines() if " -> " in line]
    assert {link for link in links if str(tmp_path) not in link} <= {"/dev/null", "/bin/sh"}
    masks = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Sig") and ":\t" in line)
    assert int(masks["SigBlk"], 16) == 0 and int(masks["SigIgn"], 16) & ~NPTL == 0
    fields = text.rstrip().splitlines()[-1].rpartition(")")[2].split()
    pid = text.rstrip().splitlines()[-1].split()[0]
    assert fields[2:4] == [pid] * 2  # process group and session


@pytest.mark.skipif(not ROOT, reason="needs CAP_SYS_NICE")
@pytest.mark.parametrize("flag", [0, os.SCHED_RESET_ON_FORK])
def test_no_realtime_scheduling(bench: Bench, tmp_path: Path, flag: int) -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | flag, os.sched_param(1))
    except PermissionError:
        pytest.skip("no real-time scheduling here")
    try:
        ended = bench.run(f"cat /proc/$$/stat >{tmp_path}/stat")
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    assert ended.ok
    assert (tmp_path / "stat").read_text().rpartition(")")[2].split()[38] == "0"


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_drops_privileges(bench: Bench) -> None:
    nobody = pwd.getpwnam("nobody")
    with TemporaryDirectory() as directory:  # tmp_path is below a directory that is root's alone
        os.chmod(directory, 0o777)
        command = f"exec >{directory}/out; id -u; id -g; id -G; echo $USER"
        assert bench.run(command, credentials=credentials_of("nobody", None)).ok
        uid, gid, groups, user = Path(directory, "out").read_text().split("\n")[:4]
    assert (int(uid), int(gid), user) == (nobody.pw_uid, nobody.pw_gid, "nobody")
    assert groups.split() == [gid]


def test_credentials() -> None:
    assert credentials_of(None, None) is None
    with pytest.raises(KeyError):
        credentials_of("no-such-user", None)
    with pytest.raises(KeyError):
        credentials_of("nobody", "no-such-group")
    root = credentials_of("root", "nogroup")
    assert root is not None
    assert (root.uid, root.name) == (0, "root")
    assert root.gid in root.groups


def test_the_number_of_children_is_bounded() -> None:
    bench = Bench(limit=2)
    assert bench.shell("sleep 60") is not None
    assert bench.shell("sleep 60") is not None
    assert bench.shell("exit 0") is None
    assert bench.processes.failed_starts == 1
    assert bench.sink.lines == ["error can't start /bin/sh: 2 other commands are running"]
    bench.processes.kill()
    bench.run_until(lambda: len(bench.exits) == 2)
    assert all(ended.timed_out for ended in bench.exits)
    assert bench.shell("exit 0") is not None
    bench.run_until(lambda: len(bench.exits) == 3)
    bench.processes.close()
    bench.loop.close()


@pytest.mark.parametrize("spawned", [False, True])
def test_no_descriptors_are_left(bench: Bench, spawned: bool) -> None:
    bench.run("exit 0", spawned=spawned)
    gc.collect()  # what other tests have left
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        bench.run("exit 0", spawned=spawned)
    assert os.listdir("/proc/self/fd") == before


def test_insecure_path(tmp_path: Path) -> None:
    assert insecure_path("/bin/sh") is None
    assert insecure_path("/no/such/file") is None
    if not ROOT:
        return
    directory = tmp_path / "scripts"
    directory.mkdir(0o755)
    script = directory / "check"
    script.touch(0o755)
    assert insecure_path(str(script)) is None or str(tmp_path.parents[1]) in str(insecure_path(str(script)))
    script.chmod(0o757)
    assert insecure_path(str(script)) == f"{script} is writable by everyone"
    assert insecure_path(str(script), uid=1000) is None
    script.chmod(0o775)
    assert insecure_path(str(script)) is None  # by group root
    os.chown(script, 0, 12)
    assert insecure_path(str(script)) == f"{script} is writable by group 12"
    os.chown(script, 1000, 0)
    assert insecure_path(str(script)) == f"{script} is owned by user 1000"
    os.chown(script, 0, 0)
    script.chmod(0o755)
    directory.chmod(0o777)
    assert insecure_path(str(script)) == f"{directory} is writable by everyone"
    directory.chmod(0o1777)
    assert insecure_path(str(script)) is None
    directory.chmod(0o755)
    link = tmp_path / "link"
    link.symlink_to(script)
    script.chmod(0o757)
    assert insecure_path(str(link)) == f"{script} is writable by everyone"


def test_what_is_killed_at_the_close_is_collected_and_told_to_nobody() -> None:
    """A doctor's process that a reload ends must not stay a zombie as long as the daemon lives."""
    bench = Bench()
    pid = bench.shell("sleep 60")
    assert pid is not None
    bench.processes.close()
    bench.run_until(lambda: not Path(f"/proc/{pid}").exists())
    assert bench.exits == []
