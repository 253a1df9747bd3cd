# SPDX-License-Identifier: GPL-2.0-or-later
"""Real faults on a pair with services: nothing ever runs twice, and everything runs again soon.

    python -m tests.chaos.services [--seed 1] [--faults 50]

Each service is a process that holds a lock (flock) of the machine that both routers share; a second one says
so in a file. The kernel therefore proves it, whatever the routers say of themselves.
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.chaos.command import run
from tests.lab import LabError, LanLab, Router, Tandem, process, wait_until
from tests.lab.scenario import tandem_uci
from tests.lab.topology import SYNC_SECRET
from tests.netns.daemon import V1

SERVICES = ("base", "upper")  # upper starts after base
PATIENCE = 30.0  # s, from a fault to the next moment when all run and both routers talk
PROGRAM = """#!/bin/sh
# SERVICE DIRECTORY: hold the lock of the service, or say that another one holds it.
exec 9>>"$2/$1.lock"
flock -n 9 || { echo "$1 $$" >> "$2/twice"; exit 1; }
echo $$ > "$2/$1.pid"
exec sleep 100000
"""
SECTION = """
config service '{name}'
	option command '{directory}/program {name} {directory}'
	option stop_timeout '2'
"""


class Pair:
    """The routers, and the faults: each method leaves the pair so that it can heal."""

    def __init__(self, lab: LanLab, directory: Path, seed: int) -> None:
        self.lab = lab
        self._directory = directory
        self._random = random.Random(seed)
        self.faults: dict[str, Callable[[Router], None]] = {
            "the daemon is killed": self._killed,
            "the daemon hangs": self._hangs,
            "power is cut": self._power,
            "a cable is pulled": self._cable,
            "the role is handed over": self._failover,
            "a service dies": self._dies,
            "a reload": lambda router: Tandem.request(router, "reload"),
            "a stop in good order": self._stopped,
        }

    def go(self, count: int, tell: Callable[[str], None] = lambda _line: None) -> None:
        """Do so many faults, each kind in turn, and look after each of them."""
        names = list(self.faults)
        for number in range(count):
            if number % len(names) == 0:
                self._random.shuffle(names)
            name, router = names[number % len(names)], self._random.choice(self.lab.routers)
            began = time.monotonic()
            self.faults[name](router)
            self.settle()
            tell(f"{number + 1}: {router.name}: {name}: {time.monotonic() - began:.1f} s")

    def settle(self) -> None:
        """Wait until all services run on the active router, and nothing has run twice."""
        wait_until(self._well, PATIENCE, "all services run again", explain=self.lab.logs)
        twice = self._directory / "twice"
        assert not twice.exists(), f"ran twice: {twice.read_text()}\n{self.lab.logs()}"

    def _well(self) -> bool:
        """Whether the processes live, on the active router, and the routers know each other."""
        try:
            return self._looks_well()
        except (OSError, LabError) as error:
            raise AssertionError(str(error)) from None

    def _looks_well(self) -> bool:
        active = self.lab.active
        assert active is not None
        for name in SERVICES:
            pid = self._pid(name)
            assert pid in active.family(), name
        for router in self.lab.routers:
            found = Tandem.request(router, "status")
            assert all(peer["connected"] for peer in found["peers"])
            wanted = ["running" if router is active else "stopped"] * len(SERVICES)
            assert [one["state"] for one in found["services"]] == wanted
        return True

    def _pid(self, name: str) -> int:
        """The process that holds the lock of a service, or held it last; 0: none has."""
        file = self._directory / f"{name}.pid"
        return int(file.read_text() or 0) if file.exists() else 0

    # faults

    def _killed(self, router: Router) -> None:
        process.send_signal([router.pid], signal.SIGKILL)
        router.processes[-1].wait(5)
        router.start()  # as procd does

    def _hangs(self, router: Router) -> None:
        process.send_signal([router.pid], signal.SIGSTOP)
        time.sleep(self._random.choice((0.1, 0.5, 5)))  # its guardian kills it after 0.3 s
        if router.running:
            process.send_signal([router.pid], signal.SIGCONT)
        else:
            router.start()

    def _power(self, router: Router) -> None:
        router.power_off()
        if self._random.random() < 0.5:
            other = next(one for one in self.lab.routers if one is not router)
            wait_until(lambda: other.active, 10, "the other one takes over")
        router.power_on()

    def _cable(self, router: Router) -> None:
        self.lab.cut(router)
        time.sleep(self._random.choice((0.05, 0.5, 2)))
        self.lab.plug(router)

    def _failover(self, router: Router) -> None:
        active = self.lab.active or router
        Tandem.request(active, "failover")
        Tandem.request(active, "resume")

    def _dies(self, router: Router) -> None:
        pid = self._pid(self._random.choice(SERVICES))
        process.send_signal([pid], signal.SIGKILL)
        wait_until(lambda: not self._lives(pid), 10, "it has ended")  # another one may run at once

    def _lives(self, pid: int) -> bool:
        return any(pid in router.family() for router in self.lab.routers)

    def _stopped(self, router: Router) -> None:
        router.stop(20)
        router.start()


def daemon(number: int, directory: Path) -> Tandem:
    # The interval is the default: a daemon that hangs must end before three adverts are missed.
    instances = [replace(V1, priority=200 - 50 * number, advert_s=1.0)]
    peer = f"\nconfig peer 'r{3 - number}'\n\tlist address '192.168.1.{4 - number}'\n"
    peer += f"\toption secret '{SYNC_SECRET}'\n"
    services = "".join(SECTION.format(name=name, directory=directory) for name in SERVICES)
    return Tandem(instances, text=tandem_uci(instances) + peer + services + "\tlist after 'base'\n")


@contextmanager
def running(directory: Path, seed: int) -> Iterator[Pair]:
    """A pair whose services run."""
    program = directory / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    with LanLab([daemon(number, directory) for number in (1, 2)], "chaos-services") as lab:
        lab.up()
        lab.elect()
        pair = Pair(lab, directory, seed)
        pair.settle()
        yield pair


@contextmanager
def _alone(seed: int) -> Iterator[Pair]:
    """The same in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory, running(Path(directory), seed) as pair:
        yield pair


if __name__ == "__main__":
    sys.exit(run("tests.chaos.services", __doc__, 50, _alone))
