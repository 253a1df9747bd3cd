# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclasses` for the resident daemon: the part that Tandem uses, in a fraction of the memory.

The standard library's module imports `inspect` (1.4 MiB), and compiles half a dozen functions for every
class, another 0.6 MiB in the daemon. This module makes only `__init__` for each class. The standard library's
module also enforces `frozen`: here `frozen` only makes objects hashable.
"""

from __future__ import annotations

from _operator import attrgetter

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
    """Like dataclasses.field."""
    return Field(default, default_factory, repr, compare)


def dataclass(*, slots: bool, frozen: bool = False) -> Callable[[type], type]:
    """Like dataclasses.dataclass, for classes with slots and without bases."""
    assert slots

    def decorate(cls: type) -> type:
        found = tuple(_field(cls, name) for name in cls.__annotations__)
        names = tuple(item.name for item in found)
        members = {name: value for name, value in vars(cls).items() if name not in (*names, *_UNWANTED)}
        members |= {
            "__slots__": names,
            "__match_args__": names,
            "_compared": _names(names, [item.name for item in found if item.compare]),
            "_shown": _names(names, [item.name for item in found if item.repr]),
            "_key": None,  # made when it is needed: most objects are never compared
            "__init__": _init(found, "__post_init__" in members),
            "__repr__": _repr,
            "__eq__": _eq,
            "__hash__": _hash if frozen else None,
        }
        return type(cls.__name__, cls.__bases__, members)

    return decorate


def fields(of: Any) -> tuple[Field, ...]:
    """Like dataclasses.fields."""
    found = tuple(Field(_MISSING, _MISSING, name in of._shown) for name in of.__match_args__)
    for item, name in zip(found, of.__match_args__, strict=True):
        item.name = name
    return found


def is_dataclass(of: object) -> bool:
    """Like dataclasses.is_dataclass."""
    return hasattr(of, "_compared")


def replace(of: Any, /, **changes: Any) -> Any:
    """Like dataclasses.replace."""
    return type(of)(**{name: getattr(of, name) for name in of.__match_args__} | changes)


_NOTHING: dict[str, Any] = {}  # the names that a function without default factories uses
_UNWANTED = ("__annotations__", "__dict__", "__weakref__")  # of the decorated class, which has no slots


def _field(cls: type, name: str) -> Field:
    value = getattr(cls, name, _MISSING)
    item = value if isinstance(value, Field) else Field(value, _MISSING, repr=True)
    item.name = name
    return item


def _init(found: tuple[Field, ...], post: bool) -> Callable[..., None]:
    defaults, makers, parameters, body = [], {}, ["self"], []
    for item in found:
        name = value = item.name
        parameters.append(name)
        if item.default_factory is not _MISSING:
            makers[f"new_{name}"] = item.default_factory
            value = f"new_{name}() if {name} is MISSING else {name}"
            defaults.append(_MISSING)
        elif item.default is not _MISSING:
            defaults.append(item.default)
        body.append(f"self.{name}={value}")
    if post:
        body.append("self.__post_init__()")
    made: dict[str, Any] = {}
    known = {"MISSING": _MISSING, **makers} if makers else _NOTHING
    exec(f"def __init__({','.join(parameters)}): {';'.join(body) or 'pass'}", known, made)  # noqa: S102
    made["__init__"].__defaults__ = tuple(defaults)
    return made["__init__"]  # type: ignore[no-any-return]


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    key = self._key or _key_of(self.__class__)
    return key(self) == key(other)


def _hash(self: Any) -> int:
    return hash((self._key or _key_of(self.__class__))(self))


def _key_of(cls: Any) -> Callable[[Any], Any]:
    cls._key = attrgetter(*cls._compared) if cls._compared else type
    key: Callable[[Any], Any] = cls._key
    return key


def _names(all_names: tuple[str, ...], some: list[str]) -> tuple[str, ...]:
    """Return `some` as a tuple, which is the one of all names where it can be."""
    return all_names if len(some) == len(all_names) else tuple(some)
