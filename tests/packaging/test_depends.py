# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages depend on what their modules import, and on nothing else (tests/packaging/parts.py)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging import packages
from tests.packaging.packages import REPOSITORY
from tests.packaging.parts import PACKAGE

FOREIGN = {"pyroute2", "scapy", "netfilterqueue"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level modules that a file imports when it runs, and whether it takes ImportError for an answer."""

    def walk(node: ast.AST, optional: bool) -> Iterator[tuple[str, bool]]:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.Import(names=names):
                yield from ((name.name.split(".")[0], optional) for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0], optional
            case ast.Assign(value=ast.Constant(value=str(name))) if name in FOREIGN:
                yield name, optional  # it is loaded in parts, by name
            case ast.Try(handlers=handlers):
                optional = optional or any("ImportError" in ast.unparse(h.type or h) for h in handlers)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, optional)

    yield from walk(ast.parse(path.read_text()), False)


# Checks by HTTPS say that python3-openssl is to be installed: it takes 0.5 MiB of flash.
ON_REQUEST = {"ssl"}


def package_of(module: str) -> str | None:
    """The package that brings a module; None for Tandem itself and what the interpreter has within."""
    if module == "tandem" or module in sys.builtin_module_names:
        return None
    if module in FOREIGN:
        return f"python3-{module}"
    assert module in sys.stdlib_module_names, f"{module} is in no package that is known here"
    return PACKAGE.get(module, "python3-light")


def depends(feed: Path, name: str) -> set[str]:
    (path,) = feed.glob(f"{name}_*.ipk")
    stated = packages.read(path).fields["Depends"].split(", ")
    return {item.split(" (")[0] for item in stated if item.startswith("python3-")}


def sources(feed: Path, name: str) -> list[Path]:
    (path,) = feed.glob(f"{name}_*.ipk")
    files = [file for file in packages.read(path).files if file.endswith(".py")]
    return [REPOSITORY / ("src" + file.removeprefix("/usr/lib/tandem")) for file in files]


def test_tandem_depends_exactly_on_what_it_imports(feed: Path) -> None:
    needed = set()
    for source in [*sources(feed, "tandem"), *(REPOSITORY / "files/usr").glob("*bin/tandem*")]:
        for module, optional in imports(source):
            package = package_of(module)
            if package is not None and module not in ON_REQUEST and not (optional and module in FOREIGN):
                needed.add(package)
    assert needed == depends(feed, "tandem")


@pytest.mark.parametrize("name", ["tandem-gate", "tandem-tools", "tandem-import"])
def test_optional_packages_bring_what_is_optional(feed: Path, name: str) -> None:
    optional = {
        package_of(module) for path in sources(feed, "tandem") for module, may in imports(path) if may
    }
    needed = {package_of(module) for path in sources(feed, name) for module, _ in imports(path)}
    wanted = {"tandem-gate": optional - depends(feed, "tandem")}.get(name, needed)
    assert wanted - {None, "python3-light"} == depends(feed, name)


def test_the_resident_daemon_loads_nothing_from_other_parts(feed: Path) -> None:
    """Modules of the standard library that its modules import in their turn."""
    program = "import sys, tandem.tandemd, tandem.daemon, tandem.replication.replication; print(*sys.modules)"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(REPOSITORY / 'src')!r}); {program}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {module.split(".")[0] for module in done.stdout.split()} - {"__main__"}
    assert {package_of(module) for module in loaded} - {None} <= depends(feed, "tandem")
