# SPDX-License-Identifier: GPL-2.0-or-later
"""Rooms import only lower rooms: the arrows between packages are a list, and the list has no circle.

Every import counts, also one inside a function and one for types alone: who reads one room must not need the
rooms above it. `python -m tests.unit.test_layers` prints the table.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tandem

ROOT = Path(tandem.__path__[0])

# Modules beside the packages: the base of everything; the router; all others are the programs (`main`).
BASE = {
    "__init__", "bugs", "console", "files", "limits", "log", "loop", "nlmsg", "places",
    "programs", "scheduling", "status_schema",
}  # fmt: skip
ROUTER = {"admission", "hearing", "router", "scripts", "wire_watch"}

# Room -> rooms that it may import. None may import itself by a detour: that is the order of the rooms.
ARROWS = {
    "lean": "",
    "core": "",
    "base": "core",
    "config": "core base",
    "plan": "lean core base config",
    "effects": "core base config plan",
    "conntrack": "core base effects",
    "gate": "core base effects conntrack",
    "channel": "core base conntrack",
    "replication": "core base config effects conntrack gate channel",
    "dhcp": "core base config plan effects channel",
    "follow": "core base plan effects channel",
    "listen": "core config effects",
    "health": "core base config effects listen",
    "services": "core base config effects channel",
    "router": "core base config plan effects health",
    "importer": "base config",
    "control": "core base config plan effects conntrack router listen",
    "openwrt": "base config plan control",
    "setup": "base config listen control",
    "upgrade": "core base effects control",
    "doctor": "core base config plan effects channel listen control setup",
    "witness": "lean core base config channel health",
    "main": "lean core base config plan effects channel replication dhcp follow health services router "
    "control openwrt doctor upgrade witness",
    "rpcd": "base config plan control setup doctor",
}


def room(module: str) -> str:
    """The room of a module, whose name is relative to `tandem`."""
    first = module.partition(".")[0]
    if (ROOT / first).is_dir():
        return first
    return "base" if first in BASE else "router" if first in ROUTER else "main"


def modules() -> dict[str, set[str]]:
    """The imports of every module, with its package's and all names relative to `tandem`."""
    own: dict[str, Path] = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        own[name.removesuffix(".__init__")] = path
    return {
        name: {to for to in _imported(path) for to in (to, to.rpartition(".")[0]) if to in own and to != name}
        for name, path in own.items()
    }


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            package = ".".join(("tandem", *path.relative_to(ROOT).parent.parts)) if node.level else ""
            assert node.level < 2, f"{path}: import by the whole name"
            base = ".".join(filter(None, (package, node.module)))
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.removeprefix("tandem.") for name in names if name.startswith("tandem."))


def arrows() -> dict[tuple[str, str], set[str]]:
    """Every arrow between two rooms, with the modules that import."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, imported in MODULES.items():
        for to in imported:
            if room(to) != room(name):
                found[room(name), room(to)].add(f"{name} -> {to}")
    return found


MODULES = modules()
FOUND = arrows()


def test_every_module_has_a_room() -> None:
    assert {room(name) for name in MODULES} == set(ARROWS)


@pytest.mark.parametrize("name", ARROWS)
def test_a_room_imports_only_lower_rooms(name: str) -> None:
    allowed = ARROWS[name].split()
    assert not {to: modules for (own, to), modules in FOUND.items() if own == name and to not in allowed}


def test_the_list_has_no_circle() -> None:
    TopologicalSorter({name: allowed.split() for name, allowed in ARROWS.items()}).prepare()


def test_modules_have_no_circle() -> None:
    TopologicalSorter(MODULES).prepare()


if __name__ == "__main__":
    for own in ARROWS:
        print(f"{own:12} -> {' '.join(to for to in ARROWS if (own, to) in FOUND)}")
