# SPDX-License-Identifier: GPL-2.0-or-later
"""A real ubusd of our own, with its command line tool, and connections to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tandem.openwrt.ubus import Ubus, UbusError
from tests.lab import wait_until
from tests.openwrt_pieces import USR

LIBUBUS = str(USR / "lib/libubus.so")


class Ubusd:
    """ubusd on a socket in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "ubus.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self._open: list[Ubus] = []

    def start(self) -> None:
        """Start it and wait until it greets."""
        Path(self.socket).unlink(missing_ok=True)
        self.process = subprocess.Popen([str(USR / "sbin/ubusd"), "-s", self.socket])
        wait_until(self._alive, 10, "ubusd listens")

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        """Stop the process, so that it hangs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Let the process go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def connect(self, **options: Any) -> Ubus:
        """A connection, closed at the end of the test."""
        bus = Ubus(self.socket, library=LIBUBUS, **options)
        bus.connect()
        self._open.append(bus)
        return bus

    def cli(self, *words: str, check: bool = True) -> str:
        """Return the output of `ubus`; CalledProcessError when it fails."""
        argv = [str(USR / "bin/ubus"), "-s", self.socket, *words]
        return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=60).stdout

    def cli_start(self, *words: str) -> subprocess.Popen[str]:
        """`ubus` in the background, for a call of an object that this very process serves."""
        argv = [str(USR / "bin/ubus"), "-s", self.socket, *words]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def call(self, path: str, method: str, **arguments: Any) -> Any:
        """A call by the command line; its reply. CalledProcessError when it is refused."""
        return json.loads(self.cli("call", path, method, json.dumps(arguments)) or "null")

    def close(self) -> None:
        """Close the connections and end ubusd."""
        for bus in self._open:
            bus.disconnect()
        self.kill()

    def _alive(self) -> bool:
        probe = Ubus(self.socket, library=LIBUBUS)
        try:
            probe.connect()
        except UbusError:
            return False
        probe.disconnect()
        return True


class FakeNetifd:
    """A process that stands in for netifd, see fake_netifd.py."""

    def __init__(self, ubusd: Ubusd) -> None:
        self.ubusd = ubusd
        self.process: subprocess.Popen[bytes] | None = None
        self.networks: dict[str, Any] = {}  # its configuration

    def start(self) -> None:
        """Start it with its networks and wait until it is on the bus."""
        networks = json.dumps(self.networks)
        argv = [sys.executable, "-m", "tests.openwrt.fake_netifd", self.ubusd.socket, networks]
        self.process = subprocess.Popen(argv, cwd=Path(__file__).resolve().parents[2])
        wait_until(lambda: "fake" in self.ubusd.cli("list").split(), 20, "the fake netifd is there")

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def set(self, network: str, device: str | None, *, up: bool = True) -> None:
        """Make a network, or change it."""
        status = {"up": up, "proto": "static"}
        if device is not None:
            status |= {"device": device, **({"l3_device": device} if up else {})}
        self.networks[network] = status
        self.ubusd.call("fake", "set", interface=network, status=status)

    def delete(self, network: str) -> None:
        """Remove a network from the configuration."""
        del self.networks[network]
        self.ubusd.call("fake", "delete", interface=network)


class RawClient:
    """Speaks ubusd's protocol by itself (ubusmsg.h), to send what libubus would not."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(path)
        self.sock.recv(65536)  # hello

    def invoke(self, object_id: int, method: str, data: bytes) -> None:
        """A call whose answer nobody waits for."""
        attributes = b"".join(
            struct.pack(">I", kind << 24 | 4 + len(value)) + value + bytes(-len(value) % 4)
            for kind, value in ((3, struct.pack(">I", object_id)), (4, method.encode() + b"\0"), (7, data))
        )
        header = struct.pack(">BBHI", 0, 5, 1, object_id)
        self.sock.sendall(header + struct.pack(">I", 4 + len(attributes)) + attributes)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
