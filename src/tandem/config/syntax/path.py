# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths to a peer: its addresses, each with the interface and the source to reach it by."""

from __future__ import annotations

from typing import Any

from tandem.config import values
from tandem.config.schema import PeerPath
from tandem.config.syntax.address import is_link_local, zoned
from tandem.config.syntax.words import Family, Once, Reader, Words, pairs_text, unknown_word


def read_paths(text: str) -> tuple[PeerPath, ...]:
    """`ADDRESS [dev NAME] [src ADDRESS]`, once or several times; `ADDRESS%NAME` is dev as well.

    A link-local address without dev stays without a zone.
    """
    words = Words(text)
    readers: dict[str, tuple[str, Reader]] = {
        "dev": ("interface", values.device),
        "src": ("source", values.ADDRESS.read),
    }
    found: list[Once] = []
    for word in words:
        if word in readers:
            if not found:
                raise ValueError(f"'{word}' says something about an address, which stands before it")
            key, read = readers[word]
            found[-1][key] = words.argument(word, read)
        elif found and not (word[:1].isdigit() or ":" in word):
            raise unknown_word(word, set(readers), set())
        else:
            found.append(_path_address(word))
    if not found:
        raise ValueError("there is no address in it")
    return tuple(_path(fields) for fields in found)


def _path_address(word: str) -> Once:
    text, percent, zone = word.partition("%")
    fields = Once(address=str(values.unicast(values.host(text))))
    if percent:
        if not is_link_local(text):
            raise ValueError(f"'{word}': only link-local addresses have a zone (%...)")
        fields["interface"] = values.device(zone)
    return fields


def _path(fields: dict[str, Any]) -> PeerPath:
    address, source = fields["address"], fields.get("source")
    interface = fields.get("interface")
    if source is not None:
        family = Family()
        family.host(address)
        family.host(source)
        if source == address:
            raise ValueError("src is the peer's own address")
        if is_link_local(source) and not interface:
            raise ValueError(f"'src {source}': a link-local address needs dev")
    return PeerPath(zoned(address, interface), source and zoned(source, interface), interface)


def write_path(found: PeerPath) -> str:
    """The path as `peer` and the address of a peer section take it."""
    address, source = (text and text.partition("%")[0] for text in (found.address, found.source))
    return f"{address}" + pairs_text(("dev", found.interface), ("src", source))
