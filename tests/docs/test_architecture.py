"""docs/architecture.md is a map of what is there: its files, its folders, and what these import.

The explorer's figures in docs/reliability.md are the explorer's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from explorer.bugs import BUGS
from labs.installation import ROOT

_PACKAGE = ROOT / "cronlock"
_PAGE = (ROOT / "docs/architecture.md").read_text()
_ROW = re.compile(r"^\| `([a-z/*]+)/` \|[^|]*\| ([^|]*) \|$", re.MULTILINE)
#: Each folder, and those that it may import.
_MAP = {folder: set(re.findall(r"`([a-z/]+)`", imports)) for folder, imports in _ROW.findall(_PAGE)}


def _folder(path: Path) -> str:
    """Return the folder of a file or a folder of the package, as the map calls it; "" at the top."""
    name = str((path if path.is_dir() else path.parent).relative_to(_PACKAGE))
    engine = name.startswith("engines/") and name != "engines/wire"
    return "engines/*" if engine else name.strip(".")


def _imported(file: Path) -> Iterator[Path]:
    """Yield the files and folders of the package that `file` imports, but for type checkers alone."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("cronlock")):
            base = file.parents[node.level - 1] if node.level else ROOT
            module = base.joinpath(*(node.module or "").split("."))
            for name in node.names:
                inner = module / name.name
                found = inner if inner.is_dir() or inner.with_suffix(".py").exists() else module
                yield found if found.is_dir() else found.with_suffix(".py")


def test_folders_import_what_the_map_says() -> None:
    """Nothing else, and each folder is on the map; the files at the top are the program's entry, or everybody's."""
    found: dict[str, set[str]] = {}
    for file in _PACKAGE.rglob("*.py"):
        folder = _folder(file)
        names = {_folder(path) for path in _imported(file)} - {"", folder}
        if folder.startswith("engines/") and file.name.endswith("doctor.py"):
            names -= {"doctor"}
        found.setdefault(folder, set()).update(names)
    del found[""]
    assert set(found) == set(_MAP)
    assert {folder: names - _MAP[folder] for folder, names in found.items() if names - _MAP[folder]} == {}


def test_what_the_page_names_is_there() -> None:
    """Each path is one of the checkout or of the package, with or without .py, in the picture of a run too."""
    for named, drawn in re.findall(r"`([\w./-]+/[\w./-]*)`|[─,;] (\w+/\w+) ", _PAGE):
        path = named or drawn
        places = [root / f"{path}{suffix}" for root in (ROOT, _PACKAGE) for suffix in ("", ".py")]
        assert any(place.exists() for place in places), path


def test_the_number_of_deliberate_bugs() -> None:
    """The page says how many the explorer finds."""
    assert f"puts {len(BUGS)} bugs into the program's own code" in (ROOT / "docs/reliability.md").read_text()
