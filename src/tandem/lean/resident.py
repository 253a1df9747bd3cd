# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of the standard library that the resident daemon uses, in a fraction of the memory.

The daemon, the gate, the prober and the witness import this module before everything else. It puts small
modules in the place of large ones, and drops what nobody reads when modules are loaded (loading.py):

- `ctypes`, `dataclasses`, `enum`, `json`, `socket`: small modules of this package;
- `collections`, `heapq`, `signal`: their parts that are written in C; `collections.abc` is loaded anyway;
- `gettext`: nothing, because `getopt` works without it.

Together they save more than 3 MiB.
"""

from __future__ import annotations

import sys
from encodings.aliases import aliases

from tandem.lean import loading, take


def _take_over() -> None:
    import _collections  # type: ignore[import-not-found]
    import _collections_abc
    import _heapq
    import _signal  # type: ignore[import-not-found]
    import _socket

    from tandem.lean import dataclass, enumeration, json_codec, sockets

    if sys.version_info < (3, 14):  # from then on `_ctypes` is no use without the rest of `ctypes`
        from tandem.lean import clib

        take("ctypes", clib)
    take("dataclasses", dataclass)
    take("enum", enumeration)
    take("json", json_codec)
    take("heapq", _heapq)
    take("signal", _signal)
    take("socket", _socket, socket=sockets.Socket, socketpair=sockets.socketpair)
    take("collections", _collections, abc=_collections_abc)
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
