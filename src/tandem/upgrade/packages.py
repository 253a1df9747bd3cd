# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's packages in the words of opkg and of apk: pure.

Only packages of this list are ever upgraded, from the feeds that the router has configured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

NAMES = ("tandem", "tandem-gate", "tandem-tools", "tandem-import", "luci-app-tandem")

Upgradable = dict[str, tuple[str, str]]
"""The version that is installed, and the newer one in the feeds, by package."""

# tandem-0.2.0-r1 noarch {feeds/tandem} (GPL-2.0-or-later) [upgradable from: tandem-0.1.0-r1]
_APK = re.compile(r"(\S+?)-(\d\S*) .*\[upgradable from: (\S+)\]")
_OPKG = re.compile(r"(\S+) - (\S+) - (\S+)")  # tandem - 0.1.0-1 - 0.2.0-1


def _of_apk(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        if match := _APK.fullmatch(line.strip()):
            name, new, before = match.groups()
            yield name, before.removeprefix(f"{name}-"), new


def _of_opkg(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        if match := _OPKG.fullmatch(line.strip()):
            name, before, new = match.groups()
            yield name, before, new


@dataclass(frozen=True, slots=True)
class Manager:
    """A package manager: arguments after its name, and how its list of newer packages reads."""

    name: str
    refresh: tuple[str, ...]  # read the feeds' indexes
    listing: tuple[str, ...]  # list what could be upgraded
    upgrade: tuple[str, ...]  # the names of packages follow
    read: Callable[[str], Iterator[tuple[str, str, str]]]

    def upgradable(self, text: str) -> Upgradable:
        """Return Tandem's packages in the output of `listing`."""
        return {name: (before, new) for name, before, new in self.read(text) if name in NAMES}

    def by_hand(self) -> str:
        """Return the command that a person types."""
        return f"{self.name} update && {self.name} upgrade tandem"


# The one that is there is used: OpenWrt 25.12 and later have apk only, earlier ones opkg.
MANAGERS = (
    Manager("apk", ("update",), ("list", "--upgradable"), ("upgrade",), _of_apk),
    Manager("opkg", ("update",), ("list-upgradable",), ("upgrade",), _of_opkg),
)
