"""Find the supported Pythons of this machine. As a script, print the version and path of each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from glob import glob

OLDEST = 9
_NEWEST = 15


def found() -> dict[int, str]:
    """Return one interpreter for each supported minor version that is installed, the oldest first."""
    interpreters: dict[int, str] = {}
    for minor in range(OLDEST, _NEWEST + 1):
        for candidate in _candidates(minor):
            if _is(candidate, minor):
                interpreters[minor] = candidate
                break
    return interpreters


def _candidates(minor: int) -> Iterator[str]:
    """Yield where to look for a Python: $PYTHON39 and the like first, then PATH, then pyenv."""
    given = os.environ.get(f"PYTHON3{minor}")
    if given:
        yield given
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        yield os.path.join(directory, f"python3.{minor}")
    versions = os.path.join(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")), "versions")
    yield from sorted(glob(f"{versions}/3.{minor}.*/bin/python3"))


def _is(candidate: str, minor: int) -> bool:
    # Debian's Python may lack ensurepip, which virtual environments need.
    check = f"import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    try:
        return subprocess.run([candidate, "-I", "-c", check], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    for number, path in found().items():
        print(f"3.{number} {path}")
