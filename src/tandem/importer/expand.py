# SPDX-License-Identifier: GPL-2.0-or-later
"""From the text of a keepalived.conf to its effective lines, as keepalived's lib/parser.c reads it.

A line goes through these steps: comments are taken off; a line that a definition goes on with is added
to it; `@id` and `@^id` decide whether it counts; `$NAME=value` defines, `~SEQ(...)` and `~LST(...)`
repeat, `$NAME` and `${NAME}` are replaced until nothing changes; `include` reads other files; and what
is left is split at braces. A definition of several lines puts all of them in the place of its name.
Whatever such a line becomes, it keeps the file and the line number of what the user wrote.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tandem.config.problem import Problem

# Bounds: far above what people write, far below what fills a router's memory.
MOST_LINES = 100_000  # that come out of it, whatever repeats and includes do
MOST_DEPTH = 32  # of files that include each other
MOST_ROUNDS = 64  # of replacing in one line: a definition may name itself
LONGEST_LINE = 16_384  # characters; keepalived's own bound (MAXBUF) is 1024
MOST_PROBLEMS = 1000

_BLANK = " \t"
_DEFINITION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)=[ \t]*(.*)", re.DOTALL)
_REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)[ 0-9]*\}|([A-Za-z_][A-Za-z0-9_]*)(?=[ \t,)]|$))")
_CONDITION = re.compile(r"@(\^?)([^ \t]*)[ \t]+(.*)", re.DOTALL)
_INCLUDE = re.compile(r"include[rmwba]?[ \t]+(.*)")
_REPEAT = re.compile(r"~(SEQx?|LST)[ \t]*\(")

Include = Callable[[str, str], Iterable[tuple[str, str]]]
"""Pattern and the including file to (name, text) of the files that match; OSError, ValueError."""


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of text and where it comes from."""

    text: str
    file: str
    line: int


class TooMuch(Exception):
    """The configuration grows beyond all bounds; what has been read so far is kept."""


@dataclass(slots=True)
class _Source:
    """Lines that are still to come, the most recent source first."""

    lines: Iterator[Line]
    physical: bool = False  # straight from a file: with comments, and a definition may go on
    file: str = ""


@dataclass(slots=True)
class _Definition:
    lines: list[str] = field(default_factory=list)
    several: bool = False


def no_include(pattern: str, file: str) -> Iterable[tuple[str, str]]:
    """For texts that have no place in a file system."""
    raise ValueError("there is no file that it could be relative to")


class Expansion:
    """The effective lines of one configuration; `problems` grows while they are read."""

    def __init__(self, text: str, file: str, config_id: str, include: Include = no_include) -> None:
        self.problems: list[Problem] = []
        self._id, self._include = config_id, include
        self._sources: list[_Source] = []
        self._definitions: dict[str, _Definition] = {}
        self._open: tuple[_Definition, Line] | None = None  # a definition whose next line comes
        self._push_file(text, file)

    def __iter__(self) -> Iterator[Line]:
        """Statements, and `{` and `}` each on its own."""
        for number in itertools.count():
            line = self._next()
            if line is None:
                return
            if number >= MOST_LINES:
                raise TooMuch(f"more than {MOST_LINES} lines with all that is included and repeated")
            done = self._process(line)
            if done is not None:
                yield done

    def problem(self, line: Line, reason: str) -> None:
        """Note what is wrong with a line, up to a bound."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(Problem(line.file, line.line, reason))

    # where lines come from

    def _push_file(self, text: str, file: str) -> None:
        numbered = enumerate(text.split("\n"), 1)
        self._sources.append(_Source((Line(t.rstrip("\r"), file, n) for n, t in numbered), True, file))

    def _push(self, lines: Iterable[Line]) -> None:
        self._sources.append(_Source(iter(lines)))

    def _next(self) -> Line | None:
        while self._sources:
            source = self._sources[-1]
            line = next(source.lines, None)
            if line is None:
                self._sources.pop()
            elif not source.physical:
                return line
            else:
                return Line(self._without_comment(line), line.file, line.line)
        return None

    def _without_comment(self, line: Line) -> str:
        if len(line.text) > LONGEST_LINE:
            self.problem(line, f"the line is longer than {LONGEST_LINE} characters")
            return ""
        if "\0" in line.text:
            self.problem(line, "NUL byte")
            return ""
        text, closed = decomment(line.text)
        if not closed:
            self.problem(line, 'the quote " that begins on this line is never closed')
        return text

    # what becomes of a line

    def _process(self, line: Line) -> Line | None:
        """Return the part of the line that is still to be read; None when nothing is."""
        if self._open is not None and self._sources and self._sources[-1].physical:
            self._continue(line)
            return None
        text = line.text
        for _ in range(MOST_ROUNDS):
            if text.startswith("@"):
                condition = _CONDITION.fullmatch(text)
                if not condition or (condition[2] == self._id) == bool(condition[1]):
                    return None
                text = condition[3]
            if definition := _DEFINITION.fullmatch(text):
                self._define(definition[1], definition[2], line)
                return None
            if text.startswith(("~SEQ", "~LST")):
                self._repeat(Line(text, line.file, line.line))
                return None
            replaced = self._replace(text, line)
            if replaced == text:
                break
            text, _ = decomment(replaced)
            if len(text) > LONGEST_LINE:
                self.problem(line, "grows without end when its definitions are put in")
                return None
        else:
            self.problem(line, "a definition contains itself")
            return None
        if include := _INCLUDE.fullmatch(text):
            self._read(include[1], line)
            return None
        return self._split(text, line)

    def _split(self, text: str, line: Line) -> Line | None:
        """The text up to its first brace outside of quotes; the rest comes again."""
        end = brace(text)
        if end == 0:
            end = 1
        if end < len(text):
            self._push([Line(text[end:].strip(_BLANK), line.file, line.line)])
            text = text[:end]
        text = text.strip(_BLANK)
        return Line(text, line.file, line.line) if text else None

    def _read(self, pattern: str, line: Line) -> None:
        if sum(source.physical for source in self._sources) >= MOST_DEPTH:
            raise TooMuch(f"more than {MOST_DEPTH} files include each other")
        try:
            files = list(self._include(pattern.strip('"'), line.file))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.problem(line, f"include {pattern}: {reason}")
            return
        for name, text in reversed(files):
            self._push_file(text, name)

    # definitions

    def _define(self, name: str, value: str, line: Line) -> None:
        definition = self._definitions[name] = _Definition()
        if value.endswith("\\"):
            definition.several = True
            self._open = definition, line
            value = value[:-1].rstrip(_BLANK)
            if not value:
                return
        definition.lines.append(value)

    def _continue(self, line: Line) -> None:
        assert self._open is not None
        definition, _ = self._open
        text = line.text
        if text.endswith("\\"):
            text = text[:-1].rstrip(_BLANK)
        else:
            self._open = None
        if text:
            definition.lines.append(text)

    def _value(self, name: str, line: Line) -> _Definition | None:
        if found := self._definitions.get(name):
            return found
        match name:
            case "_PWD":
                return _Definition([line.file.rpartition("/")[0] or "."])
            case "_INSTANCE":
                return _Definition([self._id])
            case "_HASH":
                return _Definition(["\\#"])
            case "_BANG":
                return _Definition(["\\!"])
        return None

    def _replace(self, text: str, line: Line) -> str:
        """The text with its definitions put in once; those that are unknown stay."""
        more: list[Line] = []

        def value(match: re.Match[str]) -> str:
            definition = self._value(match[1] or match[2], line)
            if definition is None or (definition.several and match.end() < len(text)):
                return match[0]
            if definition.several:
                more.extend(Line(t, line.file, line.line) for t in definition.lines[1:])
            return definition.lines[0] if definition.lines else ""

        if "$" not in text:
            return text
        replaced = _REFERENCE.sub(value, text)
        if more:
            self._push(more)
        return replaced

    # repeats

    def _repeat(self, line: Line) -> None:
        head = _REPEAT.match(line.text)
        end = _closing(line.text, head.end()) if head else -1
        if head is None or end < 0:
            self.problem(line, "~SEQ and ~LST need their values in brackets: ~SEQ(NAME, first, last)")
            return
        inside = self._replace(line.text[head.end() : end], line)
        rest = line.text[end + 1 :].strip(_BLANK)
        try:
            names, values = _list(inside) if head[1] == "LST" else _sequence(inside, head[1] == "SEQx")
        except ValueError as error:
            self.problem(line, str(error))
            return
        self._push(self._rounds(names, values, Line(rest, line.file, line.line)))

    def _rounds(self, names: list[str], values: Iterable[list[str]], line: Line) -> Iterator[Line]:
        for each in values:
            for name, value in itertools.zip_longest(names, each, fillvalue=""):
                self._definitions[name] = _Definition([value])
            yield line


def decomment(text: str) -> tuple[str, bool]:
    """The line without its comment and without blanks around it; whether its quotes are closed.

    `!` and `#` begin a comment unless they stand in "..." or behind a backslash.
    """
    out: list[str] = []
    quoted = False
    at = 0
    while at < len(text):
        char = text[at]
        following = text[at + 1 : at + 2]
        if char == "\\" and following:
            out.append(following if not quoted and following in "#!" else char + following)
            at += 2
            continue
        if char == '"':
            quoted = not quoted
        elif char in "!#" and not quoted:
            break
        out.append(char)
        at += 1
    return "".join(out).strip(_BLANK), not quoted


def brace(text: str) -> int:
    """Return the place of the first brace outside of "..."; the length of the text if there is none."""
    quoted = False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char in "{}" and not quoted:
            return at
    return len(text)


def _closing(text: str, start: int) -> int:
    return text.find(")", start)


def _sequence(text: str, hexadecimal: bool) -> tuple[list[str], Iterable[list[str]]]:
    """`NAME, [first, [step,]] last`: the name and its values; ValueError."""
    name, *numbers = (word.strip() for word in text.split(","))
    try:
        found = [int(number, 0) for number in numbers]
    except ValueError:
        raise ValueError("~SEQ takes whole numbers") from None
    match found:
        case [last]:
            first, step = (-1, -1) if last < 0 else (1, -1 if last < 1 else 1)
        case [first, last]:
            step = 1 if first <= last else -1
        case [first, step, last]:
            pass
        case _:
            raise ValueError("~SEQ takes a name and one to three numbers")
    if not name or step == 0 or (last - first) * step < 0 or (hexadecimal and min(first, last) < 0):
        raise ValueError("~SEQ leads nowhere")
    numbers_of = range(first, last + (1 if step > 0 else -1), step)
    return [name], ([f"{number:x}" if hexadecimal else str(number)] for number in numbers_of)


def _list(text: str) -> tuple[list[str], Iterable[list[str]]]:
    """`NAME, value, value` or `{NAME, NAME}, {value, value}, ...`; ValueError."""
    sets = [
        [word.strip() for word in (braced or single).split(",")]
        for braced, single in re.findall(r"\{([^}]*)\}|([^,{}]+)", text)
        if braced.strip() or single.strip()
    ]
    if len(sets) < 2 or not all(sets[0]) or any(len(values) > len(sets[0]) for values in sets):
        raise ValueError("~LST takes a name, or several in braces, and values for each")
    return sets[0], sets[1:]
