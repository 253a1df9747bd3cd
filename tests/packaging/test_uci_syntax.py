# SPDX-License-Identifier: GPL-2.0-or-later
"""The UCI reader takes files as OpenWrt's `uci` does: beside the real one, and beside what it once said.

It has to refuse what `uci` refuses, and to find the same in all else. An empty option is the same to UCI as
none; the reader keeps it, for a warning (config/read.py).
After new cases: TANDEM_UCI_RECORD=1 python -m pytest tests/packaging/test_uci_syntax.py
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tandem.config import uci
from tests.openwrt_pieces import USR, needs
from tests.packaging.uci_cases import CASES

RECORDED = Path(__file__).parent / "data/uci_recorded.json"
UCI = USR / "bin/uci"
# name or @type[index]; option; quoted words, or the type of a section
_SHOWN = re.compile(
    r"^case\.(@.+?\[\d+\]|[^.=]+)(?:\.([^.=]+))?=((?:'(?:[^']|'\\'')*'(?: (?=')|$))+|[^'\n]*)$", re.MULTILINE
)
# libuci loses or refuses most of what follows a `;` on a line, depending on what stands before it. The reader
# reads it: nothing may be ignored silently. And a word too many is one, even if it is empty.
DEVIATIONS = {
    "semicolon_after_quotes",
    "semicolon_after_words",
    "semicolon_after_an_option",
    "too_many_but_empty",
}


def by_uci(data: bytes, directory: Path) -> dict[str, Any]:
    """Return the sections that the real uci reads in a file, or that it refuses the file."""
    (directory / "case").write_bytes(data)

    # A save directory of its own, or changes of this machine's would be mixed in.
    argv = [str(UCI), "-c", str(directory), "-t", str(directory / "save"), "show", "case"]
    done = subprocess.run(argv, capture_output=True, timeout=10)
    if done.returncode:
        return {"refused": True}
    return {"refused": False, "sections": parse(done.stdout.decode(errors="surrogateescape"))}


def parse(shown: str) -> list[list[Any]]:
    """[type, name or None, [[option, value or values], ...]] of each section in the output of `uci show`."""
    sections: list[list[Any]] = []
    for section, option, value in _SHOWN.findall(shown):
        if not option:
            sections.append([value, None if section.startswith("@") else section, []])
            continue
        words = [word.replace("'\\''", "'") for word in re.findall(r"'((?:[^']|'\\'')*)'(?= '|$)", value)]
        sections[-1][2].append([option, words])
    return sections


def by_reader(data: bytes) -> dict[str, Any]:
    document = uci.read(data.decode(errors="surrogateescape"), "case")
    if document.errors:
        return {"refused": True}
    return {
        "refused": False,
        "sections": [[section.type, section.name, options(section)] for section in document.sections],
    }


def options(section: uci.Section) -> list[list[Any]]:
    found = [(option, [value.text for value in option.values]) for option in section.options.values()]
    return [[option.name, texts] for option, texts in found if option.is_list or texts[-1:] != [""]]


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


@needs(UCI)
@pytest.mark.parametrize("name", CASES)
def test_beside_the_real_uci(name: str, tmp_path: Path) -> None:
    real = by_uci(CASES[name], tmp_path)
    if os.environ.get("TANDEM_UCI_RECORD"):
        results = (recorded() if RECORDED.exists() else {}) | {name: real}
        text = json.dumps({case: results[case] for case in CASES if case in results}, indent=1)
        RECORDED.write_text(text + "\n")
    assert real == recorded()[name], "the record is of another uci"
    if name not in DEVIATIONS:
        assert by_reader(CASES[name]) == real


@pytest.mark.parametrize("name", CASES)
def test_beside_what_uci_said(name: str) -> None:
    if name not in DEVIATIONS:
        assert by_reader(CASES[name]) == recorded()[name]
