# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a translation of LuCI from a .po file, as po2lmo of luci-base does.

    po2lmo.py INPUT.po OUTPUT.lmo

The file has the texts, each padded to 4 bytes; then the index, an entry of four big-endian numbers for each
text (hash of the message, number of its plural forms, offset, length), ordered by hash; and at the end the
offset of the index (lmo_entry_t in luci-base/src/lib/lmo.h). A message is known by Paul Hsieh's SuperFastHash
of its text; "\\x01" and its context, "\\x02" and the plural's number may follow. The rule for plurals has the
hash 0.
"""

from __future__ import annotations

import ast
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MASK = 0xFFFFFFFF


@dataclass
class Message:
    """A message of a .po file; `texts` are its translations by the number of the plural form."""

    id: str = ""
    plural: str | None = None
    context: str | None = None
    texts: dict[int, str] = field(default_factory=dict)


def main(argv: list[str]) -> int:
    match argv:
        case [source, target]:
            Path(target).write_bytes(catalogue(messages(Path(source).read_text(encoding="utf-8"))))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


def messages(text: str) -> Iterator[Message]:
    """Yield the messages; a block of lines without an empty one is a message."""
    for block in re.split(r"\n\s*\n", text):
        message, place = Message(), ""
        for line in block.splitlines():
            if not (match := re.fullmatch(r'(?:(msg\w+)(?:\[(\d+)\])?\s+)?(".*")', line.strip())):
                continue
            word, number, quoted = match.groups()
            value = ast.literal_eval(quoted)
            place = f"{word}{number or 0}" if word else place
            if place.startswith("msgstr"):
                index = int(place.removeprefix("msgstr"))
                message.texts[index] = message.texts.get(index, "") + value
            elif place.startswith("msgid_plural"):
                message.plural = (message.plural or "") + value
            elif place.startswith("msgid"):
                message.id += value
            elif place.startswith("msgctxt"):
                message.context = (message.context or "") + value
        if message.texts:
            yield message


def catalogue(found: Iterator[Message]) -> bytes:
    """Return the file of these messages; those without a translation are left out."""
    texts = bytearray()
    entries = []
    for message in found:
        for number, text in sorted(message.texts.items()):
            key = 0
            if message.id:
                suffix = "" if message.context is None else f"\x01{message.context}"
                suffix += "" if message.plural is None else f"\x02{number}"
                key = superfasthash((message.id + suffix).encode())
            elif rule := re.search(r"^Plural-Forms:\s*(.*)$", text, re.MULTILINE):
                text = rule[1]
            else:
                continue
            data = text.encode()
            if not data or (key and key == superfasthash(data)):
                continue
            entries.append((key, len(message.texts) if key else 0, len(texts), len(data)))
            texts += data + bytes(-len(data) % 4)
    index = b"".join(struct.pack(">4I", *entry) for entry in sorted(entries))
    return bytes(texts) + index + struct.pack(">I", len(texts)) if entries else b""


def superfasthash(data: bytes) -> int:
    """Return the 32-bit hash; bytes of the rest count as signed."""
    value, whole = len(data), len(data) & ~3
    for at in range(0, whole, 4):
        low, high = struct.unpack_from("<HH", data, at)
        value = (value + low) & MASK
        value = ((value << 16) ^ ((high << 11) ^ value)) & MASK
        value = (value + (value >> 11)) & MASK
    rest = data[whole:]
    if len(rest) >= 2:
        value = (value + struct.unpack_from("<H", rest)[0]) & MASK
    if len(rest) == 3:
        value ^= (value << 16) & MASK
        value = (value ^ (struct.unpack("b", rest[2:])[0] << 18)) & MASK
        value = (value + (value >> 11)) & MASK
    elif len(rest) == 2:
        value = (value ^ (value << 11)) & MASK
        value = (value + (value >> 17)) & MASK
    elif len(rest) == 1:
        value = (value + struct.unpack("b", rest)[0]) & MASK
        value = (value ^ (value << 10)) & MASK
        value = (value + (value >> 1)) & MASK
    for left, right in ((3, 5), (4, 17), (25, 6)):
        value = (value ^ (value << left)) & MASK
        value = (value + (value >> right)) & MASK
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
