# SPDX-License-Identifier: GPL-2.0-or-later
"""`dataclasses` for the resident daemon: the part that Tandem uses, in a fraction of the memory.

The standard library's module imports `inspect` (1.4 MiB), and compiles half a dozen functions for every
class, another 0.6 MiB in the daemon. Here all classes share their functions. Making an object takes some
microseconds more, and the daemon makes tens of objects in a second. The standard library's module also
enforces `frozen`: here `frozen` only makes objects hashable.
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
    """Like dataclasses.dataclass, for classes with slots, whose bases have no fields."""
    assert slots

    def decorate(cls: type) -> type:
        found = tuple(_field(cls, name) for name in cls.__annotations__)
        names = tuple(item.name for item in found)
        unwanted = {*names, *_UNWANTED}
        members = {name: value for name, value in vars(cls).items() if name not in unwanted}
        members |= {"__slots__": names, "__match_args__": names}
        if defaults := {item.name: _default(item) for item in found if _default(item) is not _MISSING}:
            members["_defaults"] = defaults
        if not all(item.compare for item in found):
            members["_compared"] = tuple(item.name for item in found if item.compare)
        if not all(item.repr for item in found):
            members["_shown"] = tuple(item.name for item in found if item.repr)
        if frozen:
            members["__hash__"] = _hash
        return type(cls.__name__, (_Record, *(base for base in cls.__bases__ if base is not object)), members)

    return decorate


def fields(of: Any) -> tuple[Field, ...]:
    """Like dataclasses.fields."""
    shown = of.__match_args__ if of._shown is None else of._shown
    found = tuple(Field(_MISSING, _MISSING, name in shown) for name in of.__match_args__)
    for item, name in zip(found, of.__match_args__, strict=True):
        item.name = name
    return found


def is_dataclass(of: object) -> bool:
    """Like dataclasses.is_dataclass."""
    return isinstance(of, _Record) or (isinstance(of, type) and issubclass(of, _Record))


def replace(of: Any, /, **changes: Any) -> Any:
    """Like dataclasses.replace."""
    return type(of)(**{name: getattr(of, name) for name in of.__match_args__} | changes)


_UNWANTED = ("__annotations__", "__dict__", "__weakref__")  # of the decorated class, which has no slots


def _field(cls: type, name: str) -> Field:
    value = getattr(cls, name, _MISSING)
    item = value if isinstance(value, Field) else Field(value, _MISSING, repr=True)
    item.name = name
    return item


def _default(item: Field) -> Any:
    """Return the default value of a field, or what makes it, as a Field; _MISSING: there is none."""
    return item.default if item.default_factory is _MISSING else item


class _Record:
    """What all classes have in common: one `__init__` for all takes less memory than one for each."""

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]
    _defaults: dict[str, Any] = {}  # noqa: RUF012 - a constant
    _compared: tuple[str, ...] | None = None  # None: all
    _shown: tuple[str, ...] | None = None
    _key: Callable[[Any], Any] | None = None  # made when it is needed: most objects are never compared

    def __init__(self, *values: Any, **named: Any) -> None:
        names, found = self.__match_args__, values
        if named or len(values) != len(names):
            found = _completed(self, values, named)
        for name, value in zip(names, found):  # noqa: B905 - `strict` would take time for each object
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        pass

    def __repr__(self) -> str:
        names = self.__match_args__ if self._shown is None else self._shown
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    def __eq__(self, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        key = self._key or _key_of(self.__class__)
        return key(self) == key(other)


def _completed(of: _Record, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of all fields: those that were given, and defaults. TypeError as for any function."""
    names = of.__match_args__
    found = list(values)
    for name in names[len(values) :]:
        if name in named:
            found.append(named.pop(name))
        elif name in of._defaults:
            default = of._defaults[name]
            found.append(default.default_factory() if isinstance(default, Field) else default)
        else:
            raise TypeError(f"{type(of).__qualname__}() lacks {name}")
    if named or len(found) > len(names):
        many = f"{len(values)} values and {', '.join(named) or 'no name'}"
        raise TypeError(f"{type(of).__qualname__}() takes {', '.join(names) or 'nothing'}, not {many}")
    return tuple(found)


def _hash(self: Any) -> int:
    return hash((self._key or _key_of(self.__class__))(self))


def _key_of(cls: Any) -> Callable[[Any], Any]:
    names = cls.__match_args__ if cls._compared is None else cls._compared
    cls._key = attrgetter(*names) if names else type
    key: Callable[[Any], Any] = cls._key
    return key
