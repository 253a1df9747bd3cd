# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers of the examples: what each program needs, whoever starts it, and a client that works with it."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.lab import LanLab

ADDRESS = "192.168.1.20"
RUN = "/run/example"  # each machine has its own
MONITOR_S = 2
INIT = f"""#!/bin/sh
# An init script, which is keepalived's notify script as well: start|stop|status
pid=$(cat {RUN}/server.pid 2>/dev/null)
case $1 in
start)
	[ -n "$pid" ] && kill -0 $pid && exit
	setsid {{command}} >/dev/null 2>&1 &
	echo $! >{RUN}/server.pid
	;;
stop)
	[ -n "$pid" ] && kill $pid || exit 0
	while kill -0 $pid; do sleep 0.05; done
	;;
status)
	[ -n "$pid" ] && kill -0 $pid || exit 3
	;;
esac 2>/dev/null
"""
PRIMITIVE = """
<primitive id="{name}" {agent}>
  <instance_attributes id="{name}-attributes">{parameters}</instance_attributes>
  <operations>
    <op id="{name}-start" name="start" interval="0" timeout="60s"/>
    <op id="{name}-stop" name="stop" interval="0" timeout="60s"/>
    <op id="{name}-monitor" name="monitor" interval="{interval}s" timeout="20s"/>
  </operations>
</primitive>
"""


class Client(ABC):
    """Works with the server without a pause; `answers` has the time (monotonic s) of each success."""

    port: int

    def __init__(self, lab: LanLab) -> None:
        self.answers: list[float] = []
        self.lab = lab
        self.data = lab.directory / "data"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: lab.client.enter(self._work), daemon=True)
        self._thread.start()

    @abstractmethod
    def ask(self) -> bool:
        """Do one piece of work in the client's namespace; False or OSError: it failed."""

    @abstractmethod
    def lost(self) -> str:
        """Return what the server confirmed and the data lacks; empty: nothing."""

    def close(self) -> None:
        """Work no more."""
        self._ends.set()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._ends.wait(0.01):
            try:
                done = self.ask()
            except OSError:
                continue
            if done:
                self.answers.append(time.monotonic())

    def reach(self) -> None:
        """Try whether the server's port answers, which costs little when it does not. OSError: no."""
        socket.create_connection((ADDRESS, self.port), 0.2).close()

    def answered(self, since: float) -> bool:
        """Whether a piece of work was done after that time."""
        return bool(self.answers) and self.answers[-1] > since

    def outage(self, since: float) -> float:
        """The longest time between two successes, ms; the success before `since` counts."""
        times = list(self.answers)
        first = max((number for number, when in enumerate(times) if when < since), default=0)
        return max(
            1000 * (after - before) for before, after in zip(times[first:], times[first + 1 :], strict=False)
        )


class Server(ABC):
    """A program with its data in a directory that both machines see, as on a common disk."""

    name: str
    comm: str  # of its process, in /proc
    boot = ""  # shell commands of a machine's boot

    @abstractmethod
    def write(self, directory: Path) -> None:
        """Write the configuration, and the first data unless there are some."""

    @abstractmethod
    def command(self, directory: Path) -> str:
        """Return the command line that stays in the foreground."""

    @abstractmethod
    def client(self, lab: LanLab) -> Client:
        """Return a client that works from now on."""

    def init(self, directory: Path) -> str:
        """Return the text of an init script."""
        return INIT.format(command=self.command(directory))

    def section(self, directory: Path) -> str:
        """Return the options of Tandem's `config service`."""
        return f"\toption command '{self.command(directory)}'\n"

    def primitive(self, directory: Path) -> str:
        """Return Pacemaker's resource: the init script of the server's name."""
        return primitive(self.name, f'class="lsb" type="{self.name}"', {})

    def twice(self, directory: Path) -> int:
        """Return how often a second server found the data in use."""
        return 0


def primitive(name: str, agent: str, parameters: dict[str, str]) -> str:
    """Return a resource of Pacemaker; `agent` consists of XML attributes."""
    pairs = "".join(
        f'<nvpair id="{name}-{key}" name="{key}" value="{value}"/>' for key, value in parameters.items()
    )
    return PRIMITIVE.format(name=name, agent=agent, parameters=pairs, interval=MONITOR_S)
