"""Install the files of the packages without a package, and remove them again.

install.py install   [--prefix DIR] [--destdir DIR] [--python PROGRAM]
install.py uninstall [--prefix DIR] [--destdir DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import payload
import source

_STATE = "/var/lib/cronlock"
_CONFIGURATION = "/etc/cronlock.conf"


class Target(NamedTuple):
    """Where an installation goes."""

    prefix: str
    #: The directory before every path, for building a package or an image; empty for this machine.
    destdir: str

    def real(self, path: str) -> Path:
        """Return where to write the file that is `path` on the installed system."""
        return Path(self.destdir + path)

    @property
    def library(self) -> str:
        """The directory of the modules."""
        return payload.Layout(self.prefix).library

    @property
    def record(self) -> Path:
        """The file that lists what an installation created."""
        return self.real(f"{self.library}/installed.json")


def install(target: Target, python: str) -> None:
    """Install, replacing an earlier version but no existing configuration file."""
    interpreter = _interpreter(python)
    files = payload.files(payload.Layout(target.prefix, interpreter), source.version())
    before = _recorded(target)
    made = set(before["directories"])
    for file in files:
        made.update(_make_directory(target, str(Path(file.path).parent)))
        if file.path == _CONFIGURATION and target.real(file.path).exists():
            continue
        _write(target.real(file.path), file)
    made.update(_make_directory(target, _STATE, 0o700))
    for path in set(before["files"]) - {file.path for file in files}:
        target.real(path).unlink(missing_ok=True)
    _remove_byte_code(target)
    _compile(target, interpreter)
    config = next(file.content for file in files if file.path == _CONFIGURATION)
    record = {
        "files": [file.path for file in files],
        "directories": sorted(made),
        # The digests of all versions: an unchanged configuration of an earlier version stays in place.
        "configurations": sorted({*before["configurations"], _digest(config)}),
    }
    target.record.write_text(json.dumps(record, indent=1))
    print(f"installed {target.real(f'{target.prefix}/bin/cronlock')}, which runs on {interpreter}")


def uninstall(target: Target) -> None:
    """Remove everything that was installed, and the state. Keep a configuration that somebody changed."""
    record = _recorded(target)
    if not record["files"]:
        print(f"nothing to uninstall: no {target.record}")
        return
    for path in record["files"]:
        real = target.real(path)
        if path == _CONFIGURATION and real.exists() and _digest(real.read_bytes()) not in record["configurations"]:
            print(f"kept, since it was changed: {real}")
        else:
            real.unlink(missing_ok=True)
    target.record.unlink()
    _remove_byte_code(target)
    shutil.rmtree(target.real(_STATE), ignore_errors=True)
    for directory in sorted(record["directories"], reverse=True):
        real = target.real(directory)
        if real.is_dir() and not any(real.iterdir()):
            real.rmdir()


def _interpreter(python: str) -> str:
    """Return the absolute path of the interpreter `python`. Raise SystemExit if it is too old."""
    tell = "import sys; print(sys.executable, sys.version_info >= (3, 9))"
    try:
        done = subprocess.run([python, "-I", "-c", tell], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{python} does not run: {error}; name another with PYTHON=") from None
    path, _, fits = done.stdout.strip().rpartition(" ")
    if fits != "True":
        raise SystemExit(f"{path} is older than Python 3.9; name another with PYTHON=")
    return path


def _recorded(target: Target) -> dict[str, list[str]]:
    """Return the lists of the record, empty if there is no record."""
    try:
        found: dict[str, list[str]] = json.loads(target.record.read_text())
    except FileNotFoundError:
        found = {"files": [], "directories": [], "configurations": []}
    return found


def _make_directory(target: Target, path: str, mode: int = 0o755) -> list[str]:
    """Create the directory and its missing parents; return those that were created."""
    target.real("/").mkdir(parents=True, exist_ok=True)
    missing = [str(each) for each in (Path(path), *Path(path).parents) if not target.real(str(each)).is_dir()]
    for each in reversed(missing):
        target.real(each).mkdir()
        target.real(each).chmod(mode if each == path else 0o755)
    return missing


def _write(path: Path, file: payload.File) -> None:
    # Replaced in one step, since somebody may be reading or running the file.
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(file.content)
    fresh.chmod(file.mode)
    fresh.replace(path)


def _remove_byte_code(target: Target) -> None:
    for directory in list(target.real(target.library).rglob("__pycache__")):
        shutil.rmtree(directory)


def _compile(target: Target, interpreter: str) -> None:
    options = ["-q", "--invalidation-mode", "timestamp", *(["-s", target.destdir, "-p", "/"] if target.destdir else [])]
    python = [interpreter, "-IS", "-W", "ignore"]
    package = f"{target.library}/cronlock"
    for command in (
        [*python, "-m", "compileall", *options, str(target.real(target.library))],
        [*python, str(target.real(f"{package}/bundle_writer.py")), package],
    ):
        subprocess.run(["sh", "-c", 'umask 022; exec "$@"', "sh", *command], check=True)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Install or uninstall, as the command line says."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=("install", "uninstall"))
    parser.add_argument("--prefix", default="/usr/local")
    parser.add_argument("--destdir", default="")
    parser.add_argument("--python", default="python3")
    given = parser.parse_args()
    if not os.path.isabs(given.prefix):
        raise SystemExit(f"PREFIX={given.prefix} is not an absolute path")
    prefix = os.path.normpath(given.prefix)
    target = Target("" if prefix == "/" else prefix, os.path.abspath(given.destdir) if given.destdir.strip("/") else "")
    try:
        if given.what == "install":
            install(target, given.python)
        else:
            uninstall(target)
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}; as root, or into another PREFIX or DESTDIR") from None


if __name__ == "__main__":
    main()
