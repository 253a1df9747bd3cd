# SPDX-License-Identifier: GPL-2.0-or-later
"""The client behind the routers: its pings count an outage, its downloads must not break."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.lab import FAR, Download, Outage, Pings, Service, wait_until

from .router import Pair, RouterMachine

DOWNLOADS = 5
# An emulated router takes long for a packet.
_PING_US = 10_000
_ON_THE_WAY = 0.5  # s
_BYTES = "500"  # in 10 ms
_MOVED = 50_000  # bytes


class Traffic:
    """A client's pings and downloads."""

    def __init__(self, lab: Pair, downloads: int) -> None:
        self.services = [Service(lab.server, "echo", FAR, "7"), Service(lab.server, "source", "80", _BYTES)]
        self.pings = Pings(lab.client, FAR, interval_us=_PING_US)
        self.pings.flowing(timeout=60)
        self.downloads = [Download(lab.client, FAR) for _ in range(downloads)]
        self.go_on()

    def go_on(self, timeout: float = 60.0) -> None:
        """Wait until every download has got new data; fails at once when one has broken."""
        marks = [item.bytes + _MOVED for item in self.downloads]

        def moved() -> bool:
            broken = self.broken()
            if broken:
                raise RuntimeError(f"{len(broken)} of {len(marks)} downloads broke: {broken}")
            return all(item.bytes >= mark for item, mark in zip(self.downloads, marks, strict=True))

        wait_until(moved, timeout, "every download goes on", explain=self.progress)

    def broken(self) -> list[str]:
        """Return the errors of the downloads that have ended."""
        return [item.error for item in self.downloads if item.error]

    def progress(self) -> str:
        """Return the bytes that each download has had so far."""
        return str([item.bytes for item in self.downloads])

    def outage_since(self, start: float, timeout: float = 60.0) -> Outage:
        """As Pings.outage_since; the last datagram before it may have been on its way for a while."""
        return self.pings.outage_since(start - _ON_THE_WAY, timeout)

    def stop(self) -> None:
        """End all programs."""
        for item in (*self.downloads, self.pings, *self.services):
            item.stop()


@contextmanager
def traffic(lab: Pair, downloads: int = DOWNLOADS) -> Iterator[Traffic]:
    """Traffic that ends with the block."""
    made = Traffic(lab, downloads)
    try:
        yield made
    finally:
        made.stop()


def fill(lab: Pair, router: RouterMachine, count: int, timeout: float = 300.0) -> None:
    """Make so many connections through the active router: a datagram to as many ports, without an answer."""
    with lab.client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("", 5000))
        sent = 0

        def known() -> bool:
            nonlocal sent
            # Packets that an emulated router drops are sent again by this loop.
            for port in range(sent, sent + 500):
                with suppress(OSError):
                    sock.sendto(b"", (FAR, 10_000 + port % count))
            sent += 500
            return router.entries() >= count

        wait_until(known, timeout, f"{count} connections", every=0.05)


def told(lab: Pair, router: RouterMachine, timeout: float = 180.0) -> None:
    """Wait until the peer of the active router has acknowledged all that it was told."""

    def acked() -> bool:
        channel = router.status("conntrack")["channel"]
        return bool(channel["peers"][0].get("acked", 0) >= channel["position"])

    lab.in_step(timeout)
    wait_until(acked, timeout, "the other has all", every=0.5)
