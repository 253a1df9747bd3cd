# SPDX-License-Identifier: GPL-2.0-or-later
"""The prober: a process that makes the checks of the configuration, and tells the daemon their states.

It is a process of its own so that nothing that a check does, such as a look at a file on a disk that hangs,
can stop the daemon, and so that TLS is in no daemon's memory. It lives while there is something to check.

The daemon is at the other end of a SOCK_SEQPACKET socket. Each message is a tuple, in marshal's format:

    to the prober   ("want", ((key, settings, up), ...)): make these checks too, from this state on;
                    ("end", (key, ...)): and these no more
    to the daemon   (figures, ...): of a check whose state has changed, at once, and of all that were tried
                    since, every BEAT; an empty tuple is a sign of life. FIGURES names their members

When the socket has no room, the figures are sent with the next beat.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys

from tandem.config.schema import from_plain
from tandem.core.rise_fall import RiseFall
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.process import Processes
from tandem.health.arp import Arp
from tandem.health.dns import Query
from tandem.health.http import Request
from tandem.health.local import Look, Running, look_at_file
from tandem.health.ping import Ping
from tandem.health.probe import Probe
from tandem.health.script import Command
from tandem.health.tcp import Connection
from tandem.log import Logger
from tandem.loop import Loop
from tandem.programs import credentials_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tandem.config.schema import Check
    from tandem.health.probe import Attempt

    Key = tuple[str, ...]
    Figures = tuple[Any, ...]

BEAT = SECOND
MESSAGE_MAX = 1 << 16  # bytes
FIGURES_A_MESSAGE = 64
SCRIPTS_MAX = 64  # at one time
FIGURES = ("key", "up", "text", "successes", "failures", "timeouts", "skipped", "took_ns")


class Silent:
    """A sink for a log that nobody reads: the daemon logs what it is told."""

    def write(self, _level: str, _line: str) -> bool:
        """Drop one line."""
        return True


class Prober:
    """The checks that are made now."""

    def __init__(self, daemon: socket.socket, loop: Loop) -> None:
        self._daemon = daemon
        self._loop = loop
        self._log = Logger("error", Silent())
        self._probes: dict[Key, Probe] = {}
        self._told: dict[Key, Figures] = {}
        self._running = Running(loop)
        self._processes = Processes(loop, self._log, SCRIPTS_MAX)
        loop.add_reader(daemon.fileno(), self._readable)
        self._beat(loop.now())

    def close(self) -> None:
        """End, and the scripts with it."""
        for probe in self._probes.values():
            probe.stop()
        self._processes.close()

    def _readable(self) -> None:
        try:
            message = self._daemon.recv(MESSAGE_MAX)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._loop.stop()
            return
        what, given = marshal.loads(message)
        if what == "want":
            for key, settings, up in given:
                self._end(key)
                self._begin(key, from_plain(settings), up)
        else:
            for key in given:
                self._end(key)

    def _begin(self, key: Key, check: Check, up: bool | None) -> None:
        self._probes[key] = probe = Probe(
            "check",
            check.name,
            check.interval_ms * MILLISECOND,
            self._attempt(check),
            RiseFall(check.rise, check.fall, up),
            self._loop,
            self._log,
            lambda _name, _up: self._tell({key: self._figures(key)}),
            check.delay_before_retry_ms * MILLISECOND,
        )
        probe.start()

    def _end(self, key: Key) -> None:
        if (probe := self._probes.pop(key, None)) is not None:
            probe.stop()
        self._told.pop(key, None)

    def _attempt(self, check: Check) -> Attempt:
        loop, timeout = self._loop, check.timeout_ms * MILLISECOND
        if check.kind in ("http", "https"):
            return Request(check, loop, timeout)
        if check.kind == "tcp":
            return Connection(loop, timeout, check.host, check.port, check.source, check.interface)
        if check.kind == "dns":
            return Query(check, loop, timeout)
        if check.kind == "ping":
            bounds = check.count, check.loss, check.latency_ms * MILLISECOND
            return Ping(loop, timeout, check.host, check.source, check.interface, *bounds)
        if check.kind == "arp":
            return Arp(loop, timeout, check.host, 0, check.source, check.interface)
        if check.kind == "process":
            return Look(loop, lambda: self._running.look(check.process))
        if check.kind == "file":
            return Look(loop, lambda: look_at_file(check.file, check.text))
        try:
            credentials = credentials_of(check.user, check.group)
        except KeyError as error:
            text = str(error.args[0])
            return Look(loop, lambda: (text, False))
        return Command(check.script, timeout, loop, self._processes, credentials, spawned=True)

    def _figures(self, key: Key) -> Figures:
        probe = self._probes[key]
        text = "" if probe.last is None else str(probe.last)
        counts = probe.successes, probe.failures, probe.timeouts, probe.skipped
        return (key, probe.up, text[:200], *counts, probe.took)

    def _beat(self, now: int) -> None:
        self._loop.call_at("beat", now + BEAT, self._beat)
        found = [(key, self._figures(key)) for key in self._probes]
        news = [(key, figures) for key, figures in found if figures != self._told.get(key)]
        for start in range(0, len(news) or 1, FIGURES_A_MESSAGE):
            self._tell(dict(news[start : start + FIGURES_A_MESSAGE]))

    def _tell(self, found: dict[Key, Figures]) -> None:
        try:
            self._daemon.send(marshal.dumps(tuple(found.values())))
        except BlockingIOError:
            return
        except OSError:
            self._loop.stop()  # the daemon is gone
            return
        self._told |= found


def main(argv: list[str]) -> int:
    """Make checks until the daemon is gone. The argument is the descriptor of the socket."""
    daemon = socket.socket(fileno=int(argv[0]))
    daemon.setblocking(False)
    os.set_inheritable(daemon.fileno(), False)
    os.umask(0o022)  # of the scripts
    os.chdir("/")
    loop = Loop()
    prober = Prober(daemon, loop)
    loop.run()
    prober.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
