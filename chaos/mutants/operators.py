"""All the small changes of one source file: each comparison, sum, connective and number, changed one at a time.

What a change breaks is logic. Annotations, assertions, messages and what only the type checker reads stay as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

#: Each operator, and what takes its place. A strict comparison becomes the opposite one, which the edge shows as well.
_OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", ">="),
    ast.LtE: ("<=", ">"),
    ast.Gt: (">", "<="),
    ast.GtE: (">=", "<"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Mutant(NamedTuple):
    """A source file with one change in it."""

    line: int
    #: The line before and after, without the spaces around them: how a list of survivors names it.
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield `source` once for each change, in the order of its lines."""
    found = sorted({edit for node in _nodes(ast.parse(source)) for edit in _edits(node, source)})
    lines = source.splitlines()
    for begin, end, new in found:
        changed = source[:begin] + new + source[end:]
        number = source.count("\n", 0, begin)
        yield Mutant(number + 1, lines[number].strip(), changed.splitlines()[number].strip(), changed)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that decide something at run time."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or isinstance(node, (ast.Assert, ast.JoinedStr)):
                continue
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                continue
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_CHECKING":
                continue
            yield node
            yield from _nodes(node)


def _edits(node: ast.AST, source: str) -> Iterator[tuple[int, int, str]]:
    """Yield (begin, end, new text) of each change of this node alone."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:]):
            yield from _between(source, left, right, *_OPERATORS[type(operator)])
    elif isinstance(node, ast.BoolOp):
        for one, other in zip(node.values, node.values[1:]):
            yield from _between(source, one, other, *_OPERATORS[type(node.op)])
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node):
        yield from _between(source, node.left, node.right, *_OPERATORS[type(node.op)])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        begin = _start(source, node)
        yield begin, begin + len("not" if isinstance(node.op, ast.Not) else "-"), ""
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        yield *_span(source, node.func), _FUNCTIONS[node.func.id]
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        yield *_span(source, node), str(not value if isinstance(value, bool) else value * 2 if value > 1 else value + 1)


def _is_text(node: ast.BinOp) -> bool:
    """Return True if texts or bytes are joined or filled in."""
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, (str, bytes)))
        for side in (node.left, node.right)
    )


def _between(source: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[tuple[int, int, str]]:
    begin, end = _end(source, left), _start(source, right)
    match = re.search(rf"(?<!\w){re.escape(old)}(?!\w)" if old.isalpha() else re.escape(old), source[begin:end])
    if match:
        yield begin + match.start(), begin + match.end(), new


def _span(source: str, node: ast.expr) -> tuple[int, int]:
    return _start(source, node), _end(source, node)


def _start(source: str, node: ast.expr) -> int:
    return _offset(source, node.lineno, node.col_offset)


def _end(source: str, node: ast.expr) -> int:
    return _offset(source, node.end_lineno or node.lineno, node.end_col_offset or 0)


def _offset(source: str, line: int, column: int) -> int:
    """Return the place in the text; the parser counts a line's columns in bytes of UTF-8."""
    lines = source.splitlines(keepends=True)
    return sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())
