"""Deliberate bugs, put into a copy of cronlock, which the harness must catch.

    python -m chaos.mutants [NAME...]           caught by the torture
    python -m chaos.mutants.stores [NAME...]    of one engine's store, caught by its contract
    python -m chaos.mutants.score [FILE...]     each small change of what decides about leases, caught by unit tests

A bug is some replacements in the source. A piece is looked for in all of the package, so that it may move between
files; one that is no longer there, or there more than once, fails: then the bug must be put in anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labs.installation import copy_with_byte_code

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Edit:
    """A piece of the package's source, which is there once, and what takes its place."""

    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
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


def mutate(name: str, package: Path) -> None:
    """Put the bug `name` into a copy of cronlock in the new directory `package`."""
    from .table import MUTANTS

    put_in(name, MUTANTS[name].edits, package)


def put_in(name: str, edits: Sequence[Edit], package: Path) -> None:
    """Put the bug `name` into a copy of cronlock in the new directory `package`. Raises LookupError."""
    for part in ("cronlock", "bin"):
        copy_with_byte_code(_ROOT / part, package / part)
    sources = list((package / "cronlock").rglob("*.py"))
    for edit in edits:
        texts = {path: path.read_text() for path in sources}
        count = sum(text.count(edit.old) for text in texts.values())
        if count != 1:
            raise LookupError(f"{name}: the package has {count} times, not once: {edit.old!r}")
        path = next(path for path, text in texts.items() if edit.old in text)
        path.write_text(texts[path].replace(edit.old, edit.new))
