# SPDX-License-Identifier: GPL-2.0-or-later
"""A DHCP gateway with stand-ins for the loop, dnsmasq, the guard and the channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tandem.config.schema import DhcpGateway
from tandem.dhcp import gateway as module
from tandem.dhcp.exchange import TOPIC
from tandem.dhcp.gateway import SECOND, Gateway
from tandem.effects.process import Exit
from tandem.log import Logger
from tandem.plan.result import LeasePlan
from tests.lab.log import Lines
from tests.property.dhcp_stand_ins import Guard, Timers

START = 1_000 * SECOND
EPOCH = 1_700_000_000  # when the monotonic clock was 0
NETWORKS = {
    "I1": ((4, 0xC0A80100, 0xFFFFFF00),),  # 192.168.1.0/24
    "I2": (
        (4, 0x0A000000, 0xFF000000),  # 10.0.0.0/8
        (6, 0xFD << 120, 0xFFFFFFFFFFFFFFFF << 64),  # fd00::/64
    ),
}
DUID = "duid 00:01:00:01:2e:aa:bb:cc:02:00:00:00:00:01"


class Clock(Timers):
    """A loop without descriptors whose time the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.time = START
        self.readers: dict[int, Callable[[], None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def now(self) -> int:
        return self.time

    def run(self, seconds: float) -> None:
        until = self.time + int(seconds * SECOND)
        while self.timers:
            key, (when, callback) = min(self.timers.items(), key=lambda item: item[1][0])
            if when > until:
                break
            del self.timers[key]
            self.time = max(self.time, when)
            callback(self.time)
        self.time = until


class Restarts:
    """A restart ends when the test says so."""

    def __init__(self) -> None:
        self.count = 0
        self.running: Callable[[Exit], None] | None = None
        self.possible = True

    def run(self, argv: Any, timeout: int, ended: Callable[[Exit], None]) -> bool:
        if not self.possible:
            return False
        self.count += 1
        self.running = ended
        return True

    def end(self, status: int = 0) -> None:
        done, self.running = self.running, None
        assert done is not None
        done(Exit(status, 0))


class Channel:
    """The replication channel: remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = True

    def subscribe(self, topic: str, subscriber: Any) -> None:
        assert topic == TOPIC

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        if self.room:
            self.sent.append(data)
        return self.room

    def lines(self) -> list[str]:
        """Return the messages that were sent since the last call."""
        sent, self.sent = self.sent, []
        return [line.decode() for data in sent for line in data.split(b"\n")[1:]]


class Bench:
    """A Gateway with everything around it."""

    def __init__(
        self,
        directory: Path,
        monkeypatch: pytest.MonkeyPatch,
        state_dir: Path | None = None,
        force: tuple[str, ...] = (),
    ) -> None:
        self.clock = Clock()
        self.guard = Guard()
        self.channel = Channel()
        self.log = Lines()
        self.file = directory / "leases"
        self.wall = EPOCH
        self.restarts = Restarts()
        monkeypatch.setattr(module.time, "time", lambda: self.wall + self.clock.time / SECOND)
        snippet = str(directory / "conf.d/tandem.conf"), "text\n"
        state = None if state_dir is None else str(state_dir)
        plan = LeasePlan(str(self.file), snippet, state, force, NETWORKS, {})
        settings = DhcpGateway(restart=("/restart",), restart_delay_ms=1000)
        log = Logger("info", self.log)
        self.gateway = Gateway(self.clock, log, settings, plan, self.guard, self.restarts)  # type: ignore[arg-type]

    def start(self, *leases: str) -> None:
        """With what dnsmasq knows already; the first restart, for the snippet, is over."""
        self.file.write_text("".join(f"{line}\n" for line in (*leases, DUID)))
        self.gateway.start(())
        self.gateway.exchange.join(self.channel)  # type: ignore[arg-type]
        self.gateway.exchange.peer_opened("r2")
        self.channel.lines()
        self.clock.run(2)
        self.restarts.end()
        self.restarts.count = 0

    def now(self) -> int:
        return self.clock.time // SECOND

    def line(self, number: int, left: int = 600, name: str = "*", who: int | None = None) -> str:
        mac = f"02:00:00:00:00:{number if who is None else who:02x}"
        return f"{self.wall + self.now() + left} {mac} 192.168.1.{number} {name} *"

    def peer(self, *lines: str) -> None:
        self.gateway.exchange.received("r2", "\n".join(("1", *lines)).encode())

    def dnsmasq(self, *lines: str) -> None:
        """dnsmasq writes its file, in place."""
        with self.file.open("r+") as file:
            file.truncate()
            file.write("".join(f"{line}\n" for line in (*lines, DUID)))
        self.gateway._read()

    def known(self) -> list[str]:
        """Address and name of what stands in the file."""
        lines = (line.split() for line in self.file.read_text().splitlines() if not line.startswith("duid"))
        return [f"{words[2]} {words[3]}" for words in lines]


def wire(number: int, left: int = 600, name: str = "*", who: int | None = None, mark: str = "=") -> str:
    mac = f"02:00:00:00:00:{number if who is None else who:02x}"
    return f"{mark}{left} {mac} 192.168.1.{number} {name} *"
