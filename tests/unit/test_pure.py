# SPDX-License-Identifier: GPL-2.0-or-later
"""The pure modules stay pure: no clock, socket, file or process, directly or through each other."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import tandem

ROOT = Path(tandem.__path__[0])
IMPURE = {
    "asyncio", "ctypes", "fcntl", "grp", "multiprocessing", "os", "pathlib", "pwd", "pyroute2", "random",
    "scapy", "select", "selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "time",
}  # fmt: skip
# Whole packages, less the modules in them that reach out, and what they reach: a renamed module is checked.
SOCKETS, PROCESSES, FILES, LOOP = "sockets", "processes", "files", "the loop, by its type"
PACKAGES: dict[str, dict[str, str]] = {
    "core": {},
    "config": {"load": FILES, "sync_values": "files that hold a secret"},
    "plan": {
        "accounts": "the users of this router", "dnsmasq": FILES, "encode_rtnl": "pyroute2",
        "inputs": "an audit hook", "kept": FILES, "process": FILES, "requirement": PROCESSES,
        "runner": PROCESSES, "start": PROCESSES,
    },
    "channel": {
        "beat_peer": SOCKETS, "beat_socket": SOCKETS, "channel": LOOP, "connector": SOCKETS,
        "listeners": SOCKETS, "peer_link": SOCKETS, "peer_socket": SOCKETS,
    },
    "conntrack": {
        "ctnetlink": SOCKETS, "filter": "effects.netlink, which opens sockets", "flush": SOCKETS,
        "socket_filter": "effects.bpf, which attaches programs to sockets",
        "kernel_table": SOCKETS, "writer": SOCKETS,
    },
    "gate": {"link": PROCESSES, "process": SOCKETS, "rules": PROCESSES},
    "replication": {
        "configured": "the channel", "mirror": LOOP, "replication": LOOP, "survey": LOOP,
    },
    "health": {
        "arp": SOCKETS, "dns": SOCKETS, "http": SOCKETS, "local": FILES, "ping": SOCKETS, "probe": LOOP,
        "prober": SOCKETS, "prober_link": PROCESSES, "question": SOCKETS, "script": PROCESSES, "tcp": SOCKETS,
    },
    "services": {
        "guardian": PROCESSES, "manager": PROCESSES, "operations": PROCESSES, "record": FILES, "trial": LOOP,
    },
    "importer": {"command": FILES, "sources": FILES},
    "setup": {
        "dialogue": "a terminal", "files": FILES, "segment": SOCKETS,
        "service": PROCESSES, "steps": PROCESSES, "line_command": PROCESSES,
    },
    "upgrade": {
        "command": PROCESSES, "exchange": PROCESSES, "job": PROCESSES, "sysupgrade": PROCESSES,
        "watch": PROCESSES,
    },
    "doctor": {
        "collect": FILES, "command": PROCESSES, "exchange": PROCESSES, "listen": SOCKETS, "probes": SOCKETS,
        "ruleset": PROCESSES, "services": FILES, "visit": PROCESSES,
    },
}  # fmt: skip
# Pure modules may call these: who tests them gives them a file.
DOORS = {ROOT / "config" / "load.py", ROOT / "config" / "sync_values.py"}
PURE_MODULES = ("control/flows.py", "openwrt/blobmsg.py", "openwrt/resolvers.py")
PURE = [
    *(
        path
        for package, impure in PACKAGES.items()
        for path in sorted((ROOT / package).glob("*.py"))
        if path.stem not in impure
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


@functools.cache
def _own(path: Path) -> frozenset[str]:
    package = ".".join(("tandem", *path.relative_to(ROOT).parent.parts))
    return frozenset(imports(path.read_text(encoding="utf-8"), package))


def reached(path: Path, seen: set[Path]) -> set[str]:
    """The imports of `path`, and those of Tandem's own modules among them."""
    if path in seen or path in DOORS:
        return set()
    seen.add(path)
    names = set(_own(path))
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


def test_every_exception_is_one() -> None:
    """A module that has become pure leaves the list, and so does one that is gone."""
    listed = {ROOT / package / f"{name}.py" for package, names in PACKAGES.items() for name in names}
    assert not {path for path in listed if not path.exists()}
    inside = {path for path in listed - DOORS if not {n.split(".")[0] for n in reached(path, set())} & IMPURE}
    assert not inside


def test_this_test_sees_every_kind_of_import() -> None:
    source = "def f():\n import os.path\nfrom time import sleep\nfrom . import state\nfrom .timers import *\n"
    assert imports(source, "tandem.core") >= {"os.path", "time", "tandem.core.state", "tandem.core.timers"}
