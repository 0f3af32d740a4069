"""The byte code of a run in one file: what is taken from it, and what is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cronlock.bundle import PLACE, Bundle
from labs.installation import ROOT, clean_environment

_MODULE = "cronlock.run.job"


class Package:
    """A copy of the package with a bundle, made as installations make it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cronlock"
        shutil.copytree(ROOT / "cronlock", self.directory, ignore=shutil.ignore_patterns("__pycache__"))
        self.bundle = self.directory / PLACE
        self.source = self.directory / "run/job.py"
        self.make()

    def make(self, *words: str) -> None:
        """Write the bundle."""
        self.python(str(self.directory / "bundle.py"), *words)

    def python(self, *words: str) -> str:
        """Return what the interpreter of packages says, started with `words`."""
        command = [sys.executable, "-IS", "-W", "ignore", *words]
        return subprocess.run(command, env=clean_environment(), check=True, capture_output=True, text=True).stdout

    def loader(self, module: str = _MODULE) -> str:
        """Return what loads a module in a program that uses the bundle."""
        start = (
            f"import sys; sys.path.append({str(self.directory.parent)!r}); from cronlock import bundle; bundle.use();"
        )
        return self.python("-c", f"{start} import {module} as it; print(type(it.__loader__).__name__, it.__file__)")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """Give a package of its own."""
    return Package(tmp_path)


def test_all_that_a_run_may_need(package: Package) -> None:
    """Each module of a run and of an engine is in it, and none of other commands'."""
    bundle = Bundle(str(package.directory))
    run = {*("durations", "errors", "keys", "value", "__main__"), *(f"run.{name}" for name in ("job", "standby"))}
    run |= {f"engines.{name}" for name in ("registry", "redis.ensemble", "wire.http", "sqs.backend", "zookeeper.tree")}
    for name in run:
        assert bundle.find_spec(f"cronlock.{name}") is not None, name
    for name in ("cronlock.cli", "cronlock.commands.status", "cronlock.engines.redis.doctor", "cronlock.bundle", "os"):
        assert bundle.find_spec(name) is None, name
    assert package.loader() == f"Bundle {package.source}\n"


def test_places_are_those_of_the_installed_program(package: Package) -> None:
    """Tracebacks name the final path of a module that was installed below another directory."""
    package.make("/usr/lib/cronlock/cronlock")
    assert b"/usr/lib/cronlock/cronlock/run/job.py" in package.bundle.read_bytes()
    assert str(package.directory).encode() not in package.bundle.read_bytes()


def _rewritten(file: Path, text: str, later: int) -> None:
    about = file.stat()
    file.write_text(text)
    os.utime(file, (about.st_atime, about.st_mtime + later))


@pytest.mark.parametrize(
    "change",
    [
        lambda file: _rewritten(file, file.read_text().replace("class Job", "class Joy"), 1),
        lambda file: _rewritten(file, file.read_text() + "\n", 0),
    ],
    ids=["another time", "another size"],
)
def test_a_changed_source_is_loaded(package: Package, change: Callable[[Path], None]) -> None:
    """A changed source is loaded from its file, all others from the bundle, until that is rebuilt."""
    change(package.source)
    assert package.loader() == f"SourceFileLoader {package.source}\n"
    assert package.loader("cronlock.run.log").startswith("Bundle ")
    package.make()
    assert package.loader().startswith("Bundle ")


def test_a_removed_source(package: Package) -> None:
    """A module without a source is not found, as without a bundle."""
    package.source.unlink()
    assert Bundle(str(package.directory)).find_spec(_MODULE) is None


def _overwrite(start: int, what: bytes) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        data = bytearray(bundle.read_bytes())
        data[start : start + len(what)] = what
        bundle.write_bytes(data)

    return change


def _link(bundle: Path) -> None:
    bundle.rename(bundle.with_name("other"))
    bundle.symlink_to("other")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(Path.unlink, id="none"),
        pytest.param(lambda bundle: bundle.write_bytes(b""), id="empty"),
        pytest.param(lambda bundle: os.truncate(bundle, 100), id="cut in its index"),
        pytest.param(lambda bundle: os.truncate(bundle, 20000), id="cut in the codes"),
        pytest.param(lambda bundle: bundle.write_bytes(bytes(bundle.stat().st_size)), id="nothing but zeros"),
        pytest.param(_overwrite(0, b"\x01\x02"), id="another interpreter's"),
        pytest.param(_overwrite(5, b"\xff\xff\xff"), id="an index beyond its end"),
        pytest.param(_overwrite(40, b"\xff"), id="a damaged index"),
        pytest.param(_overwrite(20000, bytes(3000000)), id="no code"),
        pytest.param(lambda bundle: bundle.chmod(0o664), id="written by others"),
        pytest.param(lambda bundle: bundle.chmod(0o646), id="written by everyone"),
        pytest.param(_link, id="a link"),
        pytest.param(
            lambda bundle: os.chown(bundle, 4711, 4711),
            id="another owner's",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away"),
        ),
    ],
)
def test_a_bundle_that_is_no_good(package: Package, change: Callable[[Path], None]) -> None:
    """The module is loaded as if there were none."""
    change(package.bundle)
    assert package.loader() == f"SourceFileLoader {package.source}\n"
    package.bundle.unlink(missing_ok=True)
    package.make()
    assert package.loader().startswith("Bundle ")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream(package: Package, closed: int) -> None:
    """Its number stays free for what is put there, and the program starts without the bundle."""
    start = f"import sys; sys.path.append({str(package.directory.parent)!r}); from cronlock import bundle; bundle.use()"
    code = f"{start}; import os, cronlock.run.job; os.open('/', 0) == {closed} or os._exit(1)"
    line = ["sh", "-c", f'"$@" {closed}<&-', "sh", sys.executable, "-IS", "-c", code]
    assert subprocess.run(line, env=clean_environment()).returncode == 0


def test_where_it_cannot_be_written(package: Package) -> None:
    """The failure is one line with the file, and the old bundle stays."""
    old = package.bundle.read_bytes()
    package.source.unlink()
    package.source.symlink_to("/nonexistent/job.py")
    command = [sys.executable, "-IS", str(package.directory / "bundle.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"cronlock: {package.source}: No such file or directory\n")
    assert package.bundle.read_bytes() == old
