# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program of Tandem where modules are absent: PROGRAM ABSENT,... PATH,... ARGUMENT...

PROGRAM is a file, or `-c` and a text, or `planner`, or `every`: then each import that stands anywhere in
the package is done.
The programs that it would start itself are not seen.
"""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# A check of kind https needs python3-openssl, and says so; the module of SHA-256 has another name since 3.12.
OPTIONAL = ("ssl", "tandem.health.tls")
SRC = Path(__file__).parents[2] / "src"


class Absent:
    """A finder that finds nothing, and lets nobody else find it."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        if name.split(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(argv: Sequence[str]) -> int:
    program, absent, path, *arguments = argv
    for name in absent.split(","):
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent(set(absent.split(","))))  # type: ignore[arg-type]
    sys.path[:0] = [*filter(None, path.split(",")), str(SRC)]
    sys.argv = [program, *arguments]
    if program == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(arguments[0], {"__name__": "__main__"})  # noqa: S102
        return 0
    if program == "every":
        return every()
    if program == "planner":
        from tandem.plan.start import main as plan

        return plan(arguments)
    runpy.run_path(program, run_name="__main__")
    return 0


def every() -> int:
    """Import all that the package imports, at the top of a module or within a function."""
    failed = 0
    for file in sorted(SRC.glob("tandem/**/*.py")):
        for name in sorted(imports(ast.parse(file.read_text()))):
            if (
                name.split(".")[0] in ("pyroute2", "scapy", "netfilterqueue")
                or foreign(name)
                or name in OPTIONAL
            ):
                continue
            try:
                import_module(name)
            except ImportError as error:
                print(f"{file.relative_to(SRC)}: {name}: {error}")
                failed = 1
    return failed


def foreign(name: str) -> bool:
    """Modules of Tandem that need what the package tandem-tools or a planner has."""
    planner = ("encode_rtnl", "messages", "process")
    return name in ("tandem.listen.capture", *(f"tandem.plan.{part}" for part in planner))


def imports(node: ast.AST) -> set[str]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return set()
        case ast.Import(names=names):
            return {name.name for name in names}
        case ast.ImportFrom(module=str(module), level=0):
            return {module}
    return {name for child in ast.iter_child_nodes(node) for name in imports(child)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
