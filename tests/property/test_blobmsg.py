# SPDX-License-Identifier: GPL-2.0-or-later
"""blobmsg: a written message can be read again and equals libubox's, and garbage is a ValueError."""

from __future__ import annotations

import ctypes
import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tandem.openwrt.blobmsg import DEPTH_MAX, MESSAGE_MAX, decode, encode
from tandem.openwrt.libubus import read_message
from tests.openwrt_pieces import USR, needs

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
NAMES = TEXT.filter(bool)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SCALARS = st.none() | st.booleans() | INT64 | TEXT
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def tables(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(NAMES, values, max_size=5)


@given(tables(SCALARS | FLOATS))
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    assert decode(encode(values)) == values


@given(st.binary(max_size=200))
@example(b"\0\0\0\4")
def test_garbage_is_a_value_error_and_nothing_else(data: bytes) -> None:
    try:
        decode(data)
    except ValueError:
        pass


@given(tables(SCALARS | FLOATS), st.data())
def test_a_damaged_message_is_read_or_refused(values: dict[str, Any], data: st.DataObject) -> None:
    message = bytearray(encode(values))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except ValueError:
        return
    assert isinstance(found, dict)


@given(tables(SCALARS), NAMES)
def test_only_some_names(values: dict[str, Any], name: str) -> None:
    wanted = {name, *list(values)[:1]}
    assert decode(encode(values), wanted) == {key: values[key] for key in values if key in wanted}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, ValueError), (math.inf, ValueError), (1 << 63, ValueError), (-(1 << 63) - 1, ValueError),
        ("a\0b", ValueError), ({"": 1}, ValueError), ({"a\0": 1}, ValueError), ({1: 2}, TypeError),
        (b"bytes", TypeError), ({1, 2}, TypeError), ("x" * MESSAGE_MAX, ValueError),
    ],
)  # fmt: skip
def test_what_has_no_form_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode({"name": value})
    with pytest.raises(error):
        encode({"name": [{"deep": value}]})


def test_depth_is_bounded_on_both_sides() -> None:
    value: Any = "bottom"
    for _ in range(DEPTH_MAX - 1):
        value = [value]
    assert decode(encode({"name": value})) == {"name": value}
    with pytest.raises(ValueError, match="deep"):
        encode({"name": [value]})
    table: Any = {}
    for _ in range(DEPTH_MAX - 1):
        table = {"a": table}
    assert decode(encode(table)) == table
    with pytest.raises(ValueError, match="deep"):
        encode({"a": {"a": table}})
    message = b""
    for _ in range(10_000):  # arrays within arrays, as nobody honest sends them
        message = (0x81000000 | len(message) + 8).to_bytes(4, "big") + bytes(4) + message
    with pytest.raises(ValueError, match="deep"):
        decode((len(message) + 4).to_bytes(4, "big") + message)


def test_bytes_that_are_no_text_survive() -> None:
    message = encode({"name": "\udcff\udcfe"})
    assert b"\xff\xfe\0" in message and decode(message) == {"name": "\udcff\udcfe"}


# Beside libubox itself


class BlobBuf(ctypes.Structure):
    _fields_ = [
        ("head", ctypes.c_void_p),
        ("grow", ctypes.c_void_p),
        ("buflen", ctypes.c_int),
        ("buf", ctypes.c_void_p),
    ]


needs_libubox = needs(USR / "lib/libubox.so", USR / "lib/libblobmsg_json.so")


def libubox_writes(text: str) -> bytes:
    """The message that libblobmsg_json makes of a JSON text."""
    buffer = BlobBuf()
    ctypes.CDLL(str(USR / "lib/libubox.so")).blob_buf_init(ctypes.byref(buffer), 0)
    library = ctypes.CDLL(str(USR / "lib/libblobmsg_json.so"))
    library.blobmsg_add_json_from_string.restype = ctypes.c_bool
    assert library.blobmsg_add_json_from_string(ctypes.byref(buffer), text.encode())
    message = read_message(buffer.head or 0)
    ctypes.CDLL(str(USR / "lib/libubox.so")).blob_buf_free(ctypes.byref(buffer))
    return message


def libubox_reads(message: bytes) -> str:
    """The JSON text that libblobmsg_json makes of a message."""
    library = ctypes.CDLL(str(USR / "lib/libblobmsg_json.so"))
    function = library.blobmsg_format_json_with_cb
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_char_p, ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
    text = function(message, True, None, None, -1)
    try:
        return ctypes.string_at(text).decode()
    finally:
        libc = ctypes.CDLL(None)
        libc.free.argtypes = (ctypes.c_void_p,)
        libc.free(text)


@needs_libubox
@given(tables(SCALARS))
def test_the_same_bytes_as_libubox(values: dict[str, Any]) -> None:
    message = libubox_writes(json.dumps(values, ensure_ascii=False))
    assert decode(message) == values
    assert encode(values) == message


@needs_libubox
@given(tables(SCALARS))
def test_libubox_reads_what_is_written(values: dict[str, Any]) -> None:
    assert json.loads(libubox_reads(encode(values))) == values


@needs_libubox
@given(FLOATS)
def test_doubles_of_libubox_are_exact(value: float) -> None:
    assert decode(libubox_writes(json.dumps({"x": value}))) == {"x": value}
