"""docs/recipes/image.sh makes an image, in a root of its own, from the real packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.installation import ROOT
from labs.machines import Fleet
from tests.packaging.support import Build, fetch_wheels

from .markdown import blocks, steps
from .scenes import RECIPES
from .stage import Bare, Redis

_GOOD = "*/5 * * * * root cronlock run --key billing -- billing\n"
_BAD = "0 6 * * * root cronlock run --key report -- make-report && mail-report\n"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give the packages of this checkout, made when asked for."""
    fetch_wheels()
    found = Build(tmp_path_factory.mktemp("build"))
    found.make_sources(ROOT)
    return found


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Bare]:
    """Give the machine that becomes an image."""
    with Fleet(tmp_path / "fleet") as fleet:
        redis = Redis(fleet)
        found = Bare(fleet.machine("builder"), redis.address)
        found.take(RECIPES / "image.sh")
        found.write("billing", _GOOD)
        yield found


def _has_no_traces(machine: Bare) -> None:
    assert machine.sh("ls -A /var/lib/cronlock 2>/dev/null || :") == ""
    assert not machine.sh("grep -v '^#' /etc/cronlock.conf 2>/dev/null || :").strip()
    assert machine.sh("ls /etc/cron.d") == "billing\n"
    assert machine.sh("cat /etc/cron.d/billing") == _GOOD


def test_from_a_package(builder: Bare, build: Build) -> None:
    """With the Debian package: it prints the version, and leaves the crontab and nothing of what it tried."""
    builder.take(build.deb)
    made = builder.type("sh image.sh cronlock_0.1.0_all.deb billing")
    assert made.status == 0, made.output
    assert made.output.splitlines()[-1] == "cronlock 0.1.0"
    _has_no_traces(builder)
    # What user-data does at boot.
    builder.write("/etc/cronlock.conf", "CRONLOCK_BACKEND=redis://redis.internal\n")
    assert builder.type('cronlock run --key hello -- echo "it was me"').output.strip() == "it was me"


def test_from_one_file(builder: Bare, build: Build) -> None:
    """With cronlock.pyz likewise; a crontab that cron would pass over, or that is not guarded, is refused."""
    builder.take(build.pyz)
    builder.write("report.cron", _GOOD)
    builder.write("report", _BAD)
    dotted = builder.type("sh image.sh cronlock.pyz report.cron")
    assert dotted.status == 65
    unguarded = builder.type("sh image.sh cronlock.pyz report")
    assert unguarded.status == 1
    assert "mail-report" in unguarded.output
    assert builder.sh("ls /etc/cron.d") == ""
    made = builder.type("sh image.sh cronlock.pyz billing")
    assert made.status == 0, made.output
    _has_no_traces(builder)


def test_pyz_as_documented(builder: Bare, build: Build) -> None:
    """The commands of docs/packages.md about the one file work on it."""
    builder.take(build.pyz)
    builder.sh("command -v python3.9 || ln -s /usr/bin/python3 /usr/local/bin/python3.9")
    page = [block for block in blocks(ROOT / "docs/packages.md") if "cronlock.pyz" in block.first]
    assert len(page) == 2
    for step in (step for block in page for step in steps(block)):
        # The pager is man's own business.
        done = builder.type(step.command.replace("| man -l -", "| head -c 1000"))
        assert done.status == 0, done.output
        assert ("hello" in done.output) or (".Dt CRONLOCK 1" in done.output)


def test_something_else(builder: Bare) -> None:
    """A file of another kind is refused before anything is done."""
    refused = builder.type("sh image.sh billing")
    assert refused.status == 64
    assert "neither" in refused.output
