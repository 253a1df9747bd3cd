# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclasses` for the resident daemon: the part of it that Tandem uses, in a fraction of its memory.

The standard library's brings `inspect` with it (1.4 MiB), and compiles half a dozen functions for every
class, another 0.6 MiB with all that is resident. Here only `__init__` is made for each class. The daemon
imports this module before anything that imports dataclasses, and it takes their name; every other process
of Tandem, and the tests, have the real ones, which also enforce `frozen`: here it only makes hashable.
"""

from __future__ import annotations

import sys
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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
    """As dataclasses.field."""
    return Field(default, default_factory, repr, compare)


def dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], type]:
    """As dataclasses.dataclass, for classes with slots and without bases."""
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
    """As dataclasses.fields."""
    found: tuple[Field, ...] = of.__dataclass_fields__
    return found


def is_dataclass(of: object) -> bool:
    """As dataclasses.is_dataclass."""
    return hasattr(of, "__dataclass_fields__")


def replace(of: Any, /, **changes: Any) -> Any:
    """As dataclasses.replace."""
    return type(of)(**{item.name: getattr(of, item.name) for item in fields(of)} | changes)


_UNWANTED = ("__dict__", "__weakref__")  # of a class without slots


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


if "dataclasses" not in sys.modules:
    sys.modules["dataclasses"] = sys.modules[__name__]
    sys.modules["gettext"] = None  # type: ignore[assignment]  # getopt does without it, and it brings `re`
    from tandem import lean_json

    lean_json.take_over()
