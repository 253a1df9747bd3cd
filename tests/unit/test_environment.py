# SPDX-License-Identifier: GPL-2.0-or-later
"""No program that Tandem starts inherits its environment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tandem

ROOT = Path(tandem.__path__[0])
CALLS = {"run", "Popen", "call", "check_call", "check_output"}


def inherited(source: str) -> list[int]:
    """The lines on which a program is started with the environment of this one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, of = node.func.attr, ast.unparse(node.func.value)
        if of == "subprocess" and name in CALLS and not any(word.arg == "env" for word in node.keywords):
            found.append(node.lineno)
        if (
            of == "os"
            and name.startswith(("posix_spawn", "exec", "spawn"))
            and "os.environ" in ast.unparse(node)
        ):
            found.append(node.lineno)
        if of == "os" and name in ("system", "popen", "execv", "execvp", "execl", "execlp"):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_inherited(path: Path) -> None:
    assert inherited(path.read_text()) == []


def test_this_test_sees_every_way() -> None:
    assert inherited("subprocess.run(argv)\nos.posix_spawn(a, b, dict(os.environ))\nos.system('x')\n") == [
        1,
        2,
        3,
    ]
    assert inherited("subprocess.run(argv, env={})\nos.posix_spawn(a, b, {})\n") == []
