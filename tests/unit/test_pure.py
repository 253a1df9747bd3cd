# SPDX-License-Identifier: GPL-2.0-or-later
"""The pure modules stay pure: no clock, socket, file or process, directly or through each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tandem

ROOT = Path(tandem.__path__[0])
IMPURE = {
    "asyncio", "ctypes", "multiprocessing", "os", "pathlib", "pyroute2", "random", "scapy", "select",
    "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
# Whole packages, less the modules in them that reach out; a renamed module keeps its check.
PURE_PACKAGES = {
    "core": set(),
    "conntrack": {"aside.py", "ctnetlink.py", "filter.py", "kernel_table.py", "writer.py"},
}
PURE_MODULES = (
    "config/diff.py", "config/schema.py", "channel/session.py", "channel/topics.py", "gate/hold.py",
    "replication/cache.py", "replication/health.py", "replication/journal.py", "replication/ownership.py",
    "replication/pacer.py", "replication/tables.py",
)  # fmt: skip
PURE = [
    *(
        p
        for name, impure in PURE_PACKAGES.items()
        for p in sorted((ROOT / name).glob("*.py"))
        if p.name not in impure
    ),
    *(ROOT / name for name in PURE_MODULES),
]


def imports(source: str, package: str) -> set[str]:
    """Every module that `source`, a module of `package`, names in an import anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            # `from tandem.core import state` names a module, `from time import sleep` names its parent
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def reached(path: Path, seen: set[Path]) -> set[str]:
    """What `path` imports, and what Tandem's own modules among that import."""
    if path in seen:
        return set()
    seen.add(path)
    package = ".".join(("tandem", *path.relative_to(ROOT).parent.parts))
    names = imports(path.read_text(encoding="utf-8"), package)
    for name in sorted(names):
        parts = name.split(".")
        if parts[0] == "tandem":
            for own in (
                ROOT.joinpath(*parts[1:]).with_suffix(".py"),
                ROOT.joinpath(*parts[1:], "__init__.py"),
            ):
                if len(parts) > 1 and own.exists():
                    names |= reached(own, seen)
    return names


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_nothing_impure(path: Path) -> None:
    impure = {name for name in reached(path, set()) if name.split(".")[0] in IMPURE}
    assert not impure


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_opens_no_file(path: Path) -> None:
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert not [
        call.id for call in calls if isinstance(call, ast.Name) and call.id in {"open", "print", "input"}
    ]


def test_this_test_sees_every_kind_of_import() -> None:
    source = "def f():\n import os.path\nfrom time import sleep\nfrom . import state\nfrom .timers import *\n"
    assert imports(source, "tandem.core") >= {"os.path", "time", "tandem.core.state", "tandem.core.timers"}
