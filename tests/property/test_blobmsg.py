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


def blob(text: str) -> bytes:
    """A message with these attributes, in hexadecimal; its length is right."""
    body = bytes.fromhex(text)
    return (len(body) + 4).to_bytes(4, "big") + body


TEXT_A = "8300000a 0001 61 00 6200"  # a = "b"; its padding follows


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (TEXT_A + "0000", {"a": "b"}),
        (TEXT_A, {"a": "b"}),  # the padding of the last one may be missing, as libubox has it
        ("8300000d 0001 61 00 6200630000 000000", {"a": "b"}),  # text ends at its first NUL byte
        ("80000008 0001 61 00", {"a": None}),
        ("87000009 0001 61 00 01 000000", {"a": True}),
        ("8600000a 0001 61 00 fffe 0000", {"a": -2}),
        ("8500000c 0001 61 00 00000100", {"a": 256}),
        ("84000010 0001 61 00 0000000100000000", {"a": 1 << 32}),
        ("88000010 0001 61 00 3ff8000000000000", {"a": 1.5}),
        ("8300000e 0004 61626364 00 00 6200 0000", {"abcd": "b"}),  # padding before the value as well
        ("82000014 0001 61 00 85 00000c 0001 62 00 00000007", {"a": {"b": 7}}),
        ("81000014 0001 61 00 85 00000c 0000 00 00 00000007", {"a": [7]}),
        ("83000009 0001 61 00 62 000000", "text without its NUL byte"),
        ("83000008 0001 61 00", "text without its NUL byte"),
        ("8600000c 0001 61 00 00000001", "a number of 4 bytes"),
        ("89000008 0001 61 00", "an unknown type 9"),
        ("0300000a 0001 61 00 6200 0000", "not one of blobmsg"),
        ("8300000a 0001 61 62 6200 0000", "not one of blobmsg"),  # a name without its NUL byte
        ("83000012 0001 61 00 6200 0000", "longer than its table"),
        ("83000006 0001 61 00", "not one of blobmsg"),  # shorter than its name
        ("8300", "an attribute that is cut off"),
    ],
)
def test_what_a_message_means(text: str, found: dict[str, Any] | str) -> None:
    """libubox, blobmsg.h: big-endian words; types 1 array, 2 table, 3 text, 4 to 7 integers, 8 double."""
    if isinstance(found, str):
        with pytest.raises(ValueError, match=found):
            decode(blob(text))
    else:
        assert decode(blob(text)) == found


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


def test_a_message_that_is_shorter_than_it_says_is_refused() -> None:
    for data, why in (
        (b"", "no blob header"), (b"\0\0\0", "no blob header"),
        (b"\0\0\0\3", "longer than its message"), (b"\0\0\0\5", "longer than its message"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            decode(data)
    assert decode(b"\0\0\0\4" + b"rest") == {}


def test_an_integer_is_as_short_as_libubox_makes_it() -> None:
    for value, kind in ((1 << 31, 4), ((1 << 31) - 1, 5), (-(1 << 31), 5), (-(1 << 31) - 1, 4)):
        message = encode({"a": value})
        assert message[4] == 0x80 | kind and len(message) == (20 if kind == 4 else 16)
        assert decode(message) == {"a": value}


def test_the_longest_message() -> None:
    head = 4 + 8 + 1  # the blob, the attribute with its name, and the NUL byte of the text
    assert len(encode({"a": "x" * (MESSAGE_MAX - head)})) == MESSAGE_MAX
    with pytest.raises(ValueError, match="longer than ubus accepts"):
        encode({"a": "x" * (MESSAGE_MAX - head + 1)})


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
