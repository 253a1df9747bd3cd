# SPDX-License-Identifier: GPL-2.0-or-later
"""Real child processes on the real loop; every wait is a turn of it with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tandem.effects.process import Exit, Processes
from tandem.log import Logger
from tandem.loop import Loop
from tests.lab.log import Lines

SECOND = 1_000_000_000


class Bench:
    """A loop with processes and a log, and a way to wait."""

    def __init__(self, limit: int = 32) -> None:
        self.loop = Loop()
        self.sink = Lines()
        self.log = Logger("debug", self.sink)
        self.processes = Processes(self.loop, self.log, limit)
        self.exits: list[Exit] = []

    def run_until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "condition not reached"
            self.loop.turn(SECOND // 50)

    def shell(self, command: str, timeout: int = 10 * SECOND, **options: object) -> int | None:
        argv = ("/bin/sh", "-c", command)
        return self.processes.start(argv, timeout, self.exits.append, **options)  # type: ignore[arg-type]

    def run(self, command: str, **options: object) -> Exit:
        count = len(self.exits)
        assert self.shell(command, **options) is not None  # type: ignore[arg-type]
        self.run_until(lambda: len(self.exits) > count)
        return self.exits[-1]


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has reaped yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
