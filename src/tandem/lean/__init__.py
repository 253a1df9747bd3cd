# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the standard library that the resident daemon uses, in a fraction of the memory.

The daemon imports this package before everything else. The package puts small modules in the place of large
ones, under their names, and drops what nobody reads when modules are loaded (loading.py):

- `ctypes`, `dataclasses`, `enum`, `json`, `socket`: small modules of this package;
- `collections`, `heapq`, `signal`: their parts that are written in C; `collections.abc` is loaded anyway;
- `gettext`: nothing, because `getopt` works without it.

Together they save more than 3 MiB. Every other process of Tandem, and the tests, have the standard library's.
"""

from __future__ import annotations

import sys
from encodings.aliases import aliases

from tandem.lean import loading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def _take(name: str, part: ModuleType, **more: object) -> None:
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


def _take_over() -> None:
    import _collections  # type: ignore[import-not-found]
    import _collections_abc
    import _heapq
    import _signal  # type: ignore[import-not-found]
    import _socket

    from tandem.lean import dataclass, enumeration, json_codec, sockets

    if sys.version_info < (3, 14):  # from then on `_ctypes` is no use without the rest of `ctypes`
        from tandem.lean import clib

        _take("ctypes", clib)
    _take("dataclasses", dataclass)
    _take("enum", enumeration)
    _take("json", json_codec)
    _take("heapq", _heapq)
    _take("signal", _signal)
    _take("socket", _socket, socket=sockets.Socket, socketpair=sockets.socketpair)
    _take("collections", _collections, abc=_collections_abc)
    sys.modules.setdefault("collections.abc", _collections_abc)
    sys.modules.setdefault("json.decoder", json_codec)  # the C scanner looks for its exception there
    sys.modules.setdefault("gettext", None)  # type: ignore[arg-type]


def _forget() -> None:
    """Empty two tables of the interpreter: other names of encodings, and the names of all its modules."""
    aliases.clear()
    sys.stdlib_module_names = frozenset()


if "dataclasses" not in sys.modules:
    if __doc__ is not None:  # a package's modules have lost all that already (strip.py): a start is faster
        loading.drop_unread()
    _take_over()
    _forget()
