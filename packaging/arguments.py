"""What every script that makes a package can be told."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import source

# What dpkg and rpm both take: neither knows the other's epochs and revisions.
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~]*")
_CONTACT = re.compile(r"[^<>\n]+ <[^<>\s@]+@[^<>\s@]+>")
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
    if not _VERSION.fullmatch(given.version):
        raise SystemExit(f"version {given.version!r}: write digits first, then digits, letters, '.', '+' or '~': 1.2.3")
    if not _CONTACT.fullmatch(given.maintainer):
        raise SystemExit(f"maintainer {given.maintainer!r}: write it as 'Name <name@example.net>'")
    given.output.mkdir(parents=True, exist_ok=True)
    return Arguments(given.version, given.maintainer, given.output.resolve(), source.epoch())


def tool(program: str, package: str) -> str:
    """Return the path of `program`; SystemExit, naming Debian's package, when it is missing."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is missing: apt-get install {package}")
    return found
