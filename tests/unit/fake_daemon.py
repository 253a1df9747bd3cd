# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon played by a thread, for the command line."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from tests.unit.status_snapshot import STATUS

DEADLINE_S = 10.0


class FakeDaemon:
    """Answers every request on a socket with what `answers` holds for its command."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: dict[str, Any] = {
            "status": STATUS,
            "history": {"transitions": STATUS["history"]},
            "version": {"version": "0.1.0"},
        }
        self.raw: bytes | None = None
        self.requests: list[dict[str, Any]] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as lines:
                request = json.loads(lines.readline())
                self.requests.append(request)
                answer = self.answers[request["command"]]
                response = (
                    answer if isinstance(answer, dict) and "ok" in answer else {"ok": True, "result": answer}
                )
                sock.sendall(json.dumps(response).encode() + b"\n" if self.raw is None else self.raw)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.thread.join(DEADLINE_S)
        os.unlink(self.path)
