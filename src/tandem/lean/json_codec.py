# SPDX-License-Identifier: GPL-2.0-or-later
"""`json` for the resident daemon: loads and dumps on the C functions of the standard library's `_json`.

The standard library's `json` imports `re`, and both together cost half a MiB.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WHITESPACE = " \t\n\r"


class JSONDecodeError(ValueError):
    """Like json.JSONDecodeError, without line and column."""

    def __init__(self, message: str, _document: str = "", position: int = 0) -> None:
        super().__init__(f"{message}: char {position}")


class _Context:
    """The attributes that the scanner reads, with the defaults of the standard library's decoder."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


_scan = make_scanner(_Context)  # type: ignore[arg-type]  # any object with these attributes will do


def loads(text: str | bytes) -> Any:
    """Like json.loads, for text or UTF-8.

    ValueError: `text` is no JSON. RecursionError: `text` is nested too deeply.
    """
    document = text if isinstance(text, str) else text.decode("utf-8")
    begin = len(document) - len(document.lstrip(_WHITESPACE))
    try:
        found, end = _scan(document, begin)
    except StopIteration as error:
        raise JSONDecodeError("Expecting value", document, error.value) from None
    if document[end:].strip(_WHITESPACE):
        raise JSONDecodeError("Extra data", document, end)
    return found


def dumps(
    value: Any, *, separators: tuple[str, str] = (", ", ": "), default: Callable[[Any], Any] | None = None
) -> str:
    """Like json.dumps. TypeError: `value` holds something that JSON lacks, and `default` does not help."""
    item, key = separators
    encoder = make_encoder(
        {}, default or _refuse, encode_basestring_ascii, None, key, item, False, False, True
    )
    return "".join(encoder(value, 0))


def _refuse(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
