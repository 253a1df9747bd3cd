# SPDX-License-Identifier: GPL-2.0-or-later
"""The template of the translations of luci-app-tandem, made from the messages in its views and its menu."""

from __future__ import annotations

import json
import re
from pathlib import Path

APP = Path(__file__).parents[2] / "openwrt-feed/luci-app-tandem"
_TEXT = r"'((?:[^'\\]|\\.)*)'"
_ONE = re.compile(rf"\b_\({_TEXT}\)")
_MANY = re.compile(rf"\bN_\([^,]+, {_TEXT}, {_TEXT}\)")


def texts() -> dict[str, str]:
    """Path and text of the template."""
    return {"openwrt-feed/luci-app-tandem/po/templates/tandem.pot": template()}


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
