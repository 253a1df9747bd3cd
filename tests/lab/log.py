# SPDX-License-Identifier: GPL-2.0-or-later
"""A log that a test can read."""

from __future__ import annotations


class Lines:
    """A sink of `tandem.log.Logger`: "level message", line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, level: str, line: str) -> bool:
        self.lines.append(f"{level} {line}")
        return True
