# SPDX-License-Identifier: GPL-2.0-or-later
"""`rtnl`: the rtnetlink messages of pyroute2, without the rest of pyroute2.

`import pyroute2` loads all of it, which takes longer than everything else that the planner does. The messages
need few of its modules, and these are loaded while an empty module stands for the package. The whole package
is loaded where a release does not work like that.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Any

from tandem import lean

_PACKAGE = "pyroute2"
_RTNL = f"{_PACKAGE}.netlink.rtnl"
_MESSAGES = "fibmsg", "ifaddrmsg", "ifinfmsg", "rtmsg"


def _load() -> Any:
    for name in _MESSAGES:
        import_module(f"{_RTNL}.{name}")
    return sys.modules[_RTNL]


def _load_part() -> Any:
    """Return the module with the messages. ImportError: there is no usable pyroute2."""
    spec = PathFinder.find_spec(_PACKAGE)
    if spec is None or _PACKAGE in sys.modules:
        return _load()
    stand_in = sys.modules[_PACKAGE] = module_from_spec(spec)  # it is not executed
    try:
        return _load()
    except (ImportError, AttributeError, TypeError):
        for name in [name for name in sys.modules if name.startswith(_PACKAGE)]:
            del sys.modules[name]
        small = lean.give_back("dataclasses")  # the planner's, see start.py; all of Tandem keeps to it
        try:
            return _load()
        finally:
            if small is not None:
                sys.modules["dataclasses"] = small
    finally:
        if sys.modules.get(_PACKAGE) is stand_in:
            del sys.modules[_PACKAGE]  # who imports the package gets all of it


rtnl: Any = _load_part()
