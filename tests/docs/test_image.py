"""docs/recipes/image.sh builds an image from the real packages."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronlock import __version__
from labs.debian import clean_system
from labs.installation import ROOT
from labs.machines import Fleet
from tests.packaging.support import Build, Root, fetch_wheels, run

from .markdown import DEB, blocks, steps
from .scenes import RECIPES
from .stage import Bare, Redis

_GOOD = "*/5 * * * * root cronlock run --key billing -- billing\n"
_BAD = "0 6 * * * root cronlock run --key report -- make-report && mail-report\n"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give the packages of this checkout, each built on first use."""
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
    """With the Debian package it prints the version, installs the crontab, and cleans up after its own trial."""
    builder.take(build.deb)
    made = builder.type(f"sh image.sh {DEB} billing")
    assert made.status == 0, made.output
    assert made.output.splitlines()[-1] == f"cronlock {__version__}"
    _has_no_traces(builder)
    # As user-data does at boot.
    builder.write("/etc/cronlock.conf", "CRONLOCK_BACKEND=redis://redis.internal\n")
    assert builder.type('cronlock run --key hello -- echo "it was me"').output.strip() == "it was me"


def test_on_a_fresh_root(tmp_path: Path, build: Build) -> None:
    """On a system without package lists and cron, such as a container, it fetches both."""
    with Fleet(tmp_path / "fleet") as fleet:
        root = Root(fleet.machine("fresh"), clean_system())
        root.copy(build.deb), root.copy(RECIPES / "image.sh")
        # The test's machine has no network: apt's cache becomes its repository.
        (tmp_path / "Packages").write_text(_packages(clean_system() / "var/cache/apt/archives"))
        root.machine.run("cp", str(tmp_path / "Packages"), f"{root.path}/var/cache/apt/archives/")
        root.sh("mv /var/cache/apt/archives /srv/repository; mkdir -p /var/cache/apt/archives/partial")
        root.sh("rm -rf /var/lib/apt/lists/* /etc/apt/sources.list.d/*")
        root.sh("echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list")
        root.sh(f"printf %s {shlex.quote(_GOOD)} >/root/billing")
        said = root.sh(f"cd /root; sh image.sh {build.deb.name} billing")
        assert said.splitlines()[-1] == f"cronlock {__version__}"
        assert root.run("cat", "/etc/cron.d/billing") == _GOOD
        assert root.has("/usr/sbin/cron")


def _packages(directory: Path) -> str:
    """Return the index of a flat repository."""
    stanzas = []
    for package in sorted(directory.glob("*.deb")):
        data = package.read_bytes()
        control = run("dpkg-deb", "-f", package).strip()
        digest = hashlib.sha256(data).hexdigest()
        stanzas.append(f"{control}\nFilename: ./{package.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    return "\n".join(stanzas)


def test_from_one_file(builder: Bare, build: Build) -> None:
    """With cronlock.pyz too. It refuses a crontab that cron would ignore, or with unwrapped lines."""
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
    """The commands of docs/packages.md about cronlock.pyz work."""
    builder.take(build.pyz)
    builder.sh("command -v python3.9 || ln -s /usr/bin/python3 /usr/local/bin/python3.9")
    page = [block for block in blocks(ROOT / "docs/packages.md") if "cronlock.pyz" in block.first]
    assert len(page) == 2
    for step in (step for block in page for step in steps(block)):
        # man would start a pager.
        done = builder.type(step.command.replace("| man -l -", "| head -c 1000"))
        assert done.status == 0, done.output
        assert ("hello" in done.output) or (".Dt CRONLOCK 1" in done.output)


def test_something_else(builder: Bare) -> None:
    """It refuses any other file before it changes anything."""
    refused = builder.type("sh image.sh billing")
    assert refused.status == 64
    assert "neither" in refused.output
