"""`make install` and `make uninstall`: into a directory, with another prefix, over an earlier version."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from .support import Build, attempt, run


class Installation:
    """An installation below a directory, made by a copy of the checkout."""

    def __init__(self, build: Build, directory: Path) -> None:
        self.destdir = directory / "image"
        self.destdir.mkdir()
        # A copy for this test, whose changes must not get into other tests' packages.
        own = Build(directory)
        own.make_sources(build.sources)
        self.sources = own.sources
        self._words = [f"DESTDIR={self.destdir}", f"PYTHON={sys.executable}"]

    def make(self, target: str, *words: str) -> str:
        """Run the target as `make` would, and return its output."""
        rules = "VENV := .venv\nBIN := $(dir $(PYTHON))\n.venv/installed .venv/tools:\ninclude packaging/targets.mk\n"
        (self.sources / "install.mk").write_text(rules)
        return run("make", "--no-print-directory", "-f", "install.mk", target, *self._words, *words, cwd=self.sources)

    def files(self) -> set[str]:
        """Return all installed paths, directories included."""
        return {str(path.relative_to(self.destdir)) for path in self.destdir.rglob("*")}


@pytest.fixture
def installation(build: Build, tmp_path: Path) -> Installation:
    """Give an empty directory."""
    return Installation(build, tmp_path)


def test_uninstall_leaves_nothing(installation: Installation) -> None:
    """install and uninstall together change nothing, and keep directories that existed before."""
    (installation.destdir / "usr/local/bin").mkdir(parents=True)
    (installation.destdir / "usr/local/bin/other").write_text("")
    (installation.destdir / "etc").mkdir()
    before = installation.files()
    installation.make("install")
    assert "usr/local/bin/cronlock" in installation.files()
    (installation.destdir / "var/lib/cronlock/left-by-a-run").write_text("")
    installation.make("uninstall")
    assert installation.files() == before
    assert "nothing to uninstall" in installation.make("uninstall")


def test_prefix(installation: Installation) -> None:
    """Everything but configuration and state goes below the prefix, where the launcher finds it."""
    installation.make("install", "PREFIX=/opt/job tools")
    top = {name for name in installation.files() if not name.startswith("opt/")}
    state = {"var", "var/lib", "var/lib/cronlock"}
    assert top == {"opt", "etc", "etc/cronlock.conf", *state}
    launcher = (installation.destdir / "opt/job tools/bin/cronlock").read_text()
    assert launcher.startswith("#!/")
    assert "sys.path.append('/opt/job tools/lib/cronlock')" in launcher
    installation.make("uninstall", "PREFIX=/opt/job tools")
    assert installation.files() == set()


def test_runs_from_where_it_is(installation: Installation, tmp_path: Path) -> None:
    """The program runs on the byte code of the installation, which names the installed path."""
    prefix = tmp_path / "prefix"
    installation.make("install", f"PREFIX={prefix}")
    shutil.move(f"{installation.destdir}{prefix}", prefix)
    environ = {"PATH": os.defpath, "HOME": str(tmp_path), "CRONLOCK_CONFIG": os.devnull}
    state = f"file://{tmp_path}/leases"
    line = [str(prefix / "bin/cronlock"), "run", "--backend", state, "--key", "k", "--", "echo", "ran"]
    compiled = {path: path.stat().st_mtime_ns for path in prefix.rglob("*.pyc")}
    assert len(compiled) == len(list(prefix.rglob("*.py")))
    assert run(*line, environ=environ) == "ran\n"
    told = run(sys.executable, "-ISv", *line, environ=environ)
    assert "import 'cronlock.config.arguments' # <cronlock.bundle.Bundle " in told
    assert {path: path.stat().st_mtime_ns for path in prefix.rglob("*.pyc")} == compiled
    code = next(path for path in compiled if path.name.startswith("job."))
    assert f"{prefix}/lib/cronlock/cronlock/run/job.py".encode() in code.read_bytes()


def test_changed_configuration_is_kept(installation: Installation) -> None:
    """install and uninstall keep a changed configuration, and uninstall says so."""
    installation.make("install")
    configuration = installation.destdir / "etc/cronlock.conf"
    assert configuration.stat().st_mode & 0o7777 == 0o640
    text = configuration.read_text() + "CRONLOCK_TTL=60\n"
    configuration.write_text(text)
    installation.make("install")
    assert configuration.read_text() == text
    assert f"kept, since it was changed: {configuration}" in installation.make("uninstall")
    assert configuration.read_text() == text
    assert installation.files() == {"etc", "etc/cronlock.conf"}


def test_install_over_an_earlier_version(installation: Installation) -> None:
    """install removes files that only the earlier version had, and their byte code."""
    library = installation.destdir / "usr/local/lib/cronlock"
    gone = installation.sources / "cronlock/engines/gone.py"
    gone.write_text("")
    try:
        installation.make("install")
    finally:
        gone.unlink()
    assert (library / "cronlock/engines/gone.py").exists()
    installation.make("install")
    assert not list(library.rglob("gone*"))
    installation.make("uninstall")
    assert installation.files() == set()


def test_what_cannot_be_done_is_said(installation: Installation) -> None:
    """A relative prefix, a missing Python or an unwritable directory ends in one line, and installs nothing."""
    script = [sys.executable, str(installation.sources / "packaging/install.py"), "install"]
    for options, words in (
        (["--prefix", "usr"], "PREFIX=usr is not an absolute path"),
        (["--python", "/nonexistent/python"], "name another with PYTHON="),
        (["--destdir", "/proc/nowhere"], "as root, or into another PREFIX or DESTDIR"),
    ):
        status, said = attempt(*script, "--destdir", installation.destdir, *options)
        assert status == 1
        assert words in said
        assert said.count("\n") == 1
    assert installation.files() == set()
