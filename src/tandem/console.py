# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line's exit statuses, and how it prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO

DONE, FAILED, UNUSABLE = 0, 1, 2


def printable(text: object) -> str:
    """Return the text with the characters escaped that a terminal might act on."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in str(text)
    )


def complain(sentences: Iterable[object]) -> None:
    """Print sentences about errors to the standard error."""
    print_lines(sys.stderr, (f"tandem: {sentence}" for sentence in sentences))


def print_lines(stream: TextIO, lines: Iterable[object]) -> None:
    """Print lines whose data may come from anybody: they are escaped."""
    for line in lines:
        print(printable(line), file=stream)
