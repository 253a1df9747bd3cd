# SPDX-License-Identifier: GPL-2.0-or-later
"""The sections of a UCI document, read with the tables of `options`; reports every problem of one option."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tandem.config import options, uci
from tandem.config.option import Option, Refused, Table
from tandem.config.problem import LIKE_A_SECRET, MASK, Problem, nearest, suggestion
from tandem.config.values import FALSE


class TooMany(Exception):
    """The file has so many errors that it must be of another kind altogether."""


@dataclass(slots=True)
class Report:
    """Collects the problems of one file."""

    file: str
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        if len(self.errors) >= uci.MOST_ERRORS:
            raise TooMany
        self.errors.append(problem)

    def warn(self, problem: Problem) -> None:
        if len(self.warnings) < uci.MOST_ERRORS:
            self.warnings.append(problem)


@dataclass(frozen=True, slots=True)
class Item:
    """One value of an option, with its text and its line in the file."""

    value: Any
    text: str
    line: int


@dataclass(slots=True)
class Parsed:
    """A section with the values of its options; those in error are absent."""

    section: uci.Section
    table: Table
    report: Report
    items: dict[str, list[Item]] = field(default_factory=dict)
    resolved: dict[str, list[Item]] = field(
        default_factory=dict
    )  # lists with the names replaced by what they name

    @property
    def name(self) -> str:
        """The option `name`, otherwise the section's name; empty when it has neither."""
        items = self.items.get("name")
        return items[0].value if items else self.section.name or ""

    @property
    def key(self) -> str:
        """The name; a section without a name, which is an error, is told from others by its label."""
        return self.name or self.section.label

    def given(self, option: str) -> bool:
        """Whether the file sets the option, rightly or wrongly."""
        found = self.section.options.get(option)
        return found is not None and any(value.text for value in found.values)

    def get(self, option: str) -> Any:
        """Return the value of an option, or its default."""
        items = self.items.get(option)
        if items:
            return items[0].value
        entry = self.table[option]
        assert isinstance(entry, Option)
        return None if entry.default is None else entry.kind.read(entry.default)

    def fields(self, part: str = "") -> dict[str, Any]:
        """Return the fields of the settings, or of a part of them, that options set or have a default for."""
        found = {}
        for option, entry in self.table.items():
            if not isinstance(entry, Option) or not entry.field:
                continue
            owner, _, name = entry.field.rpartition(".")
            value = tuple(item.value for item in self.all(option)) if entry.many else self.get(option)
            if owner == part and value is not None:
                found[name] = value
        return found

    def all(self, option: str) -> list[Item]:
        """Return the items of a list."""
        return self.items.get(option, [])

    def line(self, option: str | None = None) -> int:
        """Return the line of the option; without one, the line at which the section begins."""
        found = self.section.options.get(option) if option else None
        return found.values[-1].line if found else self.section.line

    def problem(self, reason: str, option: str | None = None, item: Item | None = None) -> Problem:
        """Return a problem of this section, of one of its options, or of one item of a list."""
        text = None
        if item is not None:
            text = item.text
        elif option and self.given(option):
            text = self.section.options[option].values[-1].text
        entry = self.table.get(option) if option else None
        if text is not None and isinstance(entry, Option) and entry.secret:
            text = MASK
        line = item.line if item else self.line(option)
        return Problem(self.report.file, line, reason, self.section.label, self.section.type, option, text)

    def error(self, reason: str, option: str | None = None, item: Item | None = None) -> None:
        self.report.add(self.problem(reason, option, item))

    def warn(self, reason: str, option: str | None = None, item: Item | None = None) -> None:
        self.report.warn(self.problem(reason, option, item))


def read(section: uci.Section, report: Report) -> Parsed | None:
    """Return the section with its options converted; None when Tandem has no such section."""
    known = options.SECTIONS.get(section.type)
    parsed = Parsed(section, known or {}, report)
    if known is None:
        reason = options.REFUSED_SECTIONS.get(section.type)
        parsed.error(reason or "unknown section type" + suggestion(section.type, options.SECTIONS))
        return None
    for option in section.options.values():
        _read_option(parsed, option)
    for name, entry in known.items():
        if isinstance(entry, Option) and entry.required and not parsed.given(name):
            parsed.error(f"is missing: {entry.kind.allowed}", name)
    return parsed


def _read_option(parsed: Parsed, option: uci.Option) -> None:
    entry = parsed.table.get(option.name)
    if entry is None:
        _unknown(parsed, option)
        return
    for line in option.replaced:
        shown = Item(None, option.values[-1].text, option.values[-1].line)
        parsed.warn(f"is given twice: this one counts, not the one at line {line}", option.name, shown)
    values = [value for value in option.values if value.text]
    if len(values) < len(option.values):
        parsed.warn("is empty, which to UCI is the same as not set", option.name)
    if isinstance(entry, Refused):
        for value in values:
            if value.text.lower() not in FALSE:
                parsed.error(entry.reason, option.name, Item(None, value.text, value.line))
    elif not isinstance(entry, Option):
        for value in values:
            if value.text.lower() not in FALSE:
                parsed.warn(entry.reason, option.name, Item(None, value.text, value.line))
    elif len(values) > 1 and not entry.many:
        item = Item(None, values[1].text, values[1].line)
        parsed.error("is one value, not a list", option.name, item)
    else:
        _convert(parsed, option.name, entry, values)


def _convert(parsed: Parsed, name: str, entry: Option, values: list[uci.Value]) -> None:
    items = []
    for value in values:
        try:
            items.append(Item(entry.kind.read(value.text), value.text, value.line))
        except ValueError as error:
            parsed.error(str(error), name, Item(None, value.text, value.line))
    if items:
        parsed.items[name] = items


def _unknown(parsed: Parsed, option: uci.Option) -> None:
    understood = [name for name, entry in parsed.table.items() if isinstance(entry, Option)]
    match = nearest(option.name, understood)
    meant = parsed.table.get(match or "")
    secret = isinstance(meant, Option) and meant.secret
    secret |= any(word in option.name.lower() for word in LIKE_A_SECRET)
    reason = "unknown option" + (f"; did you mean '{match}'?" if match else "")
    for value in option.values:
        parsed.error(
            reason,
            options.without_secret(option.name),
            Item(None, MASK if secret else value.text, value.line),
        )
