# SPDX-License-Identifier: GPL-2.0-or-later
"""The methods of `tandem.commands`, a plugin of rpcd: commands of Tandem for LuCI, also where no daemon runs.

rpcd starts /usr/libexec/rpcd/tandem.commands for each call. The arguments come as JSON on the standard input,
the result goes as JSON to the standard output. rpcd's ACL files, which the table of commands makes, say which
session may call what. A call that fails has "error" in its result, a sentence for people.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from importlib import import_module
from typing import Any

from tandem.control.client import ControlError
from tandem.rpcd.request import Files, Request, RequestError

LARGEST = 256 << 10  # bytes of the arguments; a configuration may be large
MOST_AT_ONCE = 4  # calls; each is a process with a Python of its own

# The module and the function of each method: no call loads the modules of another one.
METHODS = {
    "check": "methods:check",
    "conntrack_list": "methods:conntrack_list",
    "doctor": "methods:doctor",
    "log": "methods:log",
    "setup_networks": "setup:networks",
    "setup_draft": "setup:draft",
    "setup_write": "setup:write",
    "setup_join": "setup:join",
}


def main(method: str, files: Files | None = None) -> int:
    """Answer one call; return the exit status, 0 also for a call that fails."""
    files = files or Files()
    text = sys.stdin.buffer.read(LARGEST + 1)
    json.dump(answer(method, text, files), sys.stdout, separators=(",", ":"))
    sys.stdout.flush()
    return 0


def answer(method: str, text: bytes, files: Files) -> dict[str, Any]:
    """Return the result of a method; `text` are its arguments."""
    place = -1
    try:
        place = _place(files.state)
        if method not in METHODS:
            raise RequestError(f"there is no method {method[:40]!a}")
        if len(text) > LARGEST:
            raise RequestError(f"the arguments are longer than {LARGEST} bytes")
        values = _values(text)
        module, _, name = METHODS[method].partition(":")
        found: dict[str, Any] = getattr(import_module(f"tandem.rpcd.{module}"), name)(Request(values, files))
        return found
    except (RequestError, ControlError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")}
    finally:
        if place >= 0:
            os.close(place)


def _place(state: str) -> int:
    """Return the lock of one of the few calls at once. RequestError: all are at work."""
    os.makedirs(state, 0o700, exist_ok=True)
    for number in range(MOST_AT_ONCE):
        lock = os.open(f"{state}/rpcd-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return lock
    raise RequestError(f"Tandem already works on {MOST_AT_ONCE} calls: try again")


def _values(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise RequestError("the arguments are one object in JSON")
    return values
