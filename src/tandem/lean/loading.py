# SPDX-License-Identifier: GPL-2.0-or-later
"""Drop what nobody reads in the daemon when modules are loaded: docstrings and annotations, 0.6 MiB.

-OO drops docstrings too, but needs bytecode files of its own.
"""

from __future__ import annotations

import sys
from _operator import is_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

_FUNCTION = 2  # CO_NEWLOCALS, Include/cpython/code.h
_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.14


def drop_unread() -> None:
    """From now on modules are loaded without docstrings and annotations."""
    import _frozen_importlib_external

    loaders: Any = _frozen_importlib_external
    # The method is no API: without it the daemon is only larger.
    load = getattr(loaders, "_compile_bytecode", None)
    if load is not None:
        loaders._compile_bytecode = lambda *data, **names: _smaller(load(*data, **names))


def _smaller(code: CodeType) -> CodeType:
    """Return `code` without docstrings and without the annotations of functions.

    A module's or function's docstring is its first constant; a class's is the first text after its name. The
    annotations of a function are one tuple of names and texts; all functions of Tandem end with "return".
    Python 3.14 has a function that makes them, which stays.
    """
    kind, known = type(code), code.co_consts
    constants: list[Any] = [_smaller(one) if type(one) is kind else one for one in known]
    flags, place = code.co_flags, 0
    if flags & _FUNCTION:
        documented = not code.co_name.startswith("<")  # comprehensions have no docstring
        if sys.version_info >= (3, 14):
            documented, flags = bool(flags & _HAS_DOCSTRING), flags & ~_HAS_DOCSTRING
    else:
        documented = "__doc__" in code.co_names
        if code.co_name != "<module>":
            texts = [number for number, one in enumerate(constants) if isinstance(one, str)]
            place = texts[1] if len(texts) > 1 else 0
            documented = documented and place > 0
    if documented and constants and isinstance(constants[place], str):
        constants[place] = None
    for number, one in enumerate(constants):
        if isinstance(one, tuple) and one[-2:-1] == ("return",) and not len(one) % 2:
            constants[number] = ()
    if flags == code.co_flags and all(map(is_, constants, known)):
        return code  # a copy takes as long as to read the file
    return code.replace(co_consts=tuple(constants), co_flags=flags)
