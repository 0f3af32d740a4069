"""The program, the changelog, the documents and the packages have the same version."""

from __future__ import annotations

import datetime
import re
import shutil
from pathlib import Path

import pytest

from cronlock import __version__
from labs.installation import ROOT
from labs.servers.process import need
from tests.docs.markdown import DOCUMENTS, blocks, steps

from .support import Build, run

_RELEASES = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_changelog() -> None:
    """Unreleased comes first, then this version and earlier ones, newest first."""
    assert _RELEASES[0] == "Unreleased"
    versions, dates = zip(*(release.split(" - ") for release in _RELEASES[1:]))
    assert versions[0] == __version__
    assert list(dates) == sorted(dates, reverse=True)
    assert [datetime.date.fromisoformat(date).isoformat() for date in dates] == list(dates)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents(document: Path) -> None:
    """Each name of a package in the documents has this version."""
    named = re.findall(r"cronlock[_-](\d[\w.]*\w)(?=_all\.deb|-1\.noarch\.rpm)", document.read_text())
    assert set(named) <= {__version__}


def test_the_next_release(tmp_path: Path) -> None:
    """After the commands of docs/releasing.md no document names this version."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "cronlock").mkdir()
    for name in ("README.md", "CHANGELOG.md", "cronlock/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    script = "\n".join(step.command for step in steps(next(blocks(ROOT / "docs/releasing.md"))))
    version = re.findall(r"VERSION=(.*)\n", script)[0]
    run("sh", "-euc", script, cwd=tmp_path)
    assert f'\n__version__ = "{version}"\n' in (tmp_path / "cronlock/__init__.py").read_text()
    for page in (tmp_path / "README.md", *(tmp_path / "docs").glob("*.md")):
        assert __version__ not in page.read_text(), page.name
    heads = re.findall(r"^## (\S+)", (tmp_path / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[:3] == ["Unreleased", version, __version__]


def test_packages(build: Build) -> None:
    """The names and fields of deb, rpm, wheel and source archive have this version."""
    need("rpm", "rpm")
    assert [build.deb.name, build.rpm.name] == [
        f"cronlock_{__version__}_all.deb",
        f"cronlock-{__version__}-1.noarch.rpm",
    ]
    assert run("dpkg-deb", "-f", build.deb, "Version") == f"{__version__}\n"
    assert run("rpm", "-qp", "--queryformat", "%{VERSION}", build.rpm) == __version__
    assert [build.wheel.name, build.sdist.name] == [
        f"cronlock-{__version__}-py3-none-any.whl",
        f"cronlock-{__version__}.tar.gz",
    ]
