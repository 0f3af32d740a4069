"""Which part of the package may know of which: dependencies point one way, also those for type checkers alone."""

from __future__ import annotations

import ast
import functools
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from labs.installation import ROOT

#: Everything may import these; they import only each other.
_GROUND = {"bundle", "cronlock", "errors", "durations", "keys", "system", "value"}
#: What each part may import besides itself, the standard library and the ground floor.
_KNOWS = {
    **{name: set[str]() for name in _GROUND},
    "bundle_writer": set[str](),
    "lease": set[str](),
    "process": set[str](),
    "config": set[str](),
    "crontab": {"config"},
    "testing": {"lease"},
    "doctor": {"config", "engines.url", "lease", "process"},
    "engines.url": set[str](),
    "engines.clients": set[str](),
    "engines.registry": {"config", "engines.clients", "engines.url", "lease"},
    "run": {"config", "engines.registry", "lease", "process"},
    "commands": {"config", "crontab", "doctor", "engines.registry", "engines.url", "lease"},
    "cli": {"commands", "config", "run"},
    "__main__": {"bundle_writer", "cli", "config", "process", "run"},
}
_ENGINES_KNOW = {"engines.clients", "engines.url", "engines.wire", "lease"}
#: Parts that may import packages of others; only the modules named so of engines.
_CLIENTS = ("cli", "commands", "crontab", "engines.", "testing", "value")
#: Parts that no run imports, as all doctors.
_OFF_THE_HOT_PATH = ("bundle_writer", "cli", "commands", "crontab", "doctor", "testing")
#: Private modules of the interpreter, and where they may be used.
_DOORS = {
    "_json": {"engines.wire.json_text"},
    "_ctypes": {"engines.postgresql.libpq", "process.linux"},
    "_md5": {"engines.wire.hashes"},
    "_sha1": {"engines.wire.hashes"},
    "_sha2": {"engines.wire.hashes"},
    "_sha256": {"engines.wire.hashes"},
    "_signal": {"__main__", "process.signals"},
    "_socket": {"engines.wire.stream", "engines.wire.tls_private"},
    "_ssl": {"engines.wire.tls_private"},
    "posix": {"system"},
}


def _module(file: Path) -> str:
    """Return the name of a module of the package, without the package's own."""
    parts = file.relative_to(ROOT / "cronlock").parts
    return ".".join(part.removesuffix(".py") for part in parts if part != "__init__.py") or "cronlock"


FILES = {_module(file): file for file in sorted((ROOT / "cronlock").rglob("*.py"))}


def _part(module: str) -> str:
    """Return the part of the package that a module of it belongs to: a folder, an engine, or a file at the top."""
    first, *rest = module.split(".")
    return f"engines.{rest[0]}" if first == "engines" and rest else first


def imports(module: str, *, types: bool = True) -> tuple[set[str], set[str]]:
    """Return the modules of the package that a module of it imports anywhere in its text, and those of others.

    Unless `types` count, without those that are for type checkers alone.
    """
    own, others = set(), set()
    waiting: list[ast.AST] = [ast.parse(FILES[module].read_text())]
    while waiting:
        node = waiting.pop()
        if not types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            others |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and not (node.module or "").startswith("cronlock"):
            others.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            above = FILES[module].parents[node.level - 1] if node.level else ROOT
            base = above.joinpath(*(node.module or "").split("."))
            for alias in node.names:
                # A module, or what is taken out of one.
                name = _module(base / alias.name)
                own.add(name if name in FILES else _module(base))
    return own, others


@functools.cache
def _imports() -> dict[str, tuple[set[str], set[str]]]:
    return {module: imports(module) for module in FILES}


@pytest.mark.parametrize("part", sorted({_part(module) for module in FILES}))
def test_dependencies_point_one_way(part: str) -> None:
    """A part imports what stands below it; an engine no other one, and whatever only a doctor needs in its doctor."""
    for module in FILES:
        if _part(module) == part:
            allowed = _KNOWS.get(part, _ENGINES_KNOW) | _GROUND | {part, "engines"}
            if part.startswith("engines.") and module.endswith("doctor"):
                allowed |= {"doctor"}
            assert {_part(name) for name in _imports()[module][0]} <= allowed, module


def test_no_circles() -> None:
    """Between folders, engines, and the files at the top."""
    graph: dict[str, set[str]] = {}
    for module, (own, _) in _imports().items():
        graph.setdefault(_part(module), set()).update({_part(name) for name in own} - {_part(module)})
    TopologicalSorter(graph).prepare()


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Python 3.9 does not say which modules are its own")
def test_packages_of_others() -> None:
    """Client libraries are imported by engines alone, and by commands that may be slow."""
    for module, (_, others) in _imports().items():
        foreign = {name.partition(".")[0] for name in others} - sys.stdlib_module_names
        assert not foreign or module.startswith(_CLIENTS), (module, foreign)


@pytest.mark.parametrize(("name", "doors"), _DOORS.items())
def test_private_modules_of_the_interpreter(name: str, doors: set[str]) -> None:
    """Modules that may change with any release of Python are imported in few places."""
    assert {module for module, (_, others) in _imports().items() if name in others} <= doors


def test_who_pays_for_typing() -> None:
    """Only what a run imports avoids `from typing import TYPE_CHECKING`, which costs a start a third of its time."""
    spared = {module for module, file in FILES.items() if "\nTYPE_CHECKING = False\n" in file.read_text()}
    others = {module for module in spared if module.endswith("doctor") or _part(module) in _OFF_THE_HOT_PATH}
    assert others == set()
