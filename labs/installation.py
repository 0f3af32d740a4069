"""The interpreters of this machine, and cronlock installed for them like a user's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Minor versions of Python 3, the one that is always wanted and those that are looked for.
USUAL = 11
_NEWEST_FIRST = (15, 14, 13, 12, 11)


#: The interpreter of packages, where there is one.
_SYSTEMS_PYTHON = "/usr/bin/python3"


class Package:
    """What `make deb` installs, in a directory of its own and for the system's interpreter."""

    python = _SYSTEMS_PYTHON

    def __init__(self) -> None:
        tell = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = _run(self.python, "-I", "-c", tell).strip()
        #: Unlike that of any other installation, so that both have keys of their own.
        self.version = f"package-{version}"
        self.title = f"Package, the system's Python {version}"
        self._prefix = ROOT / "build/bench-package"

    @property
    def cronlock(self) -> str:
        """The installed launcher."""
        return str(self._prefix / "bin/cronlock")

    def install(self) -> None:
        """Install the checkout with its byte code."""
        shutil.rmtree(self._prefix, ignore_errors=True)
        script = str(ROOT / "packaging/install.py")
        with tempfile.TemporaryDirectory(prefix="cronlock-bench-") as scratch:
            place = ("--prefix", str(self._prefix), "--destdir", scratch)
            _run(sys.executable, script, "install", *place, "--python", self.python)
            # The benchmark must not read a configuration file.
            shutil.move(f"{scratch}{self._prefix}", self._prefix)


class Installation:
    """A virtual environment with nothing but cronlock and what it and its engines need."""

    def __init__(self, minor: int, python: str) -> None:
        self.version = f"3.{minor}"
        self.title = f"By pip, Python {self.version}"
        self._base = python
        self._directory = ROOT / f".venv-bench-{self.version}"

    @property
    def python(self) -> str:
        """The interpreter; F is its start."""
        return str(self._directory / "bin/python")

    @property
    def cronlock(self) -> str:
        """The installed launcher."""
        return str(self._directory / "bin/cronlock")

    def install(self) -> None:
        """Install the checkout with its byte code, not in editable form."""
        if not os.path.exists(self.python):
            _run(self._base, "-m", "venv", str(self._directory))
        with tempfile.TemporaryDirectory(prefix="cronlock-bench-") as scratch:
            source = os.path.join(scratch, "cronlock")
            copy_checkout(source)
            pip = (self.python, "-m", "pip", "--quiet", "--disable-pip-version-check")
            _run(*pip, "install", "--compile", f"{source}[all]")
            _run(*pip, "install", "--compile", "--force-reinstall", "--no-deps", source)
            # Brought by older interpreters; it puts a hook into every start, F included.
            _run(*pip, "uninstall", "--yes", "setuptools")
        # The first command writes the byte code of runs.
        _run(self.cronlock, "--version")


def installations() -> Iterator[Installation]:
    """Give Python 3.11 and the newest supported Python that is there; one if they are the same."""
    found = {minor: python for minor in _NEWEST_FIRST if (python := _find(minor)) is not None}
    for minor in dict.fromkeys((USUAL, *list(found)[:1])):
        if minor in found:
            yield Installation(minor, found[minor])
        else:
            print(f"not available: Python 3.{minor}")


def copy_checkout(target: str) -> None:
    """Copy what pip is to install: in the checkout setuptools would leave a build directory, and use an old one's."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))


def copy_with_byte_code(source: Path, target: Path) -> None:
    """Copy a folder of modules with their byte code, which holds for the copy; what is just being written stays."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pyc.*"))


def clean_environment() -> dict[str, str]:
    """Return the environment as it is, without what changes how an interpreter starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_NO_COMPILE"))}


def _find(minor: int) -> str | None:
    versions = os.path.join(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")), "versions")
    for candidate in (f"python3.{minor}", *sorted(glob(f"{versions}/3.{minor}.*/bin/python"))):
        check = f"import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
        try:
            done = subprocess.run([candidate, "-c", check], check=False, env=clean_environment(), capture_output=True)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, env=clean_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:4])} ... failed:\n{done.stdout}{done.stderr}")
    return done.stdout
