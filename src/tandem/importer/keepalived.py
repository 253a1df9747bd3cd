# SPDX-License-Identifier: GPL-2.0-or-later
"""A keepalived.conf as a tree of statements, each with its file and line.

Only the syntax: what a keyword means is `convert`'s. Any text gives a tree and a list of problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tandem.config.problem import Problem
from tandem.importer.expand import Expansion, Include, Line, TooMuch, no_include

MOST_NESTING = 32
_ESCAPES = {"a": "\a", "b": "\b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(slots=True)
class Statement:
    """A keyword with its words, and the statements in its braces; None: it has no braces."""

    words: list[str]  # split at blanks, "..." together; the keyword first
    raw: str  # as written, for what is split in another way: scripts
    file: str
    line: int
    block: list[Statement] | None = None

    @property
    def keyword(self) -> str:
        return self.words[0]

    @property
    def text(self) -> str:
        """All words, with one blank between them."""
        return " ".join(self.words)

    def argument(self, number: int = 1) -> str | None:
        """The word after the keyword, or None."""
        return self.words[number] if number < len(self.words) else None

    def inside(self) -> list[Statement]:
        return [] if self.block is None else self.block


@dataclass(slots=True)
class Tree:
    """The statements of the top level and what could not be read."""

    statements: list[Statement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse(text: str, file: str, config_id: str = "", include: Include = no_include) -> Tree:
    """The whole configuration; never raises, whatever the text holds."""
    tree = Tree()
    lines = Expansion(text, file, config_id, include)
    open_blocks: list[Statement] = []
    last: Line | None = None
    try:
        for last in lines:
            _add(tree, open_blocks, lines, last)
    except TooMuch as error:
        where = last or Line("", file, 0)
        lines.problem(where, f"{error}: the rest is not read")
    for statement in open_blocks:
        at = Line("", statement.file, statement.line)
        lines.problem(at, f"the block '{statement.keyword}' that begins here is never closed")
    tree.problems = lines.problems
    return tree


def _add(tree: Tree, open_blocks: list[Statement], lines: Expansion, line: Line) -> None:
    level = open_blocks[-1].inside() if open_blocks else tree.statements
    if line.text == "}":
        if open_blocks:
            open_blocks.pop()
        else:
            lines.problem(line, "'}' without a block that it could close")
    elif line.text == "{":
        opener = level[-1] if level else None
        if opener is None or opener.block is not None:
            lines.problem(line, "'{' without a keyword before it")
            opener = Statement([""], "", line.file, line.line)  # so that its '}' closes nothing else
        if len(open_blocks) >= MOST_NESTING:
            raise TooMuch(f"more than {MOST_NESTING} blocks inside each other")
        opener.block = []
        open_blocks.append(opener)
    else:
        level.append(Statement(list(split(line.text)), line.text, line.file, line.line))


def split(text: str) -> Iterator[str]:
    """Words at blanks; "..." is one word, also where it touches others (alloc_strvec_r())."""
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
        elif text[at] == '"':
            end = text.find('"', at + 1)
            end = len(text) if end < 0 else end
            yield text[at + 1 : end]
            at = end + 1
        else:
            end = at
            while end < len(text) and text[end] not in ' \t"':
                end += 1
            yield text[at:end]
            at = end


def split_command(text: str) -> list[str]:
    """Words as keepalived reads scripts: both kinds of quotes, and C's escapes; ValueError.

    A notify script is split twice: its line into keyword, command, user and group, and then the
    command into its arguments (alloc_strvec_quoted_escaped()).
    """
    words: list[list[str]] = []
    between, quote = True, ""  # between two words, inside of which quotes
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char in " \t" and not quote:
            between = True
            continue
        if between:
            words.append([])
            between = False
        if char == "\\":
            escaped, at = _escape(text, at)
            words[-1].append(escaped)
        elif char == quote:
            quote = ""
        elif char in "\"'" and not quote:
            quote = char
        else:
            words[-1].append(char)
    if quote:
        raise ValueError(f"the quote {quote} is never closed")
    return ["".join(word) for word in words]


def _escape(text: str, at: int) -> tuple[str, int]:
    """The character that the escape at this position means, and where it ends; ValueError."""
    if at >= len(text):
        raise ValueError("there is nothing behind the backslash")
    char = text[at]
    hexadecimal = _digits(text, at + 1, 2, "0123456789abcdefABCDEF")
    if char == "x" and hexadecimal:
        return chr(int(hexadecimal, 16)), at + 1 + len(hexadecimal)
    if char == "c" and at + 1 < len(text):
        return chr(ord(text[at + 1]) & 0x1F), at + 2
    octal = _digits(text, at, 3, "01234567")
    if octal:
        return chr(int(octal, 8)), at + len(octal)
    return _ESCAPES.get(char, char), at + 1


def _digits(text: str, at: int, most: int, digits: str) -> str:
    end = at
    while end < min(at + most, len(text)) and text[end] in digits:
        end += 1
    return text[at:end]
