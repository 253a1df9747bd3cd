# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo` as a person runs it: on a terminal, in a pipe, and with Ctrl-C in the middle."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

from tests.lab import netns

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.demo", "--advert", "0.1"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def left_behind(pid: int) -> list[str]:
    """Namespaces and directories of the demo with that process id."""
    pattern = f"tandem-demo1-{pid}-*"
    return [str(path) for folder in (netns.DIRECTORY, Path("/tmp")) for path in folder.glob(pattern)]


def test_on_a_terminal_of_80_columns() -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"PYTHONIOENCODING": "utf-8"}
    child = subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    data = b""
    while chunk := _read(leader):
        data += chunk
    os.close(leader)
    text = data.decode()
    assert child.wait(30) == 0, text
    assert "\x1b[32m" in text, "colours"
    assert text.endswith("\x1b[?25h"), "the cursor is back"
    shown = [ESCAPE.sub("", part) for part in re.split(r"[\r\n]+", text)]
    assert max(map(len, shown)) < 80, max(shown, key=len)
    assert shown[-2].strip() == "The gateway came back every time; 20 of 20 downloads go on.", text
    table = [line.split() for line in shown if line.rstrip().endswith("OK")]
    assert len(table) == 4, text
    assert all(" 20 of 20 " in " ".join(row) for row in table), text
    assert not left_behind(child.pid)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # EIO: the last program has closed the terminal
        return b""


def test_ctrl_c_in_a_pipe() -> None:
    child = subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout and child.stderr
    seen = ""
    for line in child.stdout:
        seen += line
        if "the client asks" in line:
            child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130, seen
    assert "everything is removed" in child.stderr.read()
    assert "\x1b" not in seen
    child.stdout.close()
    child.stderr.close()
    assert not left_behind(child.pid)
