# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclasses` for the resident daemon: the part that Tandem uses, in a fraction of the memory.

The standard library's module imports `inspect` (1.4 MiB), and compiles half a dozen functions for every
class, another 0.6 MiB in the daemon. This module makes only `__init__` for each class. The daemon imports it
first, under the name `dataclasses`. Every other process of Tandem, and the tests, have the standard library's
module, which also enforces `frozen`: here `frozen` only makes objects hashable.
"""

from __future__ import annotations

import sys
from operator import attrgetter, is_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any

_MISSING: Any = object()


class Field:
    """One field of a class; `name` is given by `dataclass`."""

    __slots__ = ("compare", "default", "default_factory", "name", "repr")

    def __init__(self, default: Any, default_factory: Any, repr: bool, compare: bool = True) -> None:
        self.name = ""
        self.default = default
        self.default_factory = default_factory
        self.repr = repr
        self.compare = compare


def field(
    *, default: Any = _MISSING, default_factory: Any = _MISSING, repr: bool = True, compare: bool = True
) -> Any:
    """Like dataclasses.field."""
    return Field(default, default_factory, repr, compare)


def dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], type]:
    """Like dataclasses.dataclass, for classes with slots and without bases."""
    assert slots

    def decorate(cls: type) -> type:
        found = tuple(_field(cls, name) for name in cls.__annotations__)
        names = tuple(item.name for item in found)
        compared = [item.name for item in found if item.compare]
        members = {name: value for name, value in vars(cls).items() if name not in (*names, *_UNWANTED)}
        members |= {
            "__slots__": names,
            "__match_args__": names,
            "__dataclass_fields__": found,
            "_key": attrgetter(*compared) if compared else type,
            "__init__": _init(found, "__post_init__" in members),
            "__repr__": _repr,
            "__eq__": _eq,
            "__hash__": _hash if frozen else None,
        }
        return type(cls.__name__, cls.__bases__, members)

    return decorate


def fields(of: Any) -> tuple[Field, ...]:
    """Like dataclasses.fields."""
    found: tuple[Field, ...] = of.__dataclass_fields__
    return found


def is_dataclass(of: object) -> bool:
    """Like dataclasses.is_dataclass."""
    return hasattr(of, "__dataclass_fields__")


def replace(of: Any, /, **changes: Any) -> Any:
    """Like dataclasses.replace."""
    return type(of)(**{item.name: getattr(of, item.name) for item in fields(of)} | changes)


_FUNCTION = 2  # CO_NEWLOCALS, Include/cpython/code.h
_HAS_DOCSTRING = 0x4000000  # CO_HAS_DOCSTRING, since Python 3.14
_UNWANTED = ("__dict__", "__weakref__")  # in a class without slots


def _field(cls: type, name: str) -> Field:
    value = getattr(cls, name, _MISSING)
    item = value if isinstance(value, Field) else Field(value, _MISSING, repr=True)
    item.name = name
    return item


def _init(found: tuple[Field, ...], post: bool) -> Callable[..., None]:
    known: dict[str, Any] = {"MISSING": _MISSING}
    parameters, body = ["self"], []
    for item in found:
        name = item.name
        parameter = value = name
        if item.default_factory is not _MISSING:
            known[f"new_{name}"] = item.default_factory
            parameter, value = f"{name}=MISSING", f"new_{name}() if {name} is MISSING else {name}"
        elif item.default is not _MISSING:
            known[f"default_{name}"] = item.default
            parameter = f"{name}=default_{name}"
        parameters.append(parameter)
        body.append(f"self.{name}={value}")
    if post:
        body.append("self.__post_init__()")
    made: dict[str, Callable[..., None]] = {}
    exec(f"def __init__({','.join(parameters)}): {';'.join(body) or 'pass'}", known, made)  # noqa: S102
    return made["__init__"]


def _repr(self: Any) -> str:
    shown = ", ".join(f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    return self._key(self) == other._key(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._key(self))


def _undocumented(code: CodeType) -> CodeType:
    """Return `code` without the docstrings in it, which are 0.4 MiB of the daemon.

    A module's or function's docstring is its first constant; a class's is the first text after its name.
    """
    kind, known = type(code), code.co_consts
    constants = [_undocumented(one) if type(one) is kind else one for one in known]
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
    elif flags == code.co_flags and all(map(is_, constants, known)):
        return code  # most functions of a package have none, and a copy takes as long as to read the file
    return code.replace(co_consts=tuple(constants), co_flags=flags)


def _take_docstrings() -> None:
    """Drop docstrings when modules are loaded, as -OO does; but -OO needs bytecode files of its own."""
    import _frozen_importlib_external

    loaders: Any = _frozen_importlib_external
    # The method is no API: without it the daemon is only larger.
    load = getattr(loaders, "_compile_bytecode", None)
    if load is not None:
        loaders._compile_bytecode = lambda *data, **names: _undocumented(load(*data, **names))


def _spare_selectors() -> None:
    """Import `socket` without `selectors` and its `math`: only socket.sendfile() uses `selectors`."""
    sys.modules["selectors"] = type(sys)("selectors")
    import socket  # noqa: F401

    del sys.modules["selectors"]


if "dataclasses" not in sys.modules:
    sys.modules["dataclasses"] = sys.modules[__name__]
    sys.modules["gettext"] = None  # type: ignore[assignment]  # getopt works without gettext, which imports `re`
    _take_docstrings()
    if "selectors" not in sys.modules:
        _spare_selectors()
    from tandem import lean_json

    lean_json.take_over()
