# SPDX-License-Identifier: GPL-2.0-or-later
"""Reader of UCI's file syntax, by the rules of libuci's file.c.

A statement is `package NAME`, `config TYPE [NAME]`, `option NAME [VALUE]` or `list NAME [VALUE]`
(or its first letter), ended by the line's end or by an unquoted `;`. Words are split at white
space; '...' takes everything as it stands, "..." and unquoted text know the backslash, quoted
pieces join with what touches them, quoted values may span lines, and an unquoted `#` begins a
comment even inside a word. A backslash before the line's end joins two lines.

Where libuci drops a line that it can't read and goes on, this reader reports it and goes on; and
where libuci loses what follows an unquoted word and `;` (the NUL it writes there ends its own
scan), this reader reads it, because nothing may be ignored silently.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tandem.config.problem import Problem, shown

LARGEST_FILE = 1 << 20  # bytes
MOST_SECTIONS = 4096
MOST_ERRORS = 1000  # of one file; a file of another kind altogether must not fill the screen for ever

_BLANK = " \t\v\f\r"
_NAME = re.compile(r"[A-Za-z0-9_]+")  # uci_validate_name: what a shell variable can hold
_TYPE = re.compile(r"[!-~]+")  # uci_validate_type
_COMMAND = re.compile(r"[^ \t\n]*")  # taken as it stands, without quoting
_COMMANDS = {"package": 1, "config": 2, "option": 2, "list": 2}  # name: most arguments


@dataclass(frozen=True, slots=True)
class Value:
    """One value with the line where it begins."""

    text: str
    line: int


@dataclass(slots=True)
class Option:
    """An option or a list; `replaced` are the lines of earlier values that no longer count."""

    name: str
    is_list: bool
    values: list[Value]
    replaced: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Section:
    """A section with its options in the file's order; `name` None: anonymous."""

    type: str
    name: str | None
    line: int
    index: int  # among the sections of its type, as in UCI's @type[index]
    options: dict[str, Option] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name for people: the option `name`, the name of the section, or UCI's @type[index]."""
        option = self.options.get("name")
        if option and option.values[-1].text:
            return option.values[-1].text
        return self.name or f"@{self.type}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Document:
    """The sections that could be read, and the problems of the others."""

    sections: tuple[Section, ...]
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


class _Unreadable(Exception):
    """The rest of the statement (or of the file, when `fatal`) can't be read."""

    def __init__(self, line: int, reason: str, fatal: bool = False) -> None:
        super().__init__(reason)
        self.line, self.reason, self.fatal = line, reason, fatal


def read(text: str, file: str) -> Document:
    """Return all sections of the text; never raises, whatever the text holds."""
    if "\0" in text:
        return Document((), (Problem(file, text.count("\n", 0, text.index("\0")) + 1, "NUL byte"),), ())
    if len(text) > LARGEST_FILE:
        return Document((), (Problem(file, 0, f"larger than {LARGEST_FILE} bytes"),), ())
    return _Reader(text, file).read()


def quote(text: str) -> str:
    """Return the text as one single-quoted UCI word, as `uci export` writes it."""
    return "'" + text.replace("'", "'\\''") + "'"


def _until(valid: re.Pattern[str], text: str) -> str:
    """Return the text up to its first character that is not valid.

    The remaining text is not shown: when a quote is in the wrong place, a password may follow.
    """
    match = valid.match(text)
    end = match.end() + 1 if match else 1
    return shown(text[:end]) + ("..." if end < len(text) else "")


class _Reader:
    """The text, the position in it, and the sections read so far."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.at, self.line = 0, 1
        self.sections: list[Section] = []
        self.count: dict[str, int] = {}
        self.named: dict[str, Section] = {}
        self.current: Section | None = None  # None also after a `config` line that can't be read
        self.skipping = False  # options of a section whose `config` line is in error
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def read(self) -> Document:
        while self._next_statement():
            try:
                self._statement()
            except _Unreadable as problem:
                self.errors.append(Problem(self.file, problem.line, problem.reason))
                if problem.fatal or len(self.errors) >= MOST_ERRORS:
                    break
                self._skip_line()
        return Document(tuple(self.sections), tuple(self.errors), tuple(self.warnings))

    # characters

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        char = self._peek()
        self.at += 1
        if char == "\n":
            self.line += 1
        return char

    def _skip_blank(self) -> None:
        while (char := self._peek()) and char in _BLANK:
            self.at += 1

    def _skip_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def _next_statement(self) -> bool:
        while char := self._peek():
            if char == "#":
                self._skip_line()
            elif char in _BLANK or char in "\n;":
                self._take()
            else:
                return True
        return False

    # words

    def _word(self) -> Value | None:
        """Return the next word of this statement, or None at its end."""
        self._skip_blank()
        start = self.line
        if self._peek() in ("", "\n", ";", "#"):
            return None
        pieces: list[str] = []
        while (char := self._peek()) and char not in "\n;#" and char not in _BLANK:
            self.at += 1
            if char == "\\":
                pieces.append(self._escaped())
            elif char in "'\"":
                self._quoted(char, pieces)
            else:
                pieces.append(char)
        return Value("".join(pieces), start)

    def _escaped(self) -> str:
        if self.text.startswith("\r\n", self.at):
            self.at += 1
        char = self._take()
        return "" if char == "\n" else char

    def _quoted(self, mark: str, pieces: list[str]) -> None:
        start = self.line
        while char := self._take():
            if char == mark:
                return
            pieces.append(self._escaped() if char == "\\" and mark == '"' else char)
        raise _Unreadable(start, f"the quote {mark} that begins on this line is never closed", fatal=True)

    # statements

    def _statement(self) -> None:
        line = self.line
        word = _COMMAND.match(self.text, self.at).group()  # type: ignore[union-attr]
        command = next((name for name in _COMMANDS if word in (name, name[0])), None)
        if command is None:
            # the word itself is not shown: with a line torn apart, it may be a password
            raise _Unreadable(line, "a line begins with one of package, config, option and list")
        self.at += len(word)
        arguments = []
        while (argument := self._word()) is not None:
            arguments.append(argument)
        if not arguments or not arguments[0].text:
            what = "a type" if command == "config" else "a name"
            self._lose(command)
            raise _Unreadable(line, f"{command} needs {what}")
        if len(arguments) > _COMMANDS[command]:
            self._lose(command)
            raise _Unreadable(line, f"{command} has too many words; a value with blanks needs quotes")
        first = arguments[0].text
        second = arguments[1] if len(arguments) == 2 else None
        if command == "config":
            self._config(line, first, second.text if second else "")
        elif command != "package":
            self._option(line, command == "list", first, second)

    def _lose(self, command: str) -> None:
        if command == "config":
            self.current, self.skipping = None, True

    def _config(self, line: int, kind: str, name: str) -> None:
        self._lose("config")
        if not _TYPE.fullmatch(kind):
            raise _Unreadable(line, f"section type '{_until(_TYPE, kind)}' may hold printable ASCII only")
        if name and not _NAME.fullmatch(name):
            raise _Unreadable(
                line,
                f"section name '{_until(_NAME, name)}' may hold letters, digits and _ only"
                " (an option 'name' may hold more)",
            )
        if len(self.sections) >= MOST_SECTIONS:
            raise _Unreadable(line, f"more than {MOST_SECTIONS} sections", fatal=True)
        self.skipping = False
        before = self.named.get(name) if name else None
        if before is None:
            index = self.count.get(kind, 0)
            self.count[kind] = index + 1
            self.current = Section(kind, name or None, line, index)
            self.sections.append(self.current)
            if name:
                self.named[name] = self.current
        elif before.type != kind:
            self._lose("config")
            raise _Unreadable(
                line, f"section name '{name}' is taken by the {shown(before.type)} at line {before.line}"
            )
        else:
            self.current = before
            reason = f"continues the section of the same name at line {before.line}"
            self.warnings.append(Problem(self.file, line, reason, name, kind))

    def _option(self, line: int, is_list: bool, name: str, value: Value | None) -> None:
        if self.skipping:
            return
        if self.current is None:
            raise _Unreadable(line, "option or list before the first config line")
        if not _NAME.fullmatch(name):
            from tandem.config.options import without_secret  # not above: an error alone needs the table

            seen = without_secret(_until(_NAME, name))
            raise _Unreadable(line, f"option name '{seen}' may hold letters, digits and _ only")
        value = Value(value.text if value else "", line)
        before = self.current.options.get(name)
        if before is None:
            self.current.options[name] = Option(name, is_list, [value])
        elif is_list:  # as libuci: a list that follows an option of its name extends it
            before.values.append(value)
            before.is_list = True
        elif not value.text:  # as libuci: it changes nothing
            kept = before.values[-1].line
            reason = f"option {name} is empty, and UCI keeps the value of line {kept}"
            self.warnings.append(Problem(self.file, line, reason))
        else:
            before.replaced += [old.line for old in before.values]
            before.values, before.is_list = [value], False
