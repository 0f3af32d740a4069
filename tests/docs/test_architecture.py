"""docs/architecture.md and CONTRIBUTING.md name files and folders that are there, and what these import.

The explorer's figures in docs/reliability.md are the explorer's.
"""

from __future__ import annotations

import re

import pytest

from explorer.bugs import BUGS
from labs.installation import ROOT

from ..unit.test_layers import FILES, imports

_PACKAGE = ROOT / "cronlock"
_PAGE = (ROOT / "docs/architecture.md").read_text()
_ROW = re.compile(r"^\| `([a-z/*]+)/` \|[^|]*\| ([^|]*) \|$", re.MULTILINE)
#: Each folder, with the folders that it may import.
_MAP = {folder: set(re.findall(r"`([a-z/]+)`", imports)) for folder, imports in _ROW.findall(_PAGE)}


def _folder(module: str) -> str:
    """Return the folder of a module as the map names it, or "" for the top level."""
    path = FILES[module].parent.relative_to(_PACKAGE).as_posix()
    return "engines/*" if path.startswith("engines/") and path != "engines/wire" else path.strip(".")


def test_folders_import_what_the_map_says() -> None:
    """Each folder is on the map, and imports only what the map allows. Files at the top level are exempt."""
    found: dict[str, set[str]] = {}
    for module in FILES:
        folder = _folder(module)
        names = {_folder(name) for name in imports(module, types=False)[0]} - {"", folder}
        if folder.startswith("engines/") and module.endswith("doctor"):
            names -= {"doctor"}
        found.setdefault(folder, set()).update(names)
    del found[""]
    assert set(found) == set(_MAP)
    assert {folder: names - _MAP[folder] for folder, names in found.items() if names - _MAP[folder]} == {}


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_what_a_page_names_is_there(name: str) -> None:
    """Each path exists in the checkout or in the package, with or without .py; so do those in the picture of a run."""
    page = re.sub(r"/[A-Z]+\.py`", "/`", (ROOT / name).read_text())
    for named, drawn in re.findall(r"`([\w./-]+/[\w./-]*)`|[─,;] (\w+/\w+) ", page):
        path = named or drawn
        places = [root / f"{path}{suffix}" for root in (ROOT, _PACKAGE) for suffix in ("", ".py")]
        assert any(place.exists() for place in places), path


def test_the_number_of_deliberate_bugs() -> None:
    """The page has the right number."""
    assert f"puts {len(BUGS)} bugs into the program's own code" in (ROOT / "docs/reliability.md").read_text()
