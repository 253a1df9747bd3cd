# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of scopes, tables and protocols are those that iproute2 knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.config.syntax.words import PROTOCOLS, SCOPES, TABLES

UNUSABLE = {"unspec", "nowhere"}  # no route has them
DIRECTORIES = (Path("/etc/iproute2"), Path("/usr/share/iproute2"), Path("/usr/lib/iproute2"))


def of_iproute2(name: str) -> dict[str, int]:
    """The numbers of a file of iproute2, by name."""
    path = next((directory / name for directory in DIRECTORIES if (directory / name).exists()), None)
    if path is None:
        pytest.skip(f"this iproute2 has no {name}")
    lines = [line.split() for line in path.read_text().splitlines() if line and line[0] != "#"]
    return {words[1]: int(words[0], 0) for words in lines}


@pytest.mark.parametrize(
    ("ours", "name"), [(PROTOCOLS, "rt_protos"), (SCOPES, "rt_scopes"), (TABLES, "rt_tables")]
)
def test_names_are_those_of_iproute2(ours: dict[str, int], name: str) -> None:
    theirs = {word: number for word, number in of_iproute2(name).items() if word not in UNUSABLE}
    assert theirs == {word: number for word, number in ours.items() if word in theirs}


def test_a_protocol_that_iproute2_may_not_know_has_the_number_of_the_kernel() -> None:
    """linux/rtnetlink.h; iproute2 has no name for the first one, and an older one none for the second."""
    assert (PROTOCOLS["mrouted"], PROTOCOLS["ovn"]) == (17, 84)
