# SPDX-License-Identifier: GPL-2.0-or-later
"""A Tandem configuration in the making: each of its lines knows what line it comes from.

`settle` has the real reader look at it and takes out, one after the other, what that refuses, each with
a note at its origin. What is left is what `tandem check` accepts, or it can't be made so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tandem.config import options
from tandem.config.load import load_text
from tandem.config.option import NoEffect, Option, Refused, Table
from tandem.config.problem import LIKE_A_SECRET, MASK, Problem, shown, suggestion
from tandem.config.schema import Config
from tandem.config.uci import quote

LONGEST_COMMENT = 1000
MOST_ROUNDS = 50  # of taking out what is refused
_KEPT = ("globals", "vrrp_instance")  # without what these need, there is no use in the rest


@dataclass(frozen=True, slots=True)
class Origin:
    """The file and line that something comes from, and its text there."""

    file: str
    line: int
    text: str = ""


@dataclass(slots=True)
class Entry:
    """One line of a section: an option or an item of a list."""

    name: str
    value: str
    origin: Origin
    is_list: bool = False


@dataclass(slots=True)
class Section:
    """A section of the Tandem configuration."""

    type: str
    origin: Origin
    name: str | None = None
    entries: list[Entry] = field(default_factory=list)
    floating: bool = False  # a sync group whose members' weights count in keepalived, too
    lists: set[str] = field(default_factory=set)  # names of the lists that the original has

    @property
    def table(self) -> Table:
        return options.SECTIONS[self.type]

    def get(self, name: str) -> Entry | None:
        """The entry of an option, the last one where there are several."""
        return next((entry for entry in reversed(self.entries) if entry.name == name), None)

    def set(self, name: str, value: str, origin: Origin) -> None:
        """Set an option; a later value replaces the earlier one."""
        self.remove(name)
        self.entries.append(Entry(name, value, origin))

    def add(self, name: str, value: str, origin: Origin) -> None:
        """Add an item to a list."""
        self.entries.append(Entry(name, value, origin, is_list=True))

    def drop(self, entry: Entry) -> None:
        """Take one entry away."""
        self.entries = [other for other in self.entries if other is not entry]

    def remove(self, *names: str) -> None:
        """Take options and lists away."""
        self.entries = [entry for entry in self.entries if entry.name not in names]


@dataclass(slots=True)
class Draft:
    """All sections, what was left out and why, and what the user should know."""

    sections: list[Section] = field(default_factory=list)
    left_out: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    lost: list[Problem] = field(default_factory=list)  # left out, though the result is unusable without it
    config: Config | None = None  # what `settle` has made of it

    def section(self, kind: str, origin: Origin) -> Section:
        """A new section."""
        self.sections.append(Section(kind, origin))
        return self.sections[-1]

    def globals(self, origin: Origin) -> Section:
        """The section of globals; made where it is missing."""
        for section in self.sections:
            if section.type == "globals":
                return section
        self.sections.insert(0, Section("globals", origin, "globals"))
        return self.sections[0]

    def put(self, section: Section, name: str, value: str, origin: Origin) -> None:
        """Set an option of a section if it can be written down."""
        if self._writable(name, value, origin):
            section.set(name, value, origin)

    def put_item(self, section: Section, name: str, value: str, origin: Origin) -> None:
        """Add an item to a list of a section if it can be written down."""
        if self._writable(name, value, origin):
            section.add(name, value, origin)

    def _writable(self, name: str, value: str, origin: Origin) -> bool:
        # One entry is one line: what the reader says about a line must lead back to its origin.
        if value.isprintable() and value:
            return True
        self.leave_out(origin, f"{name} can't hold it: it is empty, or has characters that can't be printed")
        return False

    def leave_out(self, origin: Origin, reason: str) -> None:
        """Note what has no equivalent."""
        self.left_out.append(_note(origin, reason))

    def lose(self, origin: Origin, reason: str) -> None:
        """Note something left out without which the result can't be used."""
        self.lost.append(_note(origin, reason))

    def remark(self, origin: Origin, reason: str) -> None:
        """Note what comes over but is not quite the same."""
        self.remarks.append(_note(origin, reason))

    def understood(self, section: Section, name: str, origin: Origin) -> bool:
        """Return whether Tandem has the option; note the reason when Tandem has not."""
        entry = section.table.get(name)
        if isinstance(entry, Option):
            return True
        if isinstance(entry, Refused):
            self.leave_out(origin, entry.reason)
        elif isinstance(entry, NoEffect):
            self.remark(origin, entry.reason)
        else:
            known = [key for key, value in section.table.items() if isinstance(value, Option)]
            self.leave_out(origin, "unknown keyword" + suggestion(name, known))
        return False

    # the text

    def render(self, names: list[str]) -> str:
        """The configuration in UCI syntax; its head says from which files, and what was left out."""
        head = [f"Imported from {', '.join(names)}."]
        if missing := sorted((*self.left_out, *self.lost), key=_position):
            head += ["", "Not imported:", *(f"  {problem}" for problem in missing)]
        comments = [f"# {shown(text, LONGEST_COMMENT)}".rstrip() for text in head]
        return "\n".join([*comments, "", *(text for text, _, _ in self._lines())]) + "\n"

    def _lines(self) -> list[tuple[str, Section | None, Entry | None]]:
        lines: list[tuple[str, Section | None, Entry | None]] = []
        for section in self.sections:
            if lines:
                lines.append(("", None, None))
            name = f" {quote(section.name)}" if section.name else ""
            lines.append((f"config {section.type}{name}", section, None))
            for entry in section.entries:
                word = "list" if entry.is_list else "option"
                lines.append((f"\t{word} {entry.name} {quote(entry.value)}", section, entry))
        return lines

    # what Tandem's own reader says to it

    def settle(self) -> tuple[Problem, ...]:
        """Take out what Tandem refuses. The errors that remain, at their origins; empty: it is usable."""
        errors: tuple[Problem, ...] = ()
        for _ in range(MOST_ROUNDS):
            lines = self._lines()
            loaded = load_text("".join(text + "\n" for text, _, _ in lines), "tandem")
            if not loaded.errors:
                self.config = loaded.config
                self.remarks += [self._at_origin(problem, lines) for problem in loaded.warnings]
                break
            if not self._take_out(loaded.errors, lines):
                errors = tuple(self._at_origin(problem, lines) for problem in loaded.errors)
                break
        else:
            errors = (Problem("tandem", 0, "there is no end to what is wrong with it"),)
        self.left_out = sorted(dict.fromkeys(self.left_out), key=_position)
        self.lost = sorted(dict.fromkeys(self.lost), key=_position)
        self.remarks = sorted(dict.fromkeys(self.remarks), key=_position)
        return errors

    def _take_out(
        self, errors: tuple[Problem, ...], lines: list[tuple[str, Section | None, Entry | None]]
    ) -> bool:
        """Return whether there was something to take out."""
        gone: set[int] = set()
        for problem in errors:
            _, section, entry = lines[problem.line - 1] if problem.line else ("", None, None)
            thing: object = entry
            if section is None or (section.type in _KEPT and (entry is None or _is_required(section, entry))):
                continue
            if entry is None or _is_required(section, entry):
                thing = section
            if id(thing) not in gone:
                gone.add(id(thing))
                self.left_out.append(self._at_origin(problem, lines))
        self.sections = [section for section in self.sections if id(section) not in gone]
        for section in self.sections:
            section.entries = [entry for entry in section.entries if id(entry) not in gone]
        self.sections = [section for section in self.sections if section.entries]
        return bool(gone)

    def _at_origin(self, problem: Problem, lines: list[tuple[str, Section | None, Entry | None]]) -> Problem:
        _, section, entry = lines[problem.line - 1] if problem.line else ("", None, None)
        if entry is not None:
            return replace(problem, file=entry.origin.file, line=entry.origin.line)
        if section is not None:
            return replace(problem, file=section.origin.file, line=section.origin.line)
        return problem


def _is_required(section: Section, entry: Entry) -> bool:
    """Return whether the section means nothing without the entry; the last item of a list counts."""
    known = section.table.get(entry.name)
    if not (isinstance(known, Option) and known.required):
        return False
    return not entry.is_list or sum(other.name == entry.name for other in section.entries) == 1


def _position(problem: Problem) -> tuple[str, int]:
    return problem.file, problem.line


def _note(origin: Origin, reason: str) -> Problem:
    text = f"'{shown(origin.text)}': " if origin.text else ""
    return Problem(origin.file, origin.line, text + reason)


def masked(words: list[str]) -> str:
    """The words of a statement for messages, without what may be a password."""
    if any(part in words[0].lower() for part in LIKE_A_SECRET) and len(words) > 1:
        return f"{words[0]} {MASK}"
    return " ".join(words)
