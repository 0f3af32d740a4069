"""Make the wheel and the source archive: dist.py [--output DIRECTORY].

The same commit makes the same bytes. The version is the program's own.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import source
from arguments import Arguments, parse

_NOT_SOURCE = (".*", "build", "dist", "*.egg-info", "__pycache__", "*.pyc")


def build(arguments: Arguments) -> list[Path]:
    """Build the source archive, and the wheel from it; return their paths."""
    if importlib.util.find_spec("build") is None:
        raise SystemExit(f"the Python package build is missing: {sys.executable} -m pip install build")
    # The modes of files get into both, so the umask of this process and its children must not differ.
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        # In the checkout, setuptools would leave a build directory and reuse stale files of an old one.
        shutil.copytree(source.ROOT, scratch / "cronlock", ignore=shutil.ignore_patterns(*_NOT_SOURCE))
        for path in (scratch / "cronlock", *(scratch / "cronlock").rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        command = [sys.executable, "-m", "build", "--outdir", str(scratch / "made"), str(scratch / "cronlock")]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(arguments.epoch), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, check=False, env=environ, cwd=scratch, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the build failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        archive = next((scratch / "made").glob("*.tar.gz"))
        _normalize(archive, arguments.epoch)
        return [Path(shutil.copy(path, arguments.output)) for path in sorted((scratch / "made").iterdir())]


def _normalize(archive: Path, epoch: int) -> None:
    """Rewrite the archive without what depends on this machine: times, users and the order of files."""
    fresh = archive.with_suffix(".new")
    with tarfile.open(archive) as old, fresh.open("wb") as stream:
        packed = gzip.GzipFile("", "wb", 9, stream, mtime=0)
        with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
            for member in sorted(old.getmembers(), key=lambda each: each.name):
                member.mtime = epoch
                member.uid = member.gid = 0
                member.uname = member.gname = "root"
                member.pax_headers = {}
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
    fresh.replace(archive)


if __name__ == "__main__":
    for each in build(parse(__doc__)):
        print(each)
