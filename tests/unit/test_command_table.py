# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of commands: every handler exists, and shells complete every word."""

from __future__ import annotations

import ast
import importlib
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tandem.control import command_table
from tandem.control.command_table import TABLE
from tandem.control.requests import REQUESTS
from tandem.handlers import Handlers
from tests.tools.command_files import LINKS, SHOWN
from tests.tools.generate import ROOT
from tests.unit.fake_daemon import DEADLINE_S, FakeDaemon

COMPLETION = ROOT / "files/usr/share/bash-completion/completions/tandem"
PROFILE = ROOT / "files/etc/profile.d/tandem.sh"


def test_every_request_has_a_handler_and_every_handler_a_request() -> None:
    assert {name.removeprefix("do_") for name in dir(Handlers) if name.startswith("do_")} == set(REQUESTS)


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_every_command_has_a_function(command: command_table.Command) -> None:
    module, _, name = command.run.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_names_are_unique_and_every_entry_is_of_use() -> None:
    names = [command.name for command in TABLE]
    assert len(names) == len(set(names))
    assert all(bool(command.summary) == bool(command.run) for command in TABLE)
    assert all(c.summary or c.request is not None or c.plugin is not None for c in TABLE)
    assert all((c.request, c.plugin) != (None, None) for c in TABLE if c.access)
    assert all(c.access for c in TABLE if c.plugin is not None)


def test_the_daemon_does_not_load_the_table() -> None:
    """Its texts would cost memory; what the daemon serves comes from `requests`."""
    program = "import sys, tandem.tandemd, tandem.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tandem.control.requests" in loaded
    assert not {"tandem.control.command", "tandem.control.command_table", "argparse"} & loaded
    source = (ROOT / "src/tandem/control/requests.py").read_text()
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert not {command.summary for command in SHOWN} & texts


# Completion


def completed(*words: str, path: str = "/usr/bin:/bin") -> list[str]:
    """Bash's completions of the last word."""
    program = (
        f'. {COMPLETION}; COMP_WORDS=(tandem "$@"); COMP_CWORD=$#;'
        ' _tandem tandem "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", *words],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": path},
    )
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands() -> None:
    assert completed("") == [command.name for command in SHOWN if " " not in command.name]
    assert completed("re") == ["resume", "reload"]
    assert completed("--control", "x", "fail") == ["failover"]
    assert completed("conntrack", "l") == ["list"]
    assert completed("nothing", "") == completed("")


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_bash_completes_every_long_option(command: command_table.Command) -> None:
    options = [
        name
        for argument in command.arguments
        if argument.is_option and not argument.is_hidden
        for name in argument.names
        if name.startswith("--")
    ]
    assert completed(*command.name.split(), "--") == [*options, "--control", "--help"]


def test_bash_completes_values(tmp_path: Path, daemon: FakeDaemon) -> None:
    assert completed("dhcp", "r") == ["release"]
    assert "lo" in completed("capture", "")
    assert completed("check", f"{COMPLETION.parent}/t") == [str(COMPLETION)]
    assert completed("import", "--output", f"{COMPLETION.parent}/t") == [str(COMPLETION)]
    assert completed("status", "--watch", "") == []
    (tmp_path / "tandem").write_text(
        f'#!/bin/sh\nexec {sys.executable} {ROOT}/files/usr/bin/tandem --control {daemon.path} "$@"\n'
    )
    (tmp_path / "tandem").chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    assert completed("failover", "", path=path) == ["G1", "guest"]
    assert completed("standby", "--force", "g", path=path) == ["guest"]


class Ash:
    """A busybox shell on a terminal, as on OpenWrt; after what the profile does."""

    def __init__(self) -> None:
        busybox = shutil.which("busybox")
        assert busybox
        self.pid, self.master = pty.fork()
        if not self.pid:
            os.execve(busybox, ["ash"], {"PATH": "/usr/bin:/bin", "PS1": "> ", "TERM": "xterm"})
        self.text = ""
        self.until("> ")

    def until(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode()
        self.text = self.text.partition(text)[2]

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def close(self) -> None:
        os.close(self.master)
        os.waitpid(self.pid, 0)


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox (it comes with udhcpc)")
def test_ash_completes_commands(tmp_path: Path) -> None:
    script = PROFILE.read_text().replace("/usr/share", str(ROOT / "files/usr/share"))
    (tmp_path / "profile.sh").write_text(script)
    with closing(Ash()) as ash:
        ash.type(f". {tmp_path}/profile.sh\n")
        ash.until("> ")
        ash.type("tandem-st\t")
        ash.until("tandem-sta")  # standby and status go on like this
        ash.type("n\t")
        ash.until("dby ")


def test_a_link_is_its_command(daemon: FakeDaemon) -> None:
    for name in ("version", "failover"):
        daemon.answers["failover"] = {"groups": {"G1": "BACKUP"}}
        link = ROOT / LINKS / f"tandem-{name}"
        done = subprocess.run([sys.executable, "-I", str(link), "--control", daemon.path], check=False)
        assert done.returncode == 0
    assert [request["command"] for request in daemon.requests] == ["version", "failover"]
