# SPDX-License-Identifier: GPL-2.0-or-later
"""The methods of `tandem.commands`, a plugin of rpcd: commands of Tandem for LuCI, also where no daemon runs.

rpcd starts /usr/libexec/rpcd/tandem.commands for each call. The arguments come as JSON on the standard input,
the result goes as JSON to the standard output. Which session may call what says the table of commands, by
rpcd's ACL files. A call that fails has "error" in its result, a sentence for people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tandem.control.client import ControlError
from tandem.rpcd import methods, setup
from tandem.rpcd.request import Files, Request, RequestError

LARGEST = 256 << 10  # bytes of the arguments; a configuration may be large

METHODS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "options": methods.options,
    "check": methods.check,
    "conntrack_list": methods.conntrack_list,
    "doctor": methods.doctor,
    "log": methods.log,
    "setup_networks": setup.networks,
    "setup_draft": setup.draft,
    "setup_write": setup.write,
    "setup_join": setup.join,
}


def main(method: str, files: Files | None = None) -> int:
    """Answer one call; return the exit status, 0 also for a call that fails."""
    text = sys.stdin.buffer.read(LARGEST + 1)
    json.dump(answer(method, text, files or Files()), sys.stdout, separators=(",", ":"))
    sys.stdout.flush()
    return 0


def answer(method: str, text: bytes, files: Files) -> dict[str, Any]:
    """Return the result of a method; `text` are its arguments."""
    try:
        if method not in METHODS:
            raise RequestError(f"there is no method {method[:40]!a}")
        if len(text) > LARGEST:
            raise RequestError(f"the arguments are longer than {LARGEST} bytes")
        return METHODS[method](Request(_values(text), files))
    except (RequestError, ControlError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")}


def _values(text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise RequestError("the arguments are one object in JSON")
    return values
