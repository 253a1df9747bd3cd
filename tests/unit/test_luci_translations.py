# SPDX-License-Identifier: GPL-2.0-or-later
"""The translations of luci-app-tandem are whole, and become what LuCI reads."""

from __future__ import annotations

import importlib.util
import re
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.tools.luci_files import APP, LANGUAGES, messages, option_messages


def _load() -> ModuleType:
    path = APP.parent / "standalone/po2lmo.py"
    spec = importlib.util.spec_from_file_location("po2lmo", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


po2lmo = _load()


def entries(data: bytes) -> dict[int, tuple[int, str]]:
    """The texts of an .lmo file by hash, each with the number of plural forms."""
    start = struct.unpack(">I", data[-4:])[0]
    index = [struct.unpack_from(">4I", data, at) for at in range(start, len(data) - 4, 16)]
    assert index == sorted(index)
    return {key: (number, data[offset : offset + length].decode()) for key, number, offset, length in index}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated(language: str) -> None:
    text = (APP / f"po/{language}/tandem.po").read_text(encoding="utf-8")
    found = {message.id: message for message in po2lmo.messages(text) if message.id}
    assert set(found) == set(messages())
    for message in found.values():
        assert message.plural == messages()[message.id][0]
        forms = [message.id] if message.plural is None else [message.id, message.plural]
        for original, number in zip(forms, sorted(message.texts), strict=True):
            translated = message.texts[number]
            assert translated, original
            assert re.findall(r"%[%sdh]", translated) == re.findall(r"%[%sdh]", original), original


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_texts_of_the_options_are_translated(language: str) -> None:
    """A new option appears in English, until somebody translates its texts."""
    text = (APP / f"po/{language}/tandem-options.po").read_text(encoding="utf-8")
    found = {message.id: message.texts[0] for message in po2lmo.messages(text) if message.id}
    assert set(found) == set(option_messages())  # `make generated`
    done = {original: translated for original, translated in found.items() if translated}
    print(f"{language}: {len(done)} of {len(found)} texts")
    assert len(done) >= 0.8 * len(found)
    for original, translated in done.items():
        assert re.findall(r"%[%sdh]", translated) == re.findall(r"%[%sdh]", original), original


def test_the_hash_is_that_of_luci() -> None:
    """Values of base.pl.lmo, as the po2lmo of LuCI's buildroot has made it."""
    for text, value in (("Save & Apply", 1628171988), ("Overview", 2914692759), ("Dismiss", 1794586857)):
        assert po2lmo.superfasthash(text.encode()) == value
    assert po2lmo.superfasthash("ü\xe9x".encode()) != po2lmo.superfasthash(b"u")


def test_a_catalogue_has_texts_plurals_and_their_rule(tmp_path: Path) -> None:
    target = tmp_path / "tandem.de.lmo"
    assert po2lmo.main([str(APP / "po/de/tandem.po"), str(target)]) == 0
    found = entries(target.read_bytes())
    assert found[0] == (0, "nplurals=2; plural=(n != 1);")
    assert found[po2lmo.superfasthash(b"Overview")] == (1, "Übersicht")
    assert found[po2lmo.superfasthash(b"%d finding.\x021")] == (2, "%d Befunde.")
    assert po2lmo.superfasthash(b"DHCP") not in found  # translated by itself
