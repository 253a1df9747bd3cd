# SPDX-License-Identifier: GPL-2.0-or-later
"""The real program `tandem`, in a checkout, installed, in a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import closing
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tandem import __version__
from tests.unit.fake_daemon import DEADLINE_S, FakeDaemon
from tests.unit.status_snapshot import PAGE_80, STATUS

pytestmark = pytest.mark.usefixtures("utc")
STUB = Path(__file__).parents[2] / "files/usr/bin/tandem"


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
    with closing(Terminal("status", "-v", "--watch", "0.1", "--control", str(path))) as terminal:
        terminal.until(lambda text: "no daemon" in text)
        daemon = FakeDaemon(path)
        terminal.until(lambda text: "tandemd 0.1.0" in text)
        daemon.close()
        seen = len(terminal.text)
        terminal.until(lambda text: "no daemon" in text[seen:])
        terminal.child.send_signal(signal.SIGINT)
        assert terminal.child.wait(DEADLINE_S) == 0
    assert terminal.text.startswith("\x1b[H\x1b[J\x1b[Hno daemon (no daemon answers at")
    frames = terminal.text.split("\x1b[H")
    page = next(frame for frame in frames if "tandemd 0.1.0" in frame)
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
    with closing(Terminal("status", "-v", "--control", daemon.path)) as terminal:
        terminal.until(lambda text: "(started)" in text)
    assert "\x1b[1;32mMASTER\x1b[m" in terminal.text
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with closing(Terminal("status", "-v", "--control", daemon.path, **unwanted)) as terminal:
            terminal.until(lambda text: "(started)" in text)
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
