"""The command line of every script that makes a package."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import source

# The versions that dpkg and rpm both accept: no epochs and no revisions.
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+~]*")
_CONTACT = re.compile(r"[^<>\n]+ <[^<>\s@]+@[^<>\s@]+>")
_MAINTAINER = "The cronlock authors <cronlock@packages.invalid>"


class Arguments(NamedTuple):
    """The options of one build."""

    version: str
    maintainer: str
    output: Path
    #: The modification time of every file in the package, in seconds since 1970.
    epoch: int


def parse(usage: str | None) -> Arguments:
    """Return the options of this process's command line, and create the output directory."""
    parser = argparse.ArgumentParser(description=usage)
    parser.add_argument("--version", default=source.version(), help="default: the version of the program")
    parser.add_argument("--maintainer", default=_MAINTAINER, help="name and address of the package's maintainer")
    parser.add_argument("--output", type=Path, default=source.DIST, help="directory for the package")
    given = parser.parse_args()
    if not _VERSION.fullmatch(given.version):
        raise SystemExit(f"version {given.version!r}: write digits first, then digits, letters, '.', '+' or '~': 1.2.3")
    if not _CONTACT.fullmatch(given.maintainer):
        raise SystemExit(f"maintainer {given.maintainer!r}: write it as 'Name <name@example.net>'")
    given.output.mkdir(parents=True, exist_ok=True)
    return Arguments(given.version, given.maintainer, given.output.resolve(), source.epoch())


def tool(program: str, package: str) -> str:
    """Return the path of `program`. If it is missing, raise SystemExit with the name of its Debian package."""
    found = shutil.which(program)
    if found is None:
        raise SystemExit(f"{program} is missing: apt-get install {package}")
    return found
