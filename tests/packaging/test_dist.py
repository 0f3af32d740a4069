"""The wheel and the source archive are reproducible, and the archive suffices for making packages."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from labs.installation import clean_environment

from .support import Build, run


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_reproducible(build: Build, other_build: Build, kind: str) -> None:
    """Directory, umask, time zone, locale and hash seed do not matter."""
    one, other = getattr(build, kind), getattr(other_build, kind)
    assert one != other
    assert one.read_bytes() == other.read_bytes()


def test_packages_from_the_source_archive(build: Build, tmp_path: Path) -> None:
    """Packages from the unpacked archive are the same bytes as those from the checkout."""
    run("tar", "-xzf", build.sdist, "-C", tmp_path)
    (sources,) = tmp_path.iterdir()
    shutil.copytree(build.sources / "build/wheels", sources / "build/wheels")
    environ = {**clean_environment(), "SOURCE_DATE_EPOCH": "1700000000"}
    for package in (build.deb, build.rpm, build.pyz):
        kind = package.suffix.lstrip(".")
        run(sys.executable, sources / f"packaging/{kind}.py", "--output", tmp_path / "made", environ=environ)
        assert (tmp_path / "made" / package.name).read_bytes() == package.read_bytes()


def test_by_pip(build: Build, tmp_path: Path) -> None:
    """The first command writes the byte code of runs, the next uses it, and nothing is left behind."""
    environ = clean_environment()
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, environ=environ)
    pip = (venv / "bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", build.wheel, environ=environ)
    (package,) = venv.glob("lib/python3*/site-packages/cronlock")
    with zipfile.ZipFile(build.wheel) as wheel:
        assert wheel.getinfo("cronlock/run.bundle").file_size == 0
    job = (venv / "bin/cronlock", "run", "--min-hold", "0", "--key", "job", "--backend", f"file://{tmp_path}")
    assert run(*job, "--", "echo", "ran", environ=environ) == "ran\n"
    assert (package / "run.bundle").stat().st_size
    told = run("sh", "-c", '"$@" 2>&1', "sh", venv / "bin/python", "-v", *job, "--", "echo", "ran", environ=environ)
    assert "import 'cronlock.config.arguments' # <cronlock.bundle.Bundle " in told
    run(*pip, "uninstall", "--yes", "cronlock", environ=environ)
    assert not os.path.lexists(package)
