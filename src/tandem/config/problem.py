# SPDX-License-Identifier: GPL-2.0-or-later
"""One problem of a file, as one line: an error, or a warning about something suspicious."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_VALUE = 120  # characters of a value that are shown
LONGEST_REASON = 400
LONGEST_NAME = 64  # longer words are not compared with known names (difflib is quadratic)
MASK = "***"
LIKE_A_SECRET = ("pass", "secret", "psk", "key")  # in the name of an unknown option


@dataclass(frozen=True, slots=True)
class Problem:
    """Place and reason of a problem; its `str()` is exactly one line.

    `line` is 0 when the whole file is the problem. `value` is masked already when it is a secret.
    """

    file: str
    line: int
    reason: str
    section: str | None = None
    section_type: str | None = None
    option: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        what = []
        if self.section is not None:
            what.append(f"section '{shown(self.section)}' ({shown(self.section_type or '')})")
        if self.option is not None:
            what.append(f"option '{shown(self.option)}'")
        if self.value is not None:
            what.append(f"value '{shown(self.value)}'")
        reason = shown(self.reason, LONGEST_REASON)
        return ": ".join(filter(None, (shown(place), ", ".join(what), reason)))


def shown(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return the text as one printable line of bounded length.

    The text is cut at its first line end: an open quote has swallowed the remaining lines, and one of
    them may hold a password.
    """
    first = text[:longest].partition("\n")[0]
    text = first if first == text else first + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, or None when none is similar."""
    if len(word) > LONGEST_NAME:
        return None
    found = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: "; did you mean 'priority'?" or nothing."""
    match = nearest(word, known)
    return f"; did you mean '{match}'?" if match else ""
