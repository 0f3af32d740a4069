"""Writes the file that `bundle` reads, at installation: ``python3 -IS cronlock/bundle_writer.py [DIRECTORY]``.

Where pip installed the package, the first command does it.

The byte code is that of the sources without what no run reads: docstrings, annotations of functions, and what only type
checkers see.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import fcntl
import marshal
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType

    from cronlock.bundle import Group, Module

#: The folders whose modules a run may need, except its engine's.
_FOLDERS = ("", "config", "engines", "lease", "process", "run")
_APART = ("__init__.py", "bundle.py", "bundle_writer.py", "cli.py", "system.py")
#: What is imported together with all that it imports: what every run needs for the backend's answer, and what it needs
#: to start the command.
_TOGETHER = (
    ("config.arguments", "run.command", "config.settings", "lease.clock", "run.job", "lease.leases"),
    ("run.supervisor",),
)
#: More bytes than a bundle has.
_ROOM = 2 << 20
_POSTPONED = __future__.annotations.compiler_flag


class _Source:
    """A module of the package in `directory`."""

    def __init__(self, directory: str, file: str) -> None:
        with open(f"{directory}/{file}", "rb") as source:
            about = os.fstat(source.fileno())
            # Since Python 3.14, `ast.parse` leaves out under -OO what `compile` would.
            text, kind = source.read(), int(ast.PyCF_ONLY_AST)
            self.tree: ast.Module = compile(text, file, "exec", kind, dont_inherit=True, optimize=0)
        self.file, self.time, self.size = file, int(about.st_mtime), about.st_size
        self.name = file[:-3].replace("/", ".")

    def imports(self) -> Iterator[str]:
        """Yield the package's modules, and what else has such a name, that importing this one imports."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.level:
                package = self.name.split(".")[: -node.level]
                parts = [*package, *([node.module] if node.module else [])]
                yield ".".join(parts)
                yield from (".".join([*parts, each.name]) for each in node.names)

    def code(self, known: str) -> CodeType:
        """Return the byte code; tracebacks call the directory `known`."""
        tree = _Stripped().visit(self.tree)
        name = f"{known}/{self.file}"
        tree = ast.fix_missing_locations(tree)
        code: CodeType = compile(tree, name, "exec", flags=_POSTPONED, dont_inherit=True, optimize=0)
        return code


class _Stripped(ast.NodeTransformer):
    """Removes what no run reads. Annotations of classes stay: `cronlock.value` reads them."""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Remove a module's docstring."""
        return self._body(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Remove a class's docstring."""
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Remove a function's docstring and annotations."""
        node.returns = None
        for each in ast.walk(node.args):
            if isinstance(each, ast.arg):
                each.annotation = None
        node.body = [_without_annotation(statement) for statement in node.body]
        return self._body(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        """Remove ``from __future__ import annotations``, which is a flag of the compiler here."""
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        """Remove what only type checkers see."""
        self.generic_visit(node)
        for_checkers = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return (node.orelse or [ast.Pass()]) if for_checkers else node

    def _body(self, node: ast.Module | ast.ClassDef | ast.FunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


def _without_annotation(statement: ast.stmt) -> ast.stmt:
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return ast.copy_location(ast.Assign([statement.target], statement.value), statement)
    return statement


def fill(directory: str) -> None:
    """Write the bundle of the package in `directory` that was installed empty. Raises OSError."""
    from cronlock import bundle

    target = f"{directory}/{bundle.PLACE_OF_WHEELS}"
    # The lock ends with this process. Whoever has it writes.
    with open(target, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have replaced the file.
        if os.stat(target).st_size == 0:
            _save(lambda: _made(directory, directory), target, f"{target}.new")


def write(directory: str, known: str) -> None:
    """Write the bundle of the package in `directory`, which tracebacks call `known`. Raises OSError."""
    from cronlock import bundle

    target = f"{directory}/{bundle.PLACE}"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    _save(lambda: _made(directory, known), target, f"{target}.{os.getpid()}")


def _made(directory: str, known: str) -> bytes:
    """Return what a bundle contains. Raises OSError."""
    from cronlock import bundle

    sources = {source.name: source for source in (_Source(directory, file) for file in _files(directory))}
    codes = b""
    modules: dict[str, Module] = {}
    groups: list[Group] = []
    for names in _groups(sources):
        for name in names:
            source = sources[name]
            modules[f"cronlock.{name}"] = (source.file, source.time, source.size, len(groups))
        data = marshal.dumps([(f"cronlock.{name}", sources[name].code(known)) for name in names])
        groups.append((len(codes), len(data)))
        codes += data
    index = marshal.dumps((modules, groups))
    return bundle.head(index) + index + codes


def _save(made: Callable[[], bytes], target: str, fresh: str) -> None:
    """Replace `target` by what is made, by way of `fresh`, atomically and durably. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)  # Of a writer that was killed.
    # Nobody else may open it before it is whole, whatever the umask.
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb") as stream:
            # Where there is no room, that is found out before a second is spent on it.
            os.posix_fallocate(file, 0, _ROOM)
            stream.truncate(stream.write(made()))
            stream.flush()
            os.fsync(file)
            os.fchmod(file, 0o644)
        os.replace(fresh, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _groups(sources: dict[str, _Source]) -> Iterator[list[str]]:
    """Yield the names of modules that are imported together, each behind those that it imports."""
    done: set[str] = set()
    for roots in _TOGETHER:
        yield list(_in_order(roots, sources, done))
    for name in sources:
        # An engine's modules that lie beside it: engines share the others.
        if name.startswith("engines.") and name.endswith((".store", ".backend")):
            yield list(_in_order([name], sources, done, name.rpartition(".")[0]))
    yield from ([name] for name in sources if name not in done)


def _in_order(names: Iterable[str], sources: dict[str, _Source], done: set[str], folder: str = "") -> Iterator[str]:
    for name in names:
        if name in sources and name not in done and name.startswith(folder):
            done.add(name)
            yield from _in_order(sources[name].imports(), sources, done, folder)
            yield name


def _files(directory: str) -> Iterator[str]:
    """Yield the sources that a run may need, as paths below `directory`."""
    for folder in _FOLDERS:
        for place, _, names in os.walk(f"{directory}/{folder}".rstrip("/")):
            if folder or place == directory:
                for name in sorted(names):
                    if name.endswith(".py") and name not in _APART and not name.endswith("doctor.py"):
                        yield os.path.relpath(f"{place}/{name}", directory)


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(here))
    try:
        write(here, sys.argv[1] if sys.argv[1:] else here)
    except OSError as error:
        sys.exit(f"cronlock: {error.filename}: {error.strerror}")
