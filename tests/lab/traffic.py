# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic through the lab as a user feels it: pings that count an outage, a download that may break."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lab import Host
from .wait import wait_until

_PROGRAM = str(Path(__file__).with_name("probe.py"))


@dataclass(frozen=True)
class Outage:
    """A run of datagrams without an answer. `start`: monotonic seconds; `ms` between the answered ones."""

    start: float
    ms: float
    lost: int


class _Program:
    """A probe.py inside a host; a thread reads its reports until it ends."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self._process = host.popen(sys.executable, "-I", "-S", _PROGRAM, *arguments, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.take(json.loads(line))

    def take(self, report: dict[str, Any]) -> None:
        """Handle one report."""

    def stop(self) -> None:
        """End the program and wait for it."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout
        self._process.stdout.close()


class Service(_Program):
    """The server's side: "echo" (UDP) or "source" (TCP)."""

    def __init__(self, host: Host, *arguments: str) -> None:
        self._ready = threading.Event()
        super().__init__(host, *arguments)
        if not self._ready.wait(10):
            raise RuntimeError(f"{host.name}: probe.py {' '.join(arguments)} does not start")

    def take(self, report: dict[str, Any]) -> None:
        self._ready.set()


class Pings(_Program):
    """UDP datagrams from a host to an echo service, one per `interval_us`."""

    def __init__(self, host: Host, address: str, port: int = 7, interval_us: int = 1000) -> None:
        self.interval_s = interval_us / 1e6
        self.now = 0.0  # of the last report
        self.sent = 0
        self.answered = 0
        self.until = 0.0  # when the newest answered datagram was sent
        self.outages: list[Outage] = []  # those that ended
        super().__init__(host, "ping", address, str(port), str(interval_us))

    def take(self, report: dict[str, Any]) -> None:
        if "outage" in report:
            outage = report["outage"]
            self.outages.append(Outage(outage["start"], outage["ms"], int(outage["lost"])))
        else:
            self.now, self.until = report["now"], report["until"]
            self.sent, self.answered = report["sent"], report["answered"]

    def flowing(self, seconds: float = 0.3, timeout: float = 15.0) -> None:
        """Wait until datagrams that are sent so many seconds from now are answered.

        By then every outage that ended earlier is reported (probe.py's LATE and TICK are shorter).
        """
        goal = time.monotonic() + seconds
        wait_until(lambda: self.until >= goal, timeout + seconds, "answers through the gateway")

    def outage_since(self, start: float, timeout: float = 15.0) -> Outage:
        """Wait until answers flow; the outages that began at `start` or later as one.

        `ms` of the longest, `lost` of all; Outage(start, 0, 0) when nothing was lost. The last datagram
        before an outage was sent up to one interval before its cause, hence the 10 ms.
        """
        self.flowing(timeout=timeout)
        found = [outage for outage in self.outages if outage.start >= start - 0.01]
        worst = max(found, key=lambda outage: outage.ms, default=Outage(start, 0.0, 0))
        return Outage(worst.start, worst.ms, sum(outage.lost for outage in found))


class Download(_Program):
    """A TCP connection on which only the server speaks."""

    def __init__(self, host: Host, address: str, port: int = 80) -> None:
        self.now = 0.0
        self.bytes = 0
        self.error: str | None = None
        super().__init__(host, "download", address, str(port))

    def take(self, report: dict[str, Any]) -> None:
        self.error = report.get("error")
        if self.error is None:
            self.now, self.bytes = report["now"], report["bytes"]
