# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of other programs: which kind a text is, and what a keepalived.conf includes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from itertools import islice

from tandem.importer.scripts import Surroundings

LARGEST = 1 << 20  # bytes of one file
MOST_FILES = 256  # that one line may include
MOST_BRACES = 32  # in such a line

DEFAULT_FILES = ("/etc/config/keepalived", "/etc/keepalived/keepalived.conf")  # the first that is there
MORE_FILES = ("/etc/config/dhcp", "/etc/conntrackd/conntrackd.conf")  # that go with it

UCI, KEEPALIVED, CONNTRACKD, UCARP = "uci", "keepalived.conf", "conntrackd.conf", "ucarp"


def kind_of(text: str) -> str:
    """Return the program that a text is for, by the first word in it that only one program knows."""
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


PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")  # of an OpenWrt router, and of every other one


def surroundings(root: str) -> Surroundings:
    """Return the programs and routing tables of the router below the root directory."""
    places = [*PATH] if root else list(dict.fromkeys([*os.environ.get("PATH", "").split(":"), *PATH]))

    def program(name: str) -> str | None:
        for place in places:
            path = f"{root.rstrip('/')}{place}/{name}"
            if place.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
                return f"{place}/{name}"
        return None

    return Surroundings(program, _routing_tables(root))


def _routing_tables(root: str) -> dict[str, int]:
    """The names of /etc/iproute2/rt_tables with their numbers; nothing where it can't be read."""
    try:
        text = read(f"{root.rstrip('/')}/etc/iproute2/rt_tables")
    except (OSError, ValueError):
        return {}
    found = (line.partition("#")[0].split() for line in text.splitlines())
    return {
        words[1]: int(words[0])
        for words in found
        if len(words) == 2 and words[0].isascii() and words[0].isdigit()
    }


class Includes:
    """Finds the files of an `include` line below a root directory."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def below_root(self, path: str) -> str:
        """Return the place of a path of the configuration below the root directory."""
        return self._root + path if path.startswith("/") else path

    def __call__(self, pattern: str, file: str) -> Iterator[tuple[str, str]]:
        """Name and text of each; OSError or ValueError when one that is named can't be read."""
        directory = os.path.dirname(file)
        path = self.below_root(pattern) if pattern.startswith("/") else os.path.join(directory, pattern)
        if pattern.count("{") > MOST_BRACES:
            raise ValueError(f"more than {MOST_BRACES} braces")
        patterns = list(islice(braces(path), MOST_FILES + 1))
        if patterns == [path] and not glob.has_magic(pattern):
            yield path, read(path)
            return
        found = [name for each in patterns for name in sorted(glob.glob(each))]
        if max(len(found), len(patterns)) > MOST_FILES:
            raise ValueError(f"more than {MOST_FILES} files")
        for name in found:
            if os.path.isfile(name):
                yield name, read(name)


def braces(pattern: str) -> Iterator[str]:
    """The patterns that csh's {a,b} stand for, as glob(3) has it with GLOB_BRACE, which keepalived asks for.

    `{}` and a brace that is never closed stand for themselves.
    """
    for start, char in enumerate(pattern):
        if char == "{" and not pattern.startswith("{}", start) and (parts := _parts(pattern, start + 1)):
            *choices, rest = parts
            for choice in choices:
                yield from braces(pattern[:start] + choice + rest)
            return
    yield pattern


def _parts(pattern: str, start: int) -> list[str]:
    """Return the texts between a brace's commas, and the text behind the brace; empty: it never ends."""
    depth, begin, parts = 0, start, []
    for at in range(start, len(pattern)):
        if pattern[at] == "{":
            depth += 1
        elif pattern[at] == "}" and depth:
            depth -= 1
        elif pattern[at] in ",}" and not depth:
            parts.append(pattern[begin:at])
            begin = at + 1
            if pattern[at] == "}":
                return [*parts, pattern[begin:]]
    return []
