# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture in a namespace, and let tshark judge every packet."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from . import netns
from .lab import Lab
from .wait import wait_until

# The dissectors' own checks that are off by default.
_CHECKS = ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE")

_MARKER = 0x88B5  # EtherType for local experiments (IEEE 802)


class Capture:
    """dumpcap on one interface until the block ends; then `packets` and `complaints` read the file.

    dumpcap ends a file cleanly on SIGINT. In a switch, watch the bridge ("lan") or one cable ("r1.lan").
    """

    def __init__(self, lab: Lab, device: str, *, namespace: str | None = None, filter: str = "") -> None:
        self._namespace = namespace or lab.switch_namespace
        self._device = device
        self._filter = filter
        self.path = Path(lab.directory / f"{self._namespace}.{device}.pcapng")
        self._log = self.path.with_suffix(".dumpcap")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Capture:
        argv = ["dumpcap", "-q", "-n", "-i", self._device, "-w", str(self.path)]
        argv += ["-f", f"({self._filter}) or ether proto {_MARKER}"] if self._filter else []
        with self._log.open("wb") as log:
            command = ["ip", "netns", "exec", self._namespace, *argv]
            self._process = subprocess.Popen(command, stderr=log, stdout=log, start_new_session=True)
        # dumpcap names the file once its socket is open and bound.
        wait_until(lambda: b"File: " in self._log.read_bytes(), 10, "dumpcap", explain=self._log.read_text)
        if self._filter:
            self._hears()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        if kind is None:
            self._hears()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)

    def _hears(self) -> None:
        """Wait until a frame of our own is in the file, and so all that came before it.

        libpcap lets frames go while it puts a filter in place, and dumpcap what it has not read at its end.
        """
        token = os.urandom(48)
        frame = bytes(12) + _MARKER.to_bytes(2, "big") + token

        def seen() -> bool:
            netns.enter(self._namespace, lambda: self._transmit(frame))
            return self.path.exists() and token in self.path.read_bytes()

        wait_until(seen, 10, "dumpcap hears a frame", every=0.1, explain=self._log.read_text)

    def _transmit(self, frame: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((self._device, 0))
            sock.send(frame)

    def fields(self, filter: str, *names: str) -> list[list[str]]:
        """The fields of all packets that match a display filter, as text."""
        argv = [item for name in names for item in ("-e", name)]
        text = self._tshark("-Y", filter, "-T", "fields", *argv)
        return [line.split("\t") for line in text.splitlines()]

    def count(self, filter: str) -> int:
        """How many packets match a display filter."""
        return len(self.fields(filter, "frame.number"))

    def complaints(self) -> list[str]:
        """Every packet that tshark finds malformed, in error, or with a bad checksum."""
        # vrrp.checksum.status 0 is "bad"; expert severity 8388608 is error, 6291456 warning.
        # Two MACs for one address are what a failover looks like.
        bad = "_ws.malformed || (_ws.expert.severity >= 6291456 && !arp.duplicate-address-detected)"
        bad += " || vrrp.checksum.status == 0 || ip.checksum.status == 0 || icmpv6.checksum.status == 0"
        return self._tshark("-Y", bad, "-O", "vrrp,arp,icmpv6").splitlines()

    def assert_clean(self, at_least: int = 1, filter: str = "vrrp") -> None:
        """No complaint, and at least so many packets of the filter (an empty capture proves nothing)."""
        complaints = self.complaints()
        assert not complaints, "tshark complains:\n" + "\n".join(complaints[:60])
        seen = self.count(filter)
        assert seen >= at_least, f"{seen} packets match {filter!r}, expected {at_least} or more"

    def _tshark(self, *arguments: str) -> str:
        options = [item for check in _CHECKS for item in ("-o", check)]
        return netns.run(["tshark", "-n", "-r", str(self.path), *options, *arguments])
