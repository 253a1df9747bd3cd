# SPDX-License-Identifier: GPL-2.0-or-later
"""A page for people: labelled rows of text of any width, ASCII apart from the data. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tandem.console import printable

_STATE_COLOURS = {"MASTER": "1;32", "BACKUP": "36", "FAULT": "1;31"}
_OTHER_STATE = "33"
BOLD, _DIM, ALARM, NOTE = "1", "2", "31", "33"
_LABEL_WIDTH = 11
_ANSWER_WIDTH = 13
_NO_BREAK = "\u00a0"  # written as \N{...} it would need unicodedata, which is not in python3-light


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: 310 ms, 3.2 s, 5 min 12 s, 3 h 5 min, 12 d 4 h."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


class Page:
    """Lines of labelled, wrapped lists."""

    def __init__(self, width: int, colour: bool) -> None:
        self.width = width
        self.colour = colour
        self.name_width = 0
        self.lines: list[str] = []

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[m" if self.colour and code else text

    def heading(self, indent: int, name: str, state: str, text: str) -> None:
        """Add the name and state of a group or an instance."""
        padded = printable(name).ljust(self.name_width - indent)
        shown = self.paint(printable(state).ljust(6), _STATE_COLOURS.get(state, _OTHER_STATE))
        self.lines.append((" " * indent + f"{self.paint(padded, BOLD)}  {shown}  {text}").rstrip())

    def answer(self, label: str, text: str, code: str) -> None:
        """Add an answer to one of the first questions, wrapped below itself."""
        room = max(self.width - _ANSWER_WIDTH, 20)
        lines = textwrap.wrap(printable(text), room, break_on_hyphens=False)
        for number, line in enumerate(lines):
            start = " " * _ANSWER_WIDTH if number else self.paint(label.ljust(_ANSWER_WIDTH), BOLD)
            self.lines.append(start + self.paint(line, code))

    def bold(self, text: str) -> str:
        """Return the text as a heading."""
        return self.paint(text, BOLD)

    def title(self, name: str, state: str, colour: str, text: str) -> None:
        """Add the name and state of something that is no group or instance."""
        self.lines.append(f"{self.bold(name)}  {self.paint(state, colour)}  {text}".rstrip())

    def row(self, label: str, items: Iterable[str], code: str = "") -> None:
        """Add a labelled list, wrapped between its items; an empty list adds nothing."""
        indent = " " * (4 + _LABEL_WIDTH)
        room = max(self.width - len(indent), 20)
        shown = [printable(item) for item in items if item]
        whole = [item.replace(" ", _NO_BREAK) if len(item) < room else item for item in shown]
        lines = textwrap.wrap(", ".join(whole), room, break_on_hyphens=False)
        for number, line in enumerate(lines):
            start = indent if number else "    " + self.paint(label.ljust(_LABEL_WIDTH), _DIM)
            self.lines.append(start + self.paint(line.replace(_NO_BREAK, " "), code))


def counted(number: int, what: str) -> str:
    """Return a number with its noun; "" for 0."""
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""


def counters(numbers: Mapping[str, Any]) -> Iterator[str]:
    """Yield each counter that is not zero."""
    return (f"{name.replace('_', ' ')} {number}" for name, number in numbers.items() if number)
