# SPDX-License-Identifier: GPL-2.0-or-later
"""The inputs of a plan: every file that the planner opens, and the programs and modules that it runs."""

from __future__ import annotations

import os
import sys
from typing import Any

from tandem.plan import dnsmasq
from tandem.plan.kept import CODE, Signature, sign

# Files that the planner uses without opening them by Python: users, dnsmasq and its overlay.
_ASKED = ("/etc/passwd", "/etc/group", dnsmasq.PROGRAM, f"{dnsmasq.STATE}/")
_EVENTS = ("open", "os.listdir", "subprocess.Popen")
_LIBRARY = os.path.dirname(os.__file__)


class Inputs:
    """Takes note of what this process reads, from now on: an audit hook cannot be removed."""

    def __init__(self) -> None:
        self._found: dict[str, Signature | None] = {}
        self._signing = False
        sys.addaudithook(self._hear)

    def pairs(self) -> tuple[tuple[str, Signature | None], ...]:
        """Return path and signature of everything, and of the modules that were loaded."""
        self._signing = True
        for path in (*_ASKED, *_modules()):
            self._found.setdefault(path, sign(path))
        return tuple(self._found.items())

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or self._signing or not isinstance(arguments[0], str):
            return
        path = arguments[0]
        if path in self._found or not path.startswith("/") or path.startswith((_LIBRARY, "/proc/")):
            return
        if not path.endswith(CODE):  # modules are looked for at the end
            self._signing = True  # it opens the file itself
            self._found[path] = sign(path)  # before it is read: a change meanwhile is seen next time
            self._signing = False


def _modules() -> set[str]:
    """Return the files of Tandem's modules, and the directories of the libraries."""
    found = set()
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.startswith("tandem"):
            found.add(path)
        elif path and name.startswith("pyroute2"):
            found.add(os.path.dirname(path))
    return found
