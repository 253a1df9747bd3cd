# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of other programs: which kind a text is, and what a keepalived.conf includes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

LARGEST = 1 << 20  # bytes of one file
MOST_FILES = 256  # that one line may include

DEFAULT_FILES = ("/etc/config/keepalived", "/etc/keepalived/keepalived.conf")  # the first that is there
MORE_FILES = ("/etc/config/dhcp", "/etc/conntrackd/conntrackd.conf")  # that go with it

UCI, KEEPALIVED, CONNTRACKD, UCARP = "uci", "keepalived.conf", "conntrackd.conf", "ucarp"


def kind_of(text: str) -> str:
    """What program a text is for, by the first thing in it that only one of them knows."""
    for line in text.split("\n"):
        line = line.strip()
        if re.match(r"(config|package)\s+\S", line):
            return UCI
        if re.match(r"(Sync|General|Stats|Helper)\s*(\{|$)", line):
            return CONNTRACKD
        if re.match(r"(\S*/)?ucarp\s+-", line) or re.match(r"(vip|vhid)\s+\S", line):
            return UCARP
        if "{" in line.partition("#")[0]:
            return KEEPALIVED
    return KEEPALIVED


def read(path: str) -> str:
    """The text of a file; OSError, ValueError. What is not UTF-8 becomes what can't be printed."""
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    return data.decode(errors="surrogateescape")


class Includes:
    """Finds the files of an `include` line below a root directory."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def below_root(self, path: str) -> str:
        """Where a path of the configuration is to be looked for."""
        return self._root + path if path.startswith("/") else path

    def __call__(self, pattern: str, file: str) -> Iterator[tuple[str, str]]:
        """Name and text of each; OSError or ValueError when one that is named can't be read."""
        directory = os.path.dirname(file)
        path = self.below_root(pattern) if pattern.startswith("/") else os.path.join(directory, pattern)
        if not glob.has_magic(pattern):
            yield path, read(path)
            return
        found = sorted(glob.glob(path))
        if len(found) > MOST_FILES:
            raise ValueError(f"more than {MOST_FILES} files")
        for name in found:
            if os.path.isfile(name):
                yield name, read(name)
