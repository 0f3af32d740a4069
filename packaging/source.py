"""The checkout, or the unpacked source archive, that packages are made of."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Where everything that is made goes.
BUILD = ROOT / "build"
DIST = ROOT / "dist"

_VERSION = re.compile(rb'^__version__ = "([0-9][0-9A-Za-z.]*)"$', re.MULTILINE)


def version() -> str:
    """Return the version that the program says it is."""
    found = _VERSION.search((ROOT / "cronlock/__init__.py").read_bytes())
    if found is None:
        raise SystemExit("cronlock/__init__.py: no __version__")
    return found[1].decode()


def with_version(code: bytes, version: str) -> bytes:
    """Return the text of cronlock/__init__.py that says `version`."""
    return _VERSION.sub(f'__version__ = "{version}"'.encode(), code)


def epoch() -> int:
    """Return the time that all made files bear: SOURCE_DATE_EPOCH, else that of the commit, in seconds."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return int(given)
    log = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        # Only of a repository of its own: an unpacked archive may lie inside of another.
        if (ROOT / ".git").exists():
            return int(subprocess.run(log, check=True, capture_output=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        pass  # No git, or no commit yet.
    return int((ROOT / "pyproject.toml").stat().st_mtime)
