# SPDX-License-Identifier: GPL-2.0-or-later
"""The asking side of the control socket: one question, one answer (see `server`)."""

from __future__ import annotations

import json
import socket
from typing import Any

MAX_RESPONSE = 16 << 20  # bytes; 255 instances make about 0.3 MB


class ControlError(Exception):
    """There is no usable answer; the text is a sentence for people."""


class NoDaemonError(ControlError):
    """Nobody listens at the socket."""


class DeniedError(ControlError):
    """The user may not use the socket."""


class RefusedError(ControlError):
    """The daemon refused the request; `problems` are the errors in its configuration."""

    def __init__(self, sentence: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.problems = problems


def ask(path: str, command: str, *, timeout_s: float = 5.0, **arguments: str | None) -> Any:
    """Return the daemon's result of a command; `path` is its socket. Arguments that are None are left out.

    Raises ControlError; `timeout_s` is how long the daemon may be silent.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    request = {"command": command, **given}
    try:
        line = _exchange(path, json.dumps(request).encode() + b"\n", timeout_s)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemonError(f"no daemon answers at {path}: is tandemd running?") from None
    except PermissionError:
        raise DeniedError(f"only root may use {path}: permission denied") from None
    except (TimeoutError, BlockingIOError):  # BlockingIOError: the socket's queue is full
        raise ControlError(f"the daemon at {path} did not answer in {timeout_s:g} s") from None
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from None
    if not line:
        raise ControlError(f"the daemon at {path} closed the connection without an answer")
    try:
        response = json.loads(line)
        if response["ok"] is True:
            return response.get("result")
        sentence, problems = str(response["error"]), tuple(map(str, response.get("errors", ())))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ControlError(f"{path}: the answer is not understood, is this tandemd's socket?") from None
    raise RefusedError(sentence, problems)


def _exchange(path: str, request: bytes, timeout_s: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(path)
        try:
            sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon hung up at once, but may have sent a reason
        try:
            with sock.makefile("rb") as stream:
                return stream.readline(MAX_RESPONSE)
        except ConnectionResetError:
            return b""
