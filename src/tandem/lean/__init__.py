# SPDX-License-Identifier: GPL-2.0-or-later
"""Small modules that stand in the place of large ones of the standard library, under their names.

The resident processes have all of them (resident.py). The planner has only `dataclasses` (plan/start.py),
with which it takes three quarters of the time. The command line and the tests have the standard library's.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def take(name: str, part: ModuleType, **more: object) -> None:
    """Give `name` to a part of a module and `more`; any other member loads the original, with its memory."""
    if name in sys.modules:
        return

    def member(wanted: str) -> Any:
        if wanted.startswith("__"):
            raise AttributeError(wanted)
        if sys.modules[name] is module:
            del sys.modules[name]
            vars(__import__(name)).update({**more, **vars(sys.modules[name])})
        return getattr(sys.modules[name], wanted)

    module = type(sys)(name)
    vars(module).update(vars(part), **more, __getattr__=member)
    sys.modules[name] = module


def give_back(name: str) -> ModuleType | None:
    """Let the next import of `name` load the original; return what stood in its place, or None."""
    part = sys.modules.get(name)
    if part is None or part.__name__ == name:
        return None
    del sys.modules[name]
    return part
