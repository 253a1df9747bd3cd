# SPDX-License-Identifier: GPL-2.0-or-later
"""blobmsg, the format of messages on ubus: encoder and decoder, pure, and strict in both directions.

A message is a blob: a big-endian word with its length (24 bits, itself included), then attributes, each
padded to 4 bytes. The word of a blobmsg attribute also holds a type and the bit for "has a name"; the name
follows: length, text, NUL, padding (libubox, blob.h and blobmsg.h).

| blobmsg | Python |
|---|---|
| table, array | dict, list |
| string | str; bytes that are not UTF-8 as surrogates (`surrogateescape`) |
| int64, int32, int16 | int; sent as int32 if it fits, as libubox does with JSON's numbers |
| int8 | bool |
| double | float |
| unspec | None, JSON's null |

libubox would print a double as %f, cut a string at its NUL byte, and make invalid JSON of NaN or of an
empty name. Such values are errors here, before anything is sent.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from collections.abc import Collection
    from typing import Any

MESSAGE_MAX = 1 << 20
"""Bytes of the largest message that ubusd passes on, its envelope included."""

UNSPEC, ARRAY, TABLE, STRING, INT64, INT32, INT16, INT8, DOUBLE = range(9)

TYPES: dict[type, int] = {list: ARRAY, dict: TABLE, str: STRING, int: INT32, bool: INT8, float: DOUBLE}
"""The blobmsg type of each Python type, for the policy of a method."""

DEPTH_MAX = 32  # tables within tables; more is an error on either side

_EXTENDED = 0x80000000
_LENGTH = 0x00FFFFFF
_WORD = struct.Struct(">I")
_ATTRIBUTE = struct.Struct(">IH")  # word, length of the name
_ZEROS = (b"", b"\0", b"\0\0", b"\0\0\0", b"\0\0\0\0")
_FIXED = {
    INT64: struct.Struct(">q"), INT32: struct.Struct(">i"), INT16: struct.Struct(">h"),
    INT8: struct.Struct(">?"), DOUBLE: struct.Struct(">d"),
}  # fmt: skip


def encode(values: dict[str, Any]) -> bytes:
    """Return the message that holds `values`, header included.

    Raises ValueError when a value has no form in blobmsg, or the message is longer than MESSAGE_MAX;
    TypeError for types that blobmsg does not have.
    """
    body = b"".join([_attribute(_name(name), value, 1) for name, value in values.items()])
    if len(body) + _WORD.size > MESSAGE_MAX:
        raise ValueError(f"a message of {len(body)} bytes is longer than ubus accepts")
    return _WORD.pack(len(body) + _WORD.size) + body


def decode(message: bytes, only: Collection[str] | None = None) -> dict[str, Any]:
    """Return the values in a message. With `only`, other names of the outermost table are skipped.

    Raises ValueError when the message is not whole and well-formed.
    """
    if len(message) < _WORD.size:
        raise ValueError("no blob header")
    length = _WORD.unpack_from(message)[0] & _LENGTH
    if not _WORD.size <= length <= len(message):
        raise ValueError("a blob that is longer than its message")
    return dict(_members(message, _WORD.size, length, 1, only))


def _name(name: object) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"a name in a table is text, not {type(name).__name__}")
    if not name:
        raise ValueError("a name in a table can't be empty")
    return _text(name)


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("text with a NUL byte")
    return data


def _attribute(name: bytes, value: Any, depth: int) -> bytes:
    """Return the attribute, padded. A page of LuCI asks for hundreds of them each second."""
    if depth > DEPTH_MAX:
        raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
    kind, data = _value_of(value, depth)
    size = len(name)
    head = 4 - (_ATTRIBUTE.size + size) % 4  # the NUL after the name, and padding
    length = _ATTRIBUTE.size + size + head + len(data)
    if length > MESSAGE_MAX:
        raise ValueError("a value is longer than ubus accepts")
    word = _ATTRIBUTE.pack(_EXTENDED | kind << 24 | length, size)
    return b"".join((word, name, _ZEROS[head], data, _ZEROS[-length % 4]))


def _value_of(value: Any, depth: int) -> tuple[int, bytes]:
    """Return the blobmsg type of `value`, and its data."""
    if isinstance(value, str):
        return STRING, _text(value) + b"\0"
    if value is None:
        return UNSPEC, b""
    if isinstance(value, dict):
        inside = [_attribute(_name(name), item, depth + 1) for name, item in value.items()]
        return TABLE, b"".join(inside)
    if isinstance(value, list | tuple):
        return ARRAY, b"".join([_attribute(b"", item, depth + 1) for item in value])
    if isinstance(value, bool):
        kind = INT8
    elif isinstance(value, int):
        kind = INT32 if -(1 << 31) <= value < 1 << 31 else INT64
    elif isinstance(value, float):
        kind = DOUBLE
        if value - value != 0:  # infinite, or NaN
            raise ValueError(f"{value} has no form in JSON")
    else:
        raise TypeError(f"blobmsg has no form for {type(value).__name__}")
    try:
        return kind, _FIXED[kind].pack(value)
    except struct.error:
        raise ValueError(f"{value} does not fit into 64 bits") from None


def _members(
    data: bytes, offset: int, end: int, depth: int, only: Collection[str] | None = None
) -> list[tuple[str, Any]]:
    """Yield the name and value of each attribute in data[offset:end]."""
    if depth > DEPTH_MAX:
        raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
    found = []
    while offset < end:
        if end - offset < _ATTRIBUTE.size:
            raise ValueError("an attribute that is cut off")
        word, name_length = _ATTRIBUTE.unpack_from(data, offset)
        length = word & _LENGTH
        name_end = offset + _ATTRIBUTE.size + name_length
        start = offset + 4 + (2 + name_length + 1 + 3) // 4 * 4
        after = offset + length
        if not word & _EXTENDED or start > after or after > end or data[name_end] != 0:
            raise ValueError("an attribute is not one of blobmsg, or longer than its table")
        name = data[offset + _ATTRIBUTE.size : name_end].decode("utf-8", "surrogateescape")
        if only is None or name in only:
            found.append((name, _value(word >> 24 & 0x7F, data, start, after, depth)))
        offset = after + -length % 4
    return found


def _value(kind: int, data: bytes, start: int, end: int, depth: int) -> Any:
    if fixed := _FIXED.get(kind):
        if end - start != fixed.size:
            raise ValueError(f"a number of {end - start} bytes")
        return fixed.unpack_from(data, start)[0]
    if kind == STRING:
        if start == end or data[end - 1] != 0:
            raise ValueError("text without its NUL byte")
        text = data[start : end - 1]
        return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if kind == TABLE:
        return dict(_members(data, start, end, depth + 1))
    if kind == ARRAY:
        return [value for _, value in _members(data, start, end, depth + 1)]
    if kind == UNSPEC:
        return None
    raise ValueError(f"an unknown type {kind}")
