"""Deliberate bugs, put into a copy of cronlock, which the harness must catch.

    python -m chaos.mutants [NAME...]

A bug is some replacements in the source. A piece that is no longer there, or there more than once,
fails: then the bug must be put in anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Edit:
    """A piece of a file of the package, which is there once, and what takes its place."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Tooth:
    """A bug, and the torture run that catches it."""

    name: str
    #: What is wrong with it, for people.
    what: str
    edits: Sequence[Edit]
    backend: str
    faults: str
    #: Kinds of findings, each of which shows that it was caught.
    catches: Sequence[str]
    seed: int = 1
    seconds: float = 30.0
    #: More options of the torture run.
    options: Sequence[str] = field(default=())


def bite(name: str, package: Path) -> None:
    """Put the bug `name` into a copy of cronlock in the new directory `package`."""
    from .table import TEETH

    for part in ("cronlock", "bin"):
        shutil.copytree(_ROOT / part, package / part, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in TEETH[name].edits:
        path = package / edit.file
        text = path.read_text()
        count = text.count(edit.old)
        if count != 1:
            raise LookupError(f"{name}: {edit.file} has {count} times, not once: {edit.old!r}")
        path.write_text(text.replace(edit.old, edit.new))
