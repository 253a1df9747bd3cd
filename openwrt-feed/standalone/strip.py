# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes what only people and type checkers read out of sources that a package installs: flash is scarce.

strip.py DIRECTORY

Docstrings, comments, types and deep indentation go. The lines stay, empty, so that a traceback names the line
of the repository. The first line, with the licence, stays as it is. So do the types of a class, because
dataclasses read them. Functions without types also need less memory.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

INDENT = 4  # spaces, which become one
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef

Span = tuple[int, int, int]  # index of a line, and from where to where, in bytes of UTF-8


def main(argv: list[str]) -> int:
    if len(argv) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    for path in sorted(Path(argv[0]).rglob("*.py")):
        path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def stripped(source: str) -> str:
    """Return the source without docstrings, comments and types. ValueError: it would mean something else."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and row > 1:
            lines[row - 1] = lines[row - 1][:column].rstrip()
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for row, start, end in sorted(types(nodes, lines), reverse=True):
        line = lines[row].encode()
        lines[row] = (line[:start] + line[end:]).decode()
    for body in bodies(nodes):
        for node in filter(is_text, body):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
            if len(body) == 1:
                lines[node.lineno - 1] = " " * node.col_offset + "..."
    for node in for_types(tree, nodes):
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    kept = {
        row
        for node in nodes
        if isinstance(node, (ast.Constant, ast.JoinedStr))
        for row in range(node.lineno, node.end_lineno)
    }
    for row, line in enumerate(lines):
        text = line.lstrip(" ")
        if row not in kept:
            lines[row] = " " * -(-(len(line) - len(text)) // INDENT) + text
    result = "".join(line + "\n" for line in lines)
    after = ast.parse(result)
    if meaning(after, list(ast.walk(after))) != meaning(tree, nodes):
        raise ValueError("the source means something else without its comments and types")
    return result


def types(nodes: list[ast.AST], lines: list[str]) -> Iterator[Span]:
    """Yield where the types of arguments, results and variables stand, as far as each is on one line."""
    for node in nodes:
        if isinstance(node, ast.arg) and node.annotation is not None:
            if node.lineno == node.end_lineno:
                yield node.lineno - 1, node.col_offset + len(node.arg.encode()), node.end_col_offset
        elif isinstance(node, FUNCTIONS) and (result := node.returns) is not None:
            before = lines[result.lineno - 1].encode()[: result.col_offset].rstrip()
            if result.lineno == result.end_lineno and before.endswith(b"->"):
                yield result.lineno - 1, len(before[:-2].rstrip()), result.end_col_offset
    for node in typed_variables(nodes):
        if node.lineno == node.annotation.end_lineno:
            yield node.lineno - 1, node.target.end_col_offset, node.annotation.end_col_offset


def typed_variables(nodes: list[ast.AST]) -> list[ast.AnnAssign]:
    """Return the assignments with a type, except for the fields of classes."""
    fields = {id(node) for found in nodes if isinstance(found, ast.ClassDef) for node in found.body}
    return [
        node
        for node in nodes
        if isinstance(node, ast.AnnAssign) and node.value is not None and id(node) not in fields
    ]


def for_types(tree: ast.Module, nodes: list[ast.AST]) -> list[ast.stmt]:
    """Return what only a type checker executes: `if TYPE_CHECKING:`, and the flag if this is its only use."""
    flag = "TYPE_CHECKING"
    found = [
        node
        for node in tree.body
        if isinstance(node, ast.If)
        and not node.orelse
        and isinstance(node.test, ast.Name)
        and node.test.id == flag
    ]
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == flag]
    if len(uses) == len(found) + 1:
        found += [node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0] in uses]
    return found


def bodies(nodes: list[ast.AST]) -> list[list[ast.stmt]]:
    """Return the statements of each module, class, function and branch that begins with them."""
    return [node.body for node in nodes if isinstance(getattr(node, "body", None), list) and node.body]


def is_text(node: ast.stmt) -> bool:
    """Whether the statement is a string and nothing else."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def meaning(tree: ast.Module, nodes: list[ast.AST]) -> str:
    """Take the types out of a tree, put `...` where a body is only a text, and return all that is left."""
    unwanted = for_types(tree, nodes)
    tree.body = [node for node in tree.body if node not in unwanted]
    for node in nodes:
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, FUNCTIONS):
            node.returns = None
    variables = typed_variables(nodes)
    for body in bodies(nodes):
        body[:] = [node for node in body if not is_text(node)] or ast.parse("...").body
    return ast.dump(Untyped(variables).visit(tree) if variables else tree)


class Untyped(ast.NodeTransformer):
    """Makes assignments of assignments with a type."""

    def __init__(self, variables: list[ast.AnnAssign]) -> None:
        self._variables = variables

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Assign([node.target], node.value) if node in self._variables else node


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
