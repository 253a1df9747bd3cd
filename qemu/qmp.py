# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's machine protocol: one command at a time over a Unix socket (docs/interop/qmp-spec of QEMU)."""

from __future__ import annotations

import json
import socket
from typing import Any

_TIMEOUT = 20.0  # s


class QmpError(RuntimeError):
    """QEMU refused a command, or is gone."""


class Qmp:
    """The control connection of one machine."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(_TIMEOUT)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()  # the greeting
        self.command("qmp_capabilities")

    def command(self, execute: str, /, **arguments: Any) -> Any:
        """Run a command and return its result; events in between are passed over."""
        self._socket.sendall(json.dumps({"execute": execute, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise QmpError(f"{execute}: QEMU ended")
            answer = json.loads(line)
            if "error" in answer:
                raise QmpError(f"{execute}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()
