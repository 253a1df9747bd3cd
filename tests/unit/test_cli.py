# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line against a daemon played by a thread, and the status page letter by letter."""

from __future__ import annotations

import copy
import importlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tandem import __version__
from tandem.control import cli
from tandem.control.client import ControlError, DeniedError, NoDaemonError, RefusedError, ask
from tandem.control.table import duration, printable, render_status

STUB = Path(__file__).parents[2] / "files/usr/bin/tandem"
DEADLINE_S = 10.0

LAN = {
    "name": "I1",
    "group": "G1",
    "state": "MASTER",
    "since_s": 15732.5,
    "since": 1753611200,
    "interface": "lan",
    "device": "br-lan",
    "family": 4,
    "version": 3,
    "virtual_router_id": 51,
    "priority": {"base": 100, "effective": 105, "why": ["script chk +10", "interface wwan0 -5"]},
    "advert_int_ms": 1000,
    "preempt": True,
    "faults": [],
    "source": "192.168.1.2",
    "peer": {"address": "192.168.1.3", "priority": 101, "interval_ms": 1500, "last_advert_s": 0.31},
    "addresses": ["192.168.1.4/24 dev br-lan", "10.0.0.1/24 dev br-lan", "10.0.1.1/24 dev br-lan.2"],
    "routes": 0,
    "rules": 0,
    "snat": None,
    "trackers": [
        {"kind": "interface", "name": "br-lan", "up": True, "weight": 0},
        {"kind": "script", "name": "chk", "up": True, "weight": 10},
        {"kind": "interface", "name": "wwan0", "up": False, "weight": -5},
        {"kind": "script", "name": "slow", "up": None, "weight": 0},
    ],
    "transitions": 3,
    "counters": {"adverts_sent": 15731, "adverts_received": 3, "bad_ttl": 0, "bad_checksum": 7},
}
WAN = LAN | {
    "name": "E1",
    "interface": "eth0.2",
    "device": "eth0.2",
    "virtual_router_id": 52,
    "advert_int_ms": 100,
    "source": "192.168.0.2",
    "priority": {"base": 100, "effective": 100, "why": []},
    "peer": None,
    "addresses": ["192.168.0.4/24 dev eth0.2"],
    "routes": 2,
    "rules": 1,
    "snat": "192.168.0.4",
    "trackers": [],
    "counters": {"adverts_sent": 157310},
}
GUEST = LAN | {
    "name": "guest",
    "group": "guest",
    "state": "FAULT",
    "since_s": 3.21,
    "since": None,
    "interface": "guest",
    "device": None,
    "family": 6,
    "virtual_router_id": 7,
    "priority": {"base": 255, "effective": 255, "why": []},
    "preempt": False,
    "faults": ["interface br-guest down", "no address on br-guest", "standby"],
    "source": None,
    "peer": None,
    "addresses": ["fe80::1/64 dev br-guest"],
    "trackers": [],
    "transitions": 0,
    "counters": {},
}
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 1234,
    "uptime_s": 273600.0,
    "router_id": "r1",
    "config_file": "/etc/config/tandem",
    "scheduling": {
        "policy": "FIFO 50",
        "memory_locked": True,
        "late_max_ms": 34.56,
        "late_count": 2,
        "late_limit_ms": 10,
    },
    "health": {},
    "networks": {"lan": "br-lan", "guest": None},
    "dhcp": None,
    "groups": [
        {
            "name": "G1",
            "state": "MASTER",
            "since_s": 15732.5,
            "since": 1753611200,
            "members": ["I1", "E1"],
            "implicit": False,
            "standby": False,
            "held": True,
            "faults": [],
        },
        {
            "name": "guest",
            "state": "FAULT",
            "since_s": 3.21,
            "since": None,
            "members": ["guest"],
            "implicit": True,
            "standby": True,
            "held": False,
            "faults": ["interface br-guest down", "no address on br-guest", "standby"],
        },
    ],
    "instances": [LAN, WAN, GUEST],
    "history": [
        {"time": 1753611190.5 + number, "kind": "instance", "name": "I1", "priority": 100, **entry}
        for number, entry in enumerate(
            (
                {"state": "FAULT", "why": "not shown any more"},
                {"state": "BACKUP", "why": "started"},
                {"state": "MASTER", "why": "no advertisement from an active router"},
                {"state": "BACKUP", "why": "a better router is active"},
                {"state": "FAULT", "why": "interface lan down, no address on lan, and much more"},
                {"state": "MASTER", "why": ""},
            )
        )
    ],
    "counters": {"log_lines_dropped": 0, "netlink_errors": 2},
}

PAGE_80 = """\
tandemd 0.1.0 on r1, pid 1234, up 3 d 4 h
    file       /etc/config/tandem
    scheduling FIFO 50, memory locked, at most 34.6 ms late
    late       2 timers later than 10 ms
    counters   netlink errors 2

G1     MASTER  for 4 h 22 min, since 2025-07-27 10:13:20
    failover   by command, does not preempt until: tandem resume G1
  I1   MASTER
    link       lan (br-lan), from 192.168.1.2, VRRPv3 IPv4, VRID 51, every 1 s
    priority   105 = 100 +10 script chk -5 interface wwan0
    peer       192.168.1.3, priority 101, every 1.5 s, heard 310 ms ago
    addresses  192.168.1.4/24 dev br-lan, 10.0.0.1/24 dev br-lan,
               10.0.1.1/24 dev br-lan.2
    trackers   interface br-lan up, script chk up (weight +10),
               interface wwan0 DOWN (weight -5), script slow not known yet
    counters   transitions 3, adverts sent 15731, adverts received 3,
               bad checksum 7
  E1   MASTER
    link       eth0.2, from 192.168.0.2, VRRPv3 IPv4, VRID 52, every 100 ms
    priority   100
    peer       none heard
    addresses  192.168.0.4/24 dev eth0.2
    with       2 routes, 1 rule, SNAT to 192.168.0.4
    counters   transitions 3, adverts sent 157310

guest  FAULT   for 3.2 s
    standby    by command, until: tandem resume guest
    faults     interface br-guest down, no address on br-guest
    link       guest (no device), no address to send from, VRRPv3 IPv6, VRID 7,
               every 1 s
    priority   255, nopreempt
    peer       none heard
    addresses  fe80::1/64 dev br-guest

    history    2025-07-27 10:13:15 I1 MASTER
               2025-07-27 10:13:14 I1 FAULT (interface lan down, no address on
               lan, and much more)
               2025-07-27 10:13:13 I1 BACKUP (a better router is active)
               2025-07-27 10:13:12 I1 MASTER (no advertisement from an active
               router)
               2025-07-27 10:13:11 I1 BACKUP (started)
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class FakeDaemon:
    """Answers every request on a socket with what `answers` holds for its command."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: dict[str, Any] = {"status": STATUS, "version": {"version": "0.1.0"}}
        self.raw: bytes | None = None
        self.requests: list[dict[str, Any]] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as lines:
                request = json.loads(lines.readline())
                self.requests.append(request)
                answer = self.answers[request["command"]]
                response = (
                    answer if isinstance(answer, dict) and "ok" in answer else {"ok": True, "result": answer}
                )
                sock.sendall(json.dumps(response).encode() + b"\n" if self.raw is None else self.raw)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.thread.join(DEADLINE_S)
        os.unlink(self.path)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(tmp_path / "control.sock")
    yield daemon
    daemon.close()


def tandem(path: object, *arguments: str) -> int:
    return cli.main([*arguments, "--control", str(path)])


# The status page


def test_status_page_at_80_columns() -> None:
    assert render_status(STATUS) == PAGE_80


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 80, 100, 200])
def test_rows_keep_to_the_width_and_nothing_is_lost(width: int) -> None:
    page = render_status(STATUS, width)
    rows = [line for line in page.splitlines() if line.startswith("    ")]
    assert all(len(row) <= max(width, 35) for row in rows)
    assert "".join(page.split()) == "".join(PAGE_80.split())


def test_colour_changes_nothing_but_colour() -> None:
    page = render_status(STATUS, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", page) == PAGE_80
    assert "\x1b[1;32mMASTER\x1b[m" in page
    assert "\x1b[1;31mFAULT \x1b[m" in page
    assert "\x1b[31minterface br-guest down, no address on br-guest\x1b[m" in page


def test_status_without_routers() -> None:
    nothing = {"groups": [], "instances": [], "history": [], "counters": {}, "router_id": ""}
    page = render_status(STATUS | nothing)
    assert page.startswith("tandemd 0.1.0 on this router, pid 1234")
    assert page.endswith("ms\n\nNo virtual routers are configured.\n")


def test_data_can_not_act_on_the_terminal() -> None:
    def poison(value: Any) -> Any:
        match value:
            case dict():
                return {name: poison(item) for name, item in value.items()}
            case list():
                return [poison(item) for item in value]
            case str():
                return value + "\x1b[2J\x07\r\n\u202e\udcff\xa0"
        return value

    status = poison(STATUS)
    for instance in status["instances"]:
        instance["counters"]["\x1b[31m"] = 1
    assert all(char == "\n" or char.isprintable() for char in render_status(status))


def test_long_words_are_broken_not_cut() -> None:
    status = copy.deepcopy(STATUS)
    reason = "E1: " + "a very long reason why an effect has failed, " * 3
    status["groups"][0]["faults"] = [reason.strip(), "x" * 100]
    page = render_status(status)
    assert max(map(len, page.splitlines())) <= 80
    assert " ".join(page.split()).count("very long reason") == 3
    assert "".join(page.split()).count("x" * 100) == 1


def test_group_faults_are_not_said_again_by_members() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][0]["faults"] = ["interface eth0.2 down"]
    status["instances"][0]["faults"] = ["interface eth0.2 down"]
    status["instances"][1]["faults"] = ["interface eth0.2 down", "its own"]
    page = render_status(status)
    assert page.count("interface eth0.2 down") == 1
    assert "    faults     its own\n" in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0204, "20 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (100000000, "1157 d 9 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_printable() -> None:
    assert printable("Süd \x1b[2J\n\udcff\\") == "Süd \\x1b[2J\\n\\udcff\\"


# tandem status


def test_status(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert tandem(daemon.path, "status") == 0
    assert capsys.readouterr() == (PAGE_80, "")


def test_status_json(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert tandem(daemon.path, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == STATUS


def test_status_of_another_version(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["status"] = {"version": "9"}
    assert tandem(daemon.path, "status") == 1
    assert capsys.readouterr().err == (
        "tandem: the daemon's status is not understood; if it is of another version, restart it\n"
    )


def test_control_option_before_and_after_the_command(daemon: FakeDaemon) -> None:
    assert cli.main(["--control", daemon.path, "version"]) == 0
    assert cli.main(["--control", "/nowhere", "version", "--control", daemon.path]) == 0
    assert len(daemon.requests) == 2


# Commands


@pytest.mark.parametrize("command", ["failover", "standby", "resume"])
def test_group_commands(daemon: FakeDaemon, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers[command] = {"groups": {"G1": "BACKUP", "G2": "FAULT"}}
    assert tandem(daemon.path, command) == 0
    assert tandem(daemon.path, command, "G1") == 0
    assert daemon.requests == [{"command": command}, {"command": command, "group": "G1"}]
    assert capsys.readouterr().out == "G1: BACKUP\nG2: FAULT\n" * 2


def test_refusal(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["failover"] = {"ok": False, "error": "no group \x1b[2J; known: G1"}
    assert tandem(daemon.path, "failover", "X") == 1
    assert capsys.readouterr() == ("", "tandem: no group \\x1b[2J; known: G1\n")


def test_reload(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["reload"] = "reloaded"
    assert tandem(daemon.path, "reload") == 0
    daemon.answers["reload"] = {
        "ok": False,
        "error": "not usable, the old one stays",
        "errors": ["f:1: a", "f:2: b"],
    }
    assert tandem(daemon.path, "reload") == 2
    expected = "tandem: not usable, the old one stays\ntandem: f:1: a\ntandem: f:2: b\n"
    assert capsys.readouterr() == ("reloaded\n", expected)


def test_version(daemon: FakeDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tandem(daemon.path, "version") == 0
    assert tandem(tmp_path / "none", "version") == 0
    assert capsys.readouterr().out == (
        f"tandem {__version__}\ntandemd 0.1.0\ntandem {__version__}\ntandemd is not running\n"
    )


# No usable answer


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "control.sock"
    assert tandem(path, "status") == 1
    socket.socket(socket.AF_UNIX).bind(str(path))  # of a dead daemon
    assert tandem(path, "status") == 1
    assert capsys.readouterr().err == f"tandem: no daemon answers at {path}: is tandemd running?\n" * 2


def test_permission_denied(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def connect(path: str, request: bytes, timeout_s: float) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tandem.control.client._exchange", connect)
    assert tandem("/run/x", "status") == 1
    assert tandem("/run/x", "status", "--watch") == 1  # it will not heal
    assert capsys.readouterr().err == "tandem: only root may use /run/x: permission denied\n" * 2
    with pytest.raises(DeniedError):
        ask("/run/x", "status")


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 400\r\n", b"[]\n", b"{}\n", b'{"ok": 1}\n', b"\xff\n", b"[" * 99999]
)
def test_answer_of_something_else(daemon: FakeDaemon, raw: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.raw = raw
    assert tandem(daemon.path, "status") == 1
    assert capsys.readouterr().err == (
        f"tandem: {daemon.path}: the answer is not understood, is this tandemd's socket?\n"
    )


def test_connection_closed_without_an_answer(daemon: FakeDaemon) -> None:
    daemon.raw = b""
    with pytest.raises(ControlError, match="closed the connection without an answer"):
        ask(daemon.path, "status")


def test_daemon_that_hangs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()
        with pytest.raises(ControlError, match=r"did not answer in 0\.05 s"):
            ask(str(tmp_path / "control.sock"), "status", timeout_s=0.05)


def test_path_that_is_too_long() -> None:
    with pytest.raises(ControlError, match="AF_UNIX path too long"):
        ask("/" + "x" * 200, "status")


def test_errors_of_asking(daemon: FakeDaemon, tmp_path: Path) -> None:
    with pytest.raises(NoDaemonError):
        ask(str(tmp_path / "none"), "status")
    daemon.answers["reload"] = {"ok": False, "error": "no", "errors": ["a"]}
    with pytest.raises(RefusedError) as raised:
        ask(daemon.path, "reload")
    assert (str(raised.value), raised.value.problems) == ("no", ("a",))


# check and capture: what others write is played by modules of the test


def install(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, child = name.rpartition(".")
    monkeypatch.setattr(importlib.import_module(parent), child, module, raising=False)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> dict[str, types.SimpleNamespace]:
    """What loading a file gives, by path."""
    files: dict[str, types.SimpleNamespace] = {}
    install(monkeypatch, "tandem.config.load", load_file=files.__getitem__)
    install(monkeypatch, "tandem.config.effective", render=lambda config: f"config {config}\n")
    files["good"] = types.SimpleNamespace(config="G", errors=(), warnings=("good:1: odd",))
    files["bad"] = types.SimpleNamespace(config=None, errors=("bad:1: x", "bad:2: y"), warnings=())
    files[cli.DEFAULT_CONFIG] = types.SimpleNamespace(config="D", errors=(), warnings=())
    return files


def test_check(loads: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "good"]) == 0
    assert capsys.readouterr() == ("config G\n", "warning: good:1: odd\n")
    assert cli.main(["check", "bad"]) == 2
    assert capsys.readouterr() == ("", "bad:1: x\nbad:2: y\n")
    assert cli.main(["check"]) == 0
    assert capsys.readouterr() == ("config D\n", "")


def test_capture(loads: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def capture(interface: str, config: object, count: int | None, out: Any) -> None:
        out.write(f"{interface} {config} {count}\n")

    install(monkeypatch, "tandem.control.capture", capture=capture)
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    assert cli.main(["capture", "br-lan"]) == 0
    assert cli.main(["capture", "br-lan", "--count", "3", "-c", "good"]) == 0
    assert cli.main(["capture", "br-lan", "-c", "bad"]) == 2
    assert capsys.readouterr().out == "br-lan None None\nbr-lan G 3\n"


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 0, ""),
        (PermissionError(1, "Operation not permitted"), 1, "tandem: only root may capture packets\n"),
        (OSError(19, "No such device"), 1, "tandem: eth9: No such device\n"),
        (
            ModuleNotFoundError("x", name="scapy"),
            1,
            "tandem: capture needs the Python module scapy (OpenWrt: tandem-tools)\n",
        ),
    ],
)
def test_capture_ends(
    loads: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    text: str,
) -> None:
    def capture(*arguments: object) -> None:
        raise error

    install(monkeypatch, "tandem.control.capture", capture=capture)
    assert cli.main(["capture", "eth9", "-c", "good"]) == status
    assert capsys.readouterr().err.replace("warning: good:1: odd\n", "") == text


# Usage


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["explode"],
        ["status", "G1"],
        ["status", "--watch", "0"],
        ["status", "--watch", "nan"],
        ["status", "--watch", "soon"],
        ["capture"],
        ["capture", "eth0", "--count", "0"],
        ["capture", "eth0", "--count", "-1"],
        ["failover", "A", "B"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(arguments)
    assert raised.value.code == 2
    assert "usage: tandem" in capsys.readouterr().err


COMMANDS = ["init", "doctor", "status", "failover", "standby", "resume", "reload", "check", "capture"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_and_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([*command.split(), "--help"])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "examples:\n  tandem " in text
    if not command:
        assert all(f"\n    {name} " in text for name in COMMANDS)


# The real program


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(STUB), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **options)


def test_stub_in_a_checkout(tmp_path: Path) -> None:
    done = run("version", "--control", str(tmp_path / "none"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"tandem {__version__}\ntandemd is not running\n")
    assert os.access(STUB, os.X_OK)
    assert STUB.read_text().startswith("#!/usr/bin/python3 -I\n")


def test_stub_installed(tmp_path: Path) -> None:
    for name in ("bin", "lib/tandem/tandem/control"):
        (tmp_path / name).mkdir(parents=True)
    package = tmp_path / "lib/tandem/tandem"
    for directory in (package, package / "control"):
        (directory / "__init__.py").touch()  # a regular package: a namespace one would come after any in site
    (package / "control/cli.py").write_text("def main():\n    return 42\n")
    installed = tmp_path / "bin/tandem"
    installed.write_bytes(STUB.read_bytes())
    (tmp_path / "elsewhere").symlink_to(installed)
    for stub in (installed, tmp_path / "elsewhere"):
        assert subprocess.run([sys.executable, "-I", str(stub)], check=False).returncode == 42


@pytest.mark.parametrize("arguments", [["status"], ["status", "--watch", "0.1"], ["--help"]])
def test_broken_pipe_is_quiet(daemon: FakeDaemon, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-I", str(STUB), "--control", daemon.path, *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


class Terminal:
    """The program on a terminal of 12 lines by 80 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 12, 80, 0, 0))
        self.text = ""
        self.child = subprocess.Popen(
            [sys.executable, "-I", str(STUB), *arguments],
            stdout=slave,
            stderr=slave,
            env=os.environ | {"TERM": "xterm"} | environment,
        )
        os.close(slave)

    def until(self, condition: Callable[[str], object]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode()
                except OSError:  # EIO: the program has ended
                    assert condition(self.text), self.text

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)


def test_watch_survives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with closing(Terminal("status", "--watch", "0.1", "--control", str(path))) as terminal:
        terminal.until(lambda text: "no daemon" in text)
        daemon = FakeDaemon(path)
        terminal.until(lambda text: "MASTER" in text)
        daemon.close()
        seen = len(terminal.text)
        terminal.until(lambda text: "no daemon" in text[seen:])
        terminal.child.send_signal(signal.SIGINT)
        assert terminal.child.wait(DEADLINE_S) == 0
    assert terminal.text.startswith("\x1b[H\x1b[J\x1b[Hno daemon (no daemon answers at")
    frames = terminal.text.split("\x1b[H")
    page = next(frame for frame in frames if "MASTER" in frame)
    lines = page.split("\r\n")
    assert lines[-1].startswith("\x1b[J")
    assert len(lines) == 12  # 11 and the one that the cursor is on
    assert all(line.endswith("\x1b[K") for line in lines[:-1])
    assert lines[-2] == f"... {len(PAGE_80.splitlines()) - 10} more lines\x1b[K"


def test_watch_without_a_terminal(daemon: FakeDaemon) -> None:
    command = [
        sys.executable,
        "-I",
        str(STUB),
        "status",
        "--json",
        "--watch",
        "0.1",
        "--control",
        daemon.path,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert [json.loads(child.stdout.readline()) for _ in range(3)] == [STATUS] * 3
        child.send_signal(signal.SIGINT)
        assert child.wait(DEADLINE_S) == 0


def test_colour_on_terminals_only_and_not_when_unwanted(daemon: FakeDaemon) -> None:
    with closing(Terminal("status", "--control", daemon.path)) as terminal:
        terminal.until(lambda text: "fe80::1" in text)
    assert "\x1b[1;32mMASTER\x1b[m" in terminal.text
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with closing(Terminal("status", "--control", daemon.path, **unwanted)) as terminal:
            terminal.until(lambda text: "fe80::1" in text)
        assert terminal.text.replace("\r\n", "\n").startswith(PAGE_80[:-1])


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_without_streams(closed: str, tmp_path: Path) -> None:
    """As procd's triggers run it: the command does its work and its status is right."""
    file = tmp_path / "tandem"
    for text, status in (("config globals\n", 0), ("config nonsense\n", 2)):
        file.write_text(text)
        command = f"exec {sys.executable} {STUB} check {file} {closed}"
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


def test_dhcp_is_told() -> None:
    dhcp = {
        "leases": 2, "answering": ["I1"], "waiting": False, "restarts": 3, "refused": 0, "problem": "",
        "told": ["192.168.1.3"], "sent": 5, "received": 0, "malformed": 0, "resent": 0,
    }  # fmt: skip
    page = render_status(STATUS | {"dhcp": dhcp}, 200)
    assert "2 leases, answered by I1, replicated to 192.168.1.3, restarts 3, sent 5" in page
    waiting = dhcp | {"leases": 0, "answering": [], "waiting": True, "told": [], "problem": "exit status 3"}
    page = render_status(STATUS | {"dhcp": waiting}, 200)
    assert "no lease, silent, dnsmasq is to read leases, exit status 3, restarts 3" in page
    assert "dhcp" not in render_status(STATUS, 200)
