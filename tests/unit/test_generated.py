# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that are made from tables are those that are committed; `make generated` writes them."""

from __future__ import annotations

import os

import pytest

from tests.tools import command_files, generate

TEXTS = generate.texts()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_file_is_current(name: str) -> None:
    assert (generate.ROOT / name).read_text(encoding="utf-8") == TEXTS[name], "make generated"


def test_links_are_current() -> None:
    directory = generate.ROOT / command_files.LINKS
    found = {f"{command_files.LINKS}/{path.name}": os.readlink(path) for path in directory.iterdir()}
    assert found == generate.links()
