# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's connection to ubusd: made when ubusd appears, and again whenever ubusd has gone and is back.

The loop does not wait for an ubusd that hangs. ubusd must first greet on a second connection; only then
libubus connects. The steps after that wait for ubusd's answers. Connecting and each step get a turn of the
loop of their own and at most STEP_S of it, which is the limit of any turn. When ubusd hangs at that moment,
or is too busy, the connection is made again later.
"""

from __future__ import annotations

import socket

from tandem.openwrt.ubus import Ubus, UbusError, socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from tandem.log import Logger
    from tandem.loop import Loop

    Step = Callable[[], None]

    class Part(Protocol):
        """Something that lives on the bus."""

        def steps(self) -> Sequence[Step]:
            """Return the steps that put this part on a new connection; a UbusError ends only its own step."""

        def lost(self) -> None:
            """Forget everything that the steps made: the connection has gone."""


STEP_S = 0.02
GREETING_NS = 2_000_000_000  # ubusd must greet within this time
RETRY_NS = 100_000_000  # the first pause after a connection has ended; each further pause is twice as long
RETRY_MAX_NS = 5_000_000_000


class Connection:
    """Keeps `bus` connected and its parts on the bus. `path` is ubusd's socket; None: the usual one.

    Raises OSError when there is no libubus.
    """

    def __init__(self, loop: Loop, log: Logger, path: str | None) -> None:
        self.bus = Ubus(path, timeout=STEP_S)
        self.parts: list[Part] = []
        self.counters: dict[str, int] = {}
        self._loop = loop
        self._log = log
        self._path = path
        self._retry = RETRY_NS
        self._probe: socket.socket | None = None
        self._steps: list[Step] = []
        self.bus.on_end = self._ended

    def start(self) -> None:
        """Begin to look for ubusd."""
        self._try(self._loop.now())

    def stop(self) -> None:
        """Leave the bus for good."""
        self._loop.call_at("ubus", None)
        self._drop_probe()
        self.parts = []
        self.bus.disconnect()
        self._loop.call_at("ubus", None)

    def attempt(self, action: Callable[[], object]) -> bool:
        """Do `action`, which fails when ubusd has gone or is behind; return whether it succeeded."""
        if not self.bus.connected:
            return False
        try:
            action()
        except Exception as error:  # noqa: BLE001 - also exceptions of handlers that ran meanwhile
            self._failed(error)
            return False
        return True

    def count(self, counter: str) -> None:
        """Add one to a counter."""
        self.counters[counter] = self.counters.get(counter, 0) + 1

    # Looking for ubusd

    def _try(self, now: int) -> None:
        path = self._path or socket_path()
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            probe.connect(path)
        except OSError:  # not there, nobody listens, or so many wait that it must be hanging
            probe.close()
            self._later(now)
            return
        self._probe = probe
        self._loop.add_reader(probe.fileno(), self._greeted)
        self._loop.call_at("ubus", now + GREETING_NS, self._silent)

    def _later(self, now: int) -> None:
        self._loop.call_at("ubus", now + self._retry, self._try)
        self._retry = min(2 * self._retry, RETRY_MAX_NS)

    def _silent(self, now: int) -> None:
        self._log.limited("ubus silent", "warning", "ubus: ubusd does not answer")
        self._drop_probe()
        self._later(now)

    def _greeted(self) -> None:
        assert self._probe is not None  # the probe called this
        try:
            alive = bool(self._probe.recv(64))
        except OSError:
            alive = False
        self._drop_probe()
        if not alive:
            self._later(self._loop.now())
            return
        try:
            self.bus.connect(greeted=True)
        except UbusError as error:
            self._log.limited(("ubus", str(error)), "warning", f"ubus: {error}")
            self._later(self._loop.now())
            return
        self._loop.add_reader(self.bus.fileno(), self._readable)
        self._steps = [step for part in self.parts for step in part.steps()]
        self._loop.call_at("ubus", self._loop.now(), self._step)

    def _drop_probe(self) -> None:
        if self._probe is not None:
            self._loop.remove_reader(self._probe.fileno())
            self._probe.close()
            self._probe = None

    # Connected

    def soon(self, step: Step) -> None:
        """Do a step in a turn of the loop of its own, because the step waits for ubusd."""
        if self.bus.connected:
            self._steps.append(step)
            self._loop.call_at("ubus", self._loop.now(), self._step)

    def _step(self, now: int) -> None:
        if not self._steps:
            return
        if self.attempt(self._steps.pop(0)):
            self._retry = RETRY_NS
        if self._steps:
            self._loop.call_at("ubus", now, self._step)

    def _readable(self) -> None:
        try:
            self.bus.handle()
        except Exception as error:  # noqa: BLE001 - a bug in a handler is not the end of the gateway
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.count("ubus_errors")
        expected = isinstance(error, UbusError | ValueError)
        level, text = ("warning", str(error)) if expected else ("error", repr(error))
        self._log.limited(("ubus", text), level, f"ubus: {text}")

    def _ended(self) -> None:
        """Look for ubusd again: the connection has ended."""
        self._loop.remove_reader(self.bus.fileno())
        self._steps.clear()
        if self.parts:
            self._log.info("ubus: ubusd has gone, waiting for it")
        for part in self.parts:
            part.lost()
        self._later(self._loop.now())
