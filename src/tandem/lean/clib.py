# SPDX-License-Identifier: GPL-2.0-or-later
"""`ctypes` for the resident daemon: what Tandem uses, on the C module `_ctypes` of the standard library.

The standard library's module makes two classes for each type of C, and has types for every library there is.
"""

from __future__ import annotations

from _ctypes import (  # type: ignore[attr-defined]  # _string_at_addr
    FUNCFLAG_CDECL,
    FUNCFLAG_PYTHONAPI,
    FUNCFLAG_USE_ERRNO,
    POINTER,
    CFuncPtr,
    Structure,
    _SimpleCData,
    _string_at_addr,
    addressof,
    byref,
    dlopen,
    get_errno,
    pointer,
    sizeof,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["POINTER", "Structure", "addressof", "byref", "get_errno", "pointer", "sizeof"]


def _simple(name: str, letter: str) -> Any:
    """Return the class of one of C's types; `letter` is the one of the module `struct`, more or less."""
    kind: Any = type(_SimpleCData)
    return kind(name, (_SimpleCData,), {"_type_": letter, "__slots__": ()})


c_bool = _simple("c_bool", "?")
c_byte = _simple("c_byte", "b")
c_uint8 = _simple("c_uint8", "B")
c_uint16 = _simple("c_uint16", "H")
c_int = _simple("c_int", "i")
c_uint = c_uint32 = _simple("c_uint", "I")
c_ulong = _simple("c_ulong", "L")
c_char = _simple("c_char", "c")
c_char_p = _simple("c_char_p", "z")
c_void_p = _simple("c_void_p", "P")
_py_object = _simple("py_object", "O")


class _Function(CFuncPtr):
    """A function of a library."""

    _flags_ = FUNCFLAG_CDECL
    _restype_ = c_int


class _FunctionWithErrno(CFuncPtr):
    """A function of a library after which `get_errno` answers."""

    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_int


class _StringAt(CFuncPtr):
    """`string_at` in C, an ordinary function of Python."""

    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_PYTHONAPI
    _restype_ = _py_object
    _argtypes_ = c_void_p, c_int


string_at = _StringAt(_string_at_addr)


class CDLL:
    """Like ctypes.CDLL: the functions of a library are its attributes. OSError: there is no such library."""

    def __init__(self, name: str | None, use_errno: bool = False) -> None:
        self._kind: Any = _FunctionWithErrno if use_errno else _Function
        self._handle = dlopen(name, 0)  # type: ignore[arg-type]  # None: what the process has loaded

    def __getattr__(self, name: str) -> Any:
        function = self._kind((name, self))
        setattr(self, name, function)
        return function


def CFUNCTYPE(result: Any, *arguments: Any) -> Any:
    """Like ctypes.CFUNCTYPE: the type of functions of Python that C calls."""
    members = {"_flags_": FUNCFLAG_CDECL, "_restype_": result, "_argtypes_": arguments}
    kind: Any = type(CFuncPtr)
    return kind("CFunctionType", (CFuncPtr,), members)


def create_string_buffer(content: int | bytes, size: int = 0) -> Any:
    """Like ctypes.create_string_buffer: `content` zeros, or a copy of `content` in `size` bytes."""
    if isinstance(content, int):
        return (c_char * content)()
    buffer = (c_char * (size or len(content) + 1))()
    buffer.value = content
    return buffer
