# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes docstrings, comments and deep indentation out of sources that a package installs: flash is scarce.

strip.py DIRECTORY

The lines stay, empty, so that a traceback names the line of the repository. The first line, with the licence,
stays as it is.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

INDENT = 4  # spaces, which become one


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    for path in sorted(Path(argv[0]).rglob("*.py")):
        path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def stripped(source: str) -> str:
    """Return the source without docstrings and comments. ValueError: it would mean something else."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and row > 1:
            lines[row - 1] = lines[row - 1][:column].rstrip()
    tree = ast.parse(source)
    for body in bodies(tree):
        for node in filter(is_text, body):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
            if len(body) == 1:
                lines[node.lineno - 1] = " " * node.col_offset + "..."
    kept = {
        row
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for row in range(node.lineno, node.end_lineno)
    }
    for row, line in enumerate(lines):
        text = line.lstrip(" ")
        if row not in kept:
            lines[row] = " " * -(-(len(line) - len(text)) // INDENT) + text
    result = "".join(line + "\n" for line in lines)
    if ast.dump(without_texts(result)) != ast.dump(without_texts(source)):
        raise ValueError("the source means something else without its comments")
    return result


def bodies(tree: ast.AST) -> list[list[ast.stmt]]:
    """Return the statements of each module, class, function and branch that begins with them."""
    return [
        node.body for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list) and node.body
    ]


def is_text(node: ast.stmt) -> bool:
    """Whether the statement is a string and nothing else."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def without_texts(source: str) -> ast.AST:
    """Return the tree of the source, with `...` where a body is nothing but a text."""
    tree = ast.parse(source)
    for body in bodies(tree):
        body[:] = [node for node in body if not is_text(node)] or ast.parse("...").body
    return tree


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
