"""Put a bug into the program's own code by replacing an expression or a statement of one function.

The text identifies the code, not the line, so that a bug whose code is gone fails with LookupError.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, NamedTuple
from unittest import mock

from .search import Case


class Bug(NamedTuple):
    """One bug: `wrong` replaces `right` in `function` of `module`. `case` shows it with `faults` faults."""

    name: str
    module: ModuleType
    function: str
    right: str
    wrong: str
    case: Case
    faults: int


class _Replace(ast.NodeTransformer):
    def __init__(self, right: str, wrong: str) -> None:
        self._right, self._wrong = ast.parse(right).body[0], ast.parse(wrong).body[0]
        # The body of `if NAME: ...` matches any body.
        self._head_only = right.endswith(": ...")
        self._text = (
            ast.unparse(self._right.test)
            if isinstance(self._right, ast.If) and self._head_only
            else ast.unparse(self._right)
        )
        self.found = 0

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        if self._head_only:
            if isinstance(node, ast.If) and ast.unparse(node.test) == self._text:
                self.found += 1
                assert isinstance(self._wrong, ast.If)
                node.test = self._wrong.test
            return node
        if (
            isinstance(node, (ast.expr, ast.stmt))
            and not isinstance(node, ast.Expr)
            and not _is_target(node)
            and ast.unparse(node) == self._text
        ):
            self.found += 1
            wrong = self._wrong
            return wrong.value if isinstance(node, ast.expr) and isinstance(wrong, ast.Expr) else wrong
        return node


def _is_target(node: ast.AST) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def broken(bug: Bug) -> FunctionType:
    """Return the function with the bug. Raises LookupError if the code does not match."""
    container: Any = bug.module
    *outer, name = bug.function.split(".")
    for part in outer:
        container = getattr(container, part)
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(container, name))))
    replace = _Replace(bug.right, bug.wrong)
    # Compiled with postponed annotations, like the module itself.
    tree = ast.fix_missing_locations(replace.visit(tree))
    if not replace.found:
        raise LookupError(f"{bug.name}: {bug.function} has no {bug.right}")
    made: dict[str, Any] = {}
    flags = __import__("__future__").annotations.compiler_flag
    exec(compile(tree, f"<{bug.name}>", "exec", flags=flags), vars(bug.module), made)  # the program's own text
    function: FunctionType = made[name]
    return function


@contextmanager
def put_in(bug: Bug) -> Iterator[None]:
    """Return a context in which the program has the bug."""
    container: Any = bug.module
    *outer, name = bug.function.split(".")
    for part in outer:
        container = getattr(container, part)
    with mock.patch.object(container, name, broken(bug)):
        yield
