"""Which backends a tool is to try: its option ``--backend``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def add_backends(parser: argparse.ArgumentParser, known: Iterable[str], default: str = "all") -> None:
    """Add the option, which takes names of `known`, separated by commas, or ``all``."""
    parser.add_argument("--backend", default=default, help=f"comma-separated, or all: {', '.join(known)}")


def chosen_backends(parser: argparse.ArgumentParser, text: str, known: Iterable[str]) -> list[str]:
    """Return the names that the option's `text` stands for; exit with a message for an unknown one."""
    known = list(known)
    names = known if text == "all" else text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"unknown backend {unknown[0]}; known: all, {', '.join(known)}")
    return names
