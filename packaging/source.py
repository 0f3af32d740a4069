"""The checkout, or the unpacked source archive, from which packages are made."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Intermediate files, and the finished packages.
BUILD = ROOT / "build"
DIST = ROOT / "dist"

_VERSION = re.compile(rb'^__version__ = "([0-9][0-9A-Za-z.]*)"$', re.MULTILINE)


def version() -> str:
    """Return the program's version."""
    found = _VERSION.search((ROOT / "cronlock/__init__.py").read_bytes())
    if found is None:
        raise SystemExit("cronlock/__init__.py: no __version__")
    return found[1].decode()


def with_version(code: bytes, version: str) -> bytes:
    """Return the code of cronlock/__init__.py with `version` in it."""
    return _VERSION.sub(f'__version__ = "{version}"'.encode(), code)


def epoch() -> int:
    """Return the time of all files in packages, in seconds: SOURCE_DATE_EPOCH, else the commit's."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return int(given)
    log = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        # An unpacked archive may lie inside of somebody else's repository.
        if (ROOT / ".git").exists():
            return int(subprocess.run(log, check=True, capture_output=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        pass  # git is missing, or nothing is committed yet.
    return int((ROOT / "pyproject.toml").stat().st_mtime)
