# SPDX-License-Identifier: GPL-2.0-or-later
"""The translations of luci-app-tandem: the template of the messages in its views and its menu, and the
template and the translations of the option table's texts. These lose what is gone and gain what is new.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tandem.control.options_command import metadata

APP = Path(__file__).parents[2] / "openwrt-feed/luci-app-tandem"
_TEXT = r"'((?:[^'\\]|\\.)*)'"
_ONE = re.compile(rf"\b_\({_TEXT}\)")
_MANY = re.compile(rf"\bN_\([^,]+, {_TEXT}, {_TEXT}\)")


LANGUAGES = ("de", "it")
TABLE = "openwrt-feed/luci-app-tandem/htdocs/luci-static/resources/tandem/options"
# What a page shows of an option; what most options have comes first.
_COLUMNS = (
    "name", "type", "help", "default", "allowed", "list", "required", "min", "max", "unit", "choices",
    "secret",
)  # fmt: skip


def texts() -> dict[str, str]:
    """Path and text of each file."""
    directory = "openwrt-feed/luci-app-tandem/po"
    return {
        f"{directory}/templates/tandem.pot": template(),
        f"{directory}/templates/tandem-options.pot": option_texts(),
        **{f"{directory}/{language}/tandem-options.po": option_texts(language) for language in LANGUAGES},
        **option_tables(),
    }


def option_tables() -> dict[str, str]:
    """The option table as the settings page loads it: an index, and the rows of each type of section."""
    sections = metadata()
    index = {"columns": _COLUMNS, "sections": [section["name"] for section in sections]}
    return {
        f"{TABLE}/index.json": json.dumps(index, separators=(",", ":")) + "\n",
        **{f"{TABLE}/{section['name']}.json": _rows(section["options"]) for section in sections},
    }


def _rows(options: list[dict[str, Any]]) -> str:
    """The values of `columns` of each option, one row a line; what is missing at the end is null or false."""
    rows = []
    for option in options:
        chosen = option["type"] == "boolean" or "choices" in option  # a page shows the choice instead
        row = [None if name == "allowed" and chosen else option.get(name) or None for name in _COLUMNS]
        while row[-1] is None:
            row.pop()
        rows.append(json.dumps(row, separators=(",", ":"), ensure_ascii=False))
    return "[\n" + ",\n".join(rows) + "\n]\n"


def option_messages() -> dict[str, str]:
    """Each text of the option table as the settings show it, with the place where it is first."""
    found: dict[str, str] = {}
    for section in metadata():
        for row in section["options"]:
            place = f"{section['name']}.{row['name']}"
            found.setdefault(row["help"], place)
            if row["type"] in ("integer", "decimal", "size"):
                found.setdefault(re.sub(r"\d+(\.\d+)?", "%s", row["allowed"]), place)
            elif row["type"] != "boolean" and "choices" not in row:
                found.setdefault(row["allowed"], place)
    return {text: place for text, place in found.items() if text not in messages()}


def option_texts(language: str = "") -> str:
    """The template, or the file of a language with the translations that there are."""
    path = APP / f"po/{language}/tandem-options.po"
    old = path.read_text(encoding="utf-8") if language and path.exists() else ""
    found = dict(re.findall(r'^msgid (".+")\nmsgstr (".+")$', old, re.MULTILINE))
    head = (APP / f"po/{language}/tandem.po").read_text(encoding="utf-8") if language else template()
    parts = [head[: head.index("\n\n") + 1]]
    for text, place in option_messages().items():
        name = quoted(text)
        parts.append(f"#: {place}\nmsgid {name}\nmsgstr {found.get(name, quoted(''))}\n")
    return "\n".join(parts)


def messages() -> dict[str, tuple[str | None, list[str]]]:
    """Each message with its plural, or None, and the files that have it."""
    found: dict[str, tuple[str | None, list[str]]] = {}

    def add(text: str, plural: str | None, place: str) -> None:
        places = found.setdefault(_plain(text), (plural and _plain(plural), []))[1]
        if place not in places:
            places.append(place)

    for path in sorted((APP / "htdocs").rglob("*.js")):
        source, place = path.read_text(encoding="utf-8"), str(path.relative_to(APP))
        for match in _ONE.finditer(source):
            add(match[1], None, place)
        for match in _MANY.finditer(source):
            add(match[1], match[2], place)
    for path in sorted((APP / "root/usr/share/luci/menu.d").iterdir()):
        for row in json.loads(path.read_text()).values():
            add(row["title"], None, str(path.relative_to(APP)))
    return found


def _plain(text: str) -> str:
    """The text of a literal of JavaScript."""
    return re.sub(
        r"\\(u[0-9a-f]{4}|.)",
        lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1].replace("n", "\n"),
        text,
    )


def template() -> str:
    """The .pot file."""
    parts = ['msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n']
    for text, (plural, places) in messages().items():
        lines = [f"#: {place}" for place in places]
        lines.append(f"msgid {quoted(text)}")
        if plural is None:
            lines.append('msgstr ""')
        else:
            lines += [f"msgid_plural {quoted(plural)}", 'msgstr[0] ""', 'msgstr[1] ""']
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def quoted(text: str) -> str:
    """The text as a string of gettext."""
    return json.dumps(text, ensure_ascii=False)
