# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules that the daemon has in memory, for each capability that the configuration asks for.

Each module costs every router its memory. A capability's modules are imported inside the function that starts
it, and stand under its name in data/resident_modules. `python -m tests.unit.test_resident` writes that file.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
LIST = Path(__file__).with_name("data") / "resident_modules"
ORIGINAL_CTYPES = (3, 14)  # from this Python on there is no stand-in for it

# Capability -> the modules that functions of the daemon import. All of them are "everything on".
CAPABILITIES = {
    "always": ["tandemd", "daemon"],
    "a peer": [
        "peers", "channel.channel", "channel.events", "channel.vrrp_sources", "control.peer_roles",
        "doctor.exchange",
    ],
    "heartbeats": ["heartbeats"],
    "conntrack_sync": ["replication.replication"],
    "guarantee": ["gate.link"],
    "upgrades": ["upgrade.exchange"],
    "dhcp": ["dhcp.gateway"],
    "follow": ["follow.following"],
    "a session that is taken over": ["follow.takeover"],
    "vrrp_script": ["health.script"],
    "service": ["services.manager"],
    "a trial of a service": ["services.trial"],
    "check": ["checking", "health.prober_link"],
    "virtual_server": ["balancing", "effects.balancer"],
    "internet": ["core.internet"],
    "witness_policy": ["witness.voter"],
    "ubus": ["openwrt.integration"],
}  # fmt: skip
# What functions import in a process that ends with it: tandemd --check and --clear, and other programs.
ELSEWHERE = {
    "clear", "config.load", "plan.accounts", "plan.requirement", "plan.result", "lean.clib", "lean.dataclass",
    "lean.enumeration", "lean.json_codec", "health.certificate", "health.tls",
}  # fmt: skip
SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
for entries in sys.argv[2:]:
    before = set(sys.modules)
    for name in entries.split():
        __import__("tandem." + name)
    print(*sorted(name for name in sys.modules.keys() - before))
"""


def found() -> dict[str, tuple[list[str], list[str]]]:
    """The modules that each capability adds to those before it: Tandem's, and the standard library's."""
    argv = [sys.executable, "-IS", "-c", SHOW, str(SOURCE), *map(" ".join, CAPABILITIES.values())]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        name: (
            [one.removeprefix("tandem.") for one in line.split() if one.startswith("tandem.")],
            [one for one in line.split() if one.partition(".")[0] != "tandem"],
        )
        for name, line in zip(CAPABILITIES, said, strict=True)
    }


FOUND = found()


def listed() -> dict[str, list[str]]:
    return {
        name: modules.split()
        for name, _, modules in (block.partition(":") for block in LIST.read_text().split("\n\n"))
    }


@pytest.mark.parametrize("name", CAPABILITIES)
def test_a_capability_brings_the_modules_that_are_listed(name: str) -> None:
    expected = [one for one in listed()[name] if one != "lean.clib" or sys.version_info < ORIGINAL_CTYPES]
    assert FOUND[name][0] == expected, "fewer? write the list anew. More? only if this needs them"


def test_every_import_inside_a_function_is_a_capability() -> None:
    lazy = set()
    for own, _ in FOUND.values():
        for name in own:
            path = SOURCE / "tandem" / name.replace(".", "/")
            path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
            functions = (
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
            )
            for node in (node for function in functions for node in ast.walk(function)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    lazy.add(node.module.removeprefix("tandem."))
    lazy.discard("tandem.lean")
    entries = {name for entries in CAPABILITIES.values() for name in entries} - {"tandemd"}
    assert lazy - {"lean"} - ELSEWHERE == entries


def test_the_standard_librarys_large_modules_stay_out() -> None:
    """All that is loaded is C, or small, or loaded by the interpreter itself."""
    allowed = {
        "abc", "array", "atexit", "collections", "collections.abc", "ctypes", "dataclasses",
        "enum", "errno", "fcntl", "gc", "genericpath", "getopt", "gettext", "grp", "heapq", "io", "itertools",
        "json", "json.decoder", "marshal", "os", "os.path", "posix", "posixpath", "pwd", "resource",
        "select", "signal", "socket", "stat", "struct", "time", "types", "zlib",
    }  # fmt: skip
    if sys.version_info >= (3, 14):  # its ctypes imports these
        allowed |= {"ctypes._endian", "ctypes._layout", "sysconfig", "threading", "warnings"}
    loaded = {one for _, library in FOUND.values() for one in library}
    assert not {one for one in loaded - allowed if not one.startswith("_")}


if __name__ == "__main__":
    LIST.write_text("\n\n".join("\n".join([f"{name}:", *own]) for name, (own, _) in FOUND.items()) + "\n")
