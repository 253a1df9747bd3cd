# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line against a daemon played by a thread."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tandem import __version__
from tandem.control import cli
from tandem.control.client import ControlError, DeniedError, NoDaemonError, RefusedError, ask
from tandem.places import CONFIG
from tests.unit.fake_daemon import FakeDaemon
from tests.unit.status_snapshot import PAGE_80, SHORT_80, STATUS

pytestmark = pytest.mark.usefixtures("utc")


def tandem(path: object, *arguments: str) -> int:
    return cli.main([*arguments, "--control", str(path)])


# tandem status


def test_status(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert tandem(daemon.path, "status", "-v") == 0
    assert capsys.readouterr() == (PAGE_80, "")
    assert tandem(daemon.path, "status") == 0
    assert capsys.readouterr() == (SHORT_80, "")


def test_why_and_history(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert tandem(daemon.path, "why") == 0
    assert capsys.readouterr().out.startswith("G1: this router is MASTER for 4 h 22 min.\n")
    assert tandem(daemon.path, "history") == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == "2025-07-27 10:13:15  G1  MASTER"
    assert last == "    cause      not shown any more"
    assert tandem(daemon.path, "history", "--json") == 0
    assert json.loads(capsys.readouterr().out) == STATUS["history"]
    daemon.answers["status"] = {"version": "9"}
    assert tandem(daemon.path, "why") == 1


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
def test_group_commands(
    daemon: FakeDaemon, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "mar\nia")
    monkeypatch.setenv("SSH_CONNECTION", "192.168.1.10 51000 192.168.1.2 22")
    monkeypatch.delenv("SUDO_USER", raising=False)
    daemon.answers[command] = {"groups": {"G1": "BACKUP", "G2": "FAULT"}}
    assert tandem(daemon.path, command) == 0
    assert tandem(daemon.path, command, "G1") == 0
    assert [request.pop("by") for request in daemon.requests] == ["maria from 192.168.1.10"] * 2
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
    """The results of loading a file, by path."""
    files: dict[str, types.SimpleNamespace] = {}
    install(monkeypatch, "tandem.config.load", load_file=files.__getitem__)
    install(monkeypatch, "tandem.config.effective", render=lambda config: f"config {config}\n")
    install(monkeypatch, "tandem.plan.process", problems=lambda config: ["no such user"] * (config == "U"))
    files["unknown"] = types.SimpleNamespace(config="U", errors=(), warnings=())
    files["good"] = types.SimpleNamespace(config="G", errors=(), warnings=("good:1: odd",))
    files["bad"] = types.SimpleNamespace(config=None, errors=("bad:1: x", "bad:2: y"), warnings=())
    files[CONFIG] = types.SimpleNamespace(config="D", errors=(), warnings=())
    return files


def test_check(loads: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "good"]) == 0
    assert capsys.readouterr() == ("config G\n", "warning: good:1: odd\n")
    assert cli.main(["check", "bad"]) == 2
    assert capsys.readouterr() == ("", "bad:1: x\nbad:2: y\n")
    assert cli.main(["check", "unknown"]) == 2
    assert capsys.readouterr() == ("", "unknown: no such user\n")
    assert cli.main(["check"]) == 0
    assert capsys.readouterr() == ("config D\n", "")


def test_capture(loads: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def capture(interface: str, config: object, count: int | None, out: Any) -> None:
        out.write(f"{interface} {config} {count}\n")

    install(monkeypatch, "tandem.listen.capture", capture=capture)
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
            "tandem: capture requires the Python module scapy. On OpenWrt: opkg install tandem-tools\n",
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

    install(monkeypatch, "tandem.listen.capture", capture=capture)
    monkeypatch.setattr(cli, "find_program", lambda name: f"/no/{name}")
    assert cli.main(["capture", "eth9", "-c", "good"]) == status
    assert capsys.readouterr().err.replace("warning: good:1: odd\n", "") == text


@pytest.mark.parametrize(("tool", "line"), [("apk", "apk add"), ("opkg", "opkg install")])
def test_a_command_of_another_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tool: str, line: str
) -> None:
    monkeypatch.setattr(cli, "find_program", lambda name: "/bin/sh" if name == tool else f"/no/{name}")
    monkeypatch.setitem(sys.modules, "tandem.importer.command", None)
    assert cli.main(["import"]) == 1
    text = f"import requires the Python module tandem.importer.command. On OpenWrt: {line} tandem-import"
    assert capsys.readouterr() == ("", f"tandem: {text}\n")


def test_a_module_that_is_missing_for_no_known_reason_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tandem.doctor.command", None)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["doctor"])


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
