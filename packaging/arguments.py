"""What every script that makes a package can be told."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import NamedTuple

import source

_MAINTAINER = "The cronlock authors <cronlock@packages.invalid>"


class Arguments(NamedTuple):
    """What to make, and where."""

    version: str
    maintainer: str
    output: Path
    #: The time that all made files bear, in seconds.
    epoch: int


def parse(usage: str | None) -> Arguments:
    """Read this process's command line; the directory for the output is there afterwards."""
    parser = argparse.ArgumentParser(description=usage)
    parser.add_argument("--version", default=source.version(), help="the program's own unless given")
    parser.add_argument("--maintainer", default=_MAINTAINER, help="name and address of who answers for the package")
    parser.add_argument("--output", type=Path, default=source.DIST, help="the directory that it is put into")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    return Arguments(given.version, given.maintainer, given.output.resolve(), source.epoch())


def tool(program: str, package: str) -> str:
    """Return the path of `program`; SystemExit, naming Debian's package, when it is missing."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is missing: apt-get install {package}")
    return found
