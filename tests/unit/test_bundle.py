"""The byte code of a run in one file: what is in it, what is taken from it, and what is not."""

from __future__ import annotations

import fcntl
import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cronlock.bundle import _HEAD, PLACE, PLACE_OF_WHEELS
from labs.installation import ROOT, clean_environment

_MODULE = "cronlock.run.job"


class Package:
    """A copy of a package with a bundle, made as installations make it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "cronlock"
        self.bundle = self.directory / PLACE
        self.source = self.directory / "run/job.py"

    def make(self, *words: str) -> None:
        """Write the bundle."""
        self.python(str(self.directory / "bundle_writer.py"), *words)

    def python(self, *words: str) -> str:
        """Return what the interpreter of packages says, started with `words`."""
        command = [sys.executable, "-IS", "-W", "ignore", *words]
        return subprocess.run(command, env=clean_environment(), check=True, capture_output=True, text=True).stdout

    def loader(self, module: str = _MODULE) -> str:
        """Return what loads a module in a program that uses the bundle."""
        return self.run(f"import {module} as it; print(type(it.__loader__).__name__, it.__file__)")

    def run(self, code: str) -> str:
        """Return what a program prints that uses the bundle as the launcher does."""
        return self.python("-c", self.program(code))

    def program(self, code: str) -> str:
        """Return a program that uses the bundle, and then runs `code`."""
        path = str(self.directory.parent)
        return f"import sys; sys.path.append({path!r}); from cronlock import bundle; bundle.use()\n{code}"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Give the package that each test has a copy of, since compiling takes a second."""
    original = Package(tmp_path_factory.mktemp("original"))
    shutil.copytree(ROOT / "cronlock", original.directory, ignore=shutil.ignore_patterns("__pycache__"))
    original.make()
    return original


@pytest.fixture
def package(original: Package, tmp_path: Path) -> Package:
    """Give a package of its own."""
    package = Package(tmp_path)
    shutil.copytree(original.directory, package.directory)
    return package


def test_all_that_a_run_may_need(package: Package) -> None:
    """Each module of a run and of an engine is in it, and none of other commands'."""
    index = marshal.loads(package.bundle.read_bytes()[_HEAD:])[0]
    run = {*("durations", "errors", "keys", "value", "__main__"), *(f"run.{name}" for name in ("job", "standby"))}
    run |= {f"engines.{name}" for name in ("registry", "redis.ensemble", "wire.http", "sqs.backend", "zookeeper.tree")}
    assert {f"cronlock.{name}" for name in run} <= set(index)
    others = {"cronlock.cli", "cronlock.commands.status", "cronlock.engines.redis.doctor", "cronlock.bundle", "os"}
    assert not others & set(index)
    assert package.loader() == f"Bundle {package.source}\n"


_KNOWN = 'cronlock.know_packages("config", "engines", "engines.wire", "engines.file", "lease", "process", "run")'


def test_each_module_is_executed_once(package: Package) -> None:
    """However the modules of a group are asked for, each is one module with one spec, as after any import."""
    code = f"""
import builtins, cronlock
executed = []
real = builtins.exec
builtins.exec = lambda code, names: (executed.append(names["__name__"]), real(code, names))
{_KNOWN}
from cronlock.run.job import Job
import cronlock.config.arguments, cronlock.engines.file.store, cronlock.run.supervisor
executed = [name for name in executed if name.startswith("cronlock.")]
for name in executed:
    module = sys.modules[name]
    parent, _, last = name.rpartition(".")
    assert getattr(sys.modules[parent], last) is module, name
    assert module.__spec__.name == module.__name__ == name and module.__spec__.parent == module.__package__, name
    assert module.__spec__.loader is module.__loader__ is sys.meta_path[0], name
assert sys.modules["cronlock.run.job"].Job is Job
print(len(executed), len(set(executed)), "cronlock.run.holding" in executed, "click" in sys.modules)
"""
    count, different, held, click = package.run(code).split()
    assert int(count) == int(different) > 30
    assert (held, click) == ("True", "False")


def test_groups_are_what_a_run_imports(package: Package) -> None:
    """An import that a group serves finds all that it imports in turn: nothing is searched for meanwhile."""
    code = f"""
import cronlock
{_KNOWN}
asked = []
real = sys.meta_path[0].find_spec
sys.meta_path[0].find_spec = lambda name, *more: (asked.append(name), real(name, *more))[1]
from cronlock.config.arguments import read_run
from cronlock.run.job import Job
from cronlock.lease.leases import Leases
print(*asked)
import cronlock.engines.file.store
import cronlock.process.guard, cronlock.run.supervisor
print(*(name for name in asked if name.startswith("cronlock.")))
"""
    first, second = (line.split() for line in package.run(code).splitlines())
    assert [name for name in first if name.startswith("cronlock.")] == ["cronlock.config.arguments"]
    assert second == ["cronlock.config.arguments", "cronlock.engines.file.store", "cronlock.process.guard"]


def test_what_no_run_reads_is_left_out(package: Package) -> None:
    """Docstrings and annotations of functions are not in the byte code; the fields of values are."""
    code = """
import cronlock.lease.vocabulary as it
print(it.__doc__, it.Run.__doc__, it.Run.__annotations__["owner"])
import cronlock.durations
print(cronlock.durations.show.__doc__, cronlock.durations.show.__annotations__, cronlock.durations.show(90.0))
"""
    assert package.run(code) == "None None str\nNone {} 1m30s\n"


def test_a_run_needs_no_os(package: Package) -> None:
    """A run on a file, and its skip, do without importing `os`."""
    code = f"""
sys.argv = ["cronlock", "run", "--key", "job", "--backend", "file://{package.directory.parent}", "--", "/bin/true"]
import cronlock.system
real = cronlock.system.os._exit
def end(status):
    if cronlock.system.os.getpid() == main:
        cronlock.system.os.write(2, b"%d %a" % (status, "os" in sys.modules))
    real(status)
main = cronlock.system.os.getpid()
cronlock.system._exit = end
from cronlock.__main__ import main as run
run()
"""
    for _ in ("a run", "a skip"):
        command = [sys.executable, "-IS", "-c", package.program(code)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True)
        assert done.stderr == "0 False"


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
    told = package.run(f"try:\n    import {_MODULE}\nexcept ModuleNotFoundError as error:\n    print(error.name)")
    assert told == f"{_MODULE}\n"


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
    assert package.loader().startswith("Bundle ")
    change(package.bundle)
    assert package.loader() == f"SourceFileLoader {package.source}\n"


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream(package: Package, closed: int) -> None:
    """Its number stays free for what is put there, and the program starts without the bundle."""
    code = package.program(f"import os, cronlock.run.job; os.open('/', 0) == {closed} or os._exit(1)")
    line = ["sh", "-c", f'"$@" {closed}<&-', "sh", sys.executable, "-IS", "-c", code]
    assert subprocess.run(line, env=clean_environment()).returncode == 0


def test_where_it_cannot_be_written(package: Package) -> None:
    """The failure is one line with the file, and the old bundle stays."""
    old = package.bundle.read_bytes()
    package.source.unlink()
    package.source.symlink_to("/nonexistent/job.py")
    command = [sys.executable, "-IS", str(package.directory / "bundle_writer.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"cronlock: {package.source}: No such file or directory\n")
    assert package.bundle.read_bytes() == old


class Installed:
    """A copy of the package as pip installs it: with an empty bundle, in a directory of such packages.

    Of the engines it has one, for the time that compiling takes.
    """

    def __init__(self, directory: Path, place: str = "site-packages") -> None:
        self.directory = directory / place / "cronlock"
        engines = [path.name for path in (ROOT / "cronlock/engines").iterdir() if path.is_dir() and path.name != "file"]
        ignore = shutil.ignore_patterns("__pycache__", *engines)
        shutil.copytree(ROOT / "cronlock", self.directory, ignore=ignore)
        self.bundle = self.directory / PLACE_OF_WHEELS
        self.bundle.write_bytes(b"")
        self.launcher = directory / "launcher.py"
        path = f"import sys; sys.path.insert(0, {str(self.directory.parent)!r})\n"
        self.launcher.write_text(path + (ROOT / "bin/cronlock").read_text())

    def start(self, *words: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the launcher with `words`."""
        command = [*prefix, sys.executable, *environment.pop("options", "-I").split(), str(self.launcher), *words]
        return subprocess.run(command, env={**clean_environment(), **environment}, capture_output=True, text=True)

    def has(self) -> bool:
        """Return whether the bundle was written; nothing else may lie beside it."""
        assert [path.name for path in self.directory.glob("run.bundle*")] == [PLACE_OF_WHEELS]
        return bool(self.bundle.stat().st_size)


def _words(directory: Path, script: str) -> list[str]:
    return ["run", "--key", "job", "--backend", f"file://{directory}", "--", "sh", "-c", script]


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Give a package as pip installs it."""
    return Installed(tmp_path)


def test_the_first_run_writes_what_pip_left_empty(installed: Installed, tmp_path: Path) -> None:
    """A run writes it once the command ended, which notices nothing; the next uses it."""
    about = f"test -s {installed.bundle} || echo none; echo noise >&2; exit 7"
    done = installed.start(*_words(tmp_path, about))
    assert (done.returncode, done.stdout, done.stderr) == (7, "none\n", "noise\n")
    assert installed.has()
    assert installed.bundle.stat().st_mode & 0o777 == 0o644
    program = f"import sys; sys.path.insert(0, {str(installed.directory.parent)!r}); from cronlock import bundle\n"
    program += f"bundle.use(); import {_MODULE} as it; print(type(it.__loader__).__name__)"
    told = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True).stdout
    assert told == "Bundle\n"
    first = installed.bundle.stat()
    assert installed.start("--version").returncode == 0
    assert installed.bundle.stat() == first


def test_any_command_writes_it(installed: Installed) -> None:
    """Such as the one that the making of an image tries."""
    done = installed.start("--version")
    assert (done.returncode, done.stderr, installed.has()) == (0, "", True)


def test_who_must_not_write_leaves_it_empty(installed: Installed) -> None:
    """Whoever forbade the interpreter to write, and whoever finds somebody else writing."""
    assert installed.start("--version", options="-IB").stderr == ""
    assert not installed.has()
    assert installed.start("--version", options="-s", PYTHONDONTWRITEBYTECODE="1").stderr == ""
    assert not installed.has()
    with installed.bundle.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert installed.start("--version").stderr == ""
        assert not installed.has()
    full = installed.start("--version", prefix=("sh", "-c", 'ulimit -f 1; trap "" XFSZ; exec "$@"', "sh"))
    assert (full.returncode, full.stderr, installed.has()) == (0, "", False)
    installed.start("--version")
    assert installed.has()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives files away")
def test_only_whose_bundle_is_used_writes_it(installed: Installed) -> None:
    """Neither who may not write it, nor who could but does not own the package; for them, no compiler is imported."""
    os.chown(installed.bundle, 4711, 4711)
    done = installed.start("--version", prefix=("setpriv", "--bounding-set=-dac_override"))
    assert (done.returncode, done.stderr, installed.has()) == (0, "", False)
    os.chown(installed.directory, 4711, 4711)
    others = ("setpriv", "--reuid=4712", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    done = installed.start("--version", options="-I -X importtime", prefix=others)
    assert (done.returncode, installed.has()) == (0, False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "cronlock.bundle" in imported
    assert not imported & {"ast", "cronlock.bundle_writer"}


def test_nobody_else_can_open_it_before_it_is_whole(installed: Installed) -> None:
    """Whatever the umask: who had it open could write to it afterwards."""
    watched = f"""
import os, sys
sys.path.insert(0, {str(installed.directory.parent)!r})
os.umask(0)
from cronlock import bundle_writer
real = bundle_writer._made
def made(*words):
    print(oct(os.stat({f"{installed.bundle}.new"!r}).st_mode & 0o777))
    return real(*words)
bundle_writer._made = made
bundle_writer.fill({str(installed.directory)!r})
"""
    told = subprocess.run([sys.executable, "-I", "-c", watched], check=True, capture_output=True, text=True).stdout
    assert told == "0o600\n"
    assert installed.bundle.stat().st_mode & 0o777 == 0o644
    assert installed.has()


@pytest.mark.parametrize("missing", ["bundle_writer.py", "bundle.py", "value.py", ""])
def test_a_package_that_goes_away_during_the_job(installed: Installed, tmp_path: Path, missing: str) -> None:
    """What cannot be written costs the job nothing: neither its exit status, nor a word."""
    path = installed.directory / missing
    what = f"echo 'def' >{path}" if missing == "value.py" else f"mv {path} {tmp_path}/gone"
    done = installed.start(*_words(tmp_path, f"{what}; exit 7"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")
    assert not list(installed.directory.glob("run.bundle.*"))


def test_what_a_killed_writer_left(installed: Installed) -> None:
    """It is replaced, and nothing is made where there is no room for it."""
    left = installed.directory / "run.bundle.new"
    left.write_bytes(b"half")
    installed.start("--version", prefix=("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
    assert not installed.has()
    left.write_bytes(b"half")
    installed.start("--version")
    assert installed.has()


def test_optimisation_of_the_first_command(installed: Installed) -> None:
    """It is not that of all later ones."""
    installed.start("--version", options="-I -OO")
    first = installed.bundle.read_bytes()
    installed.bundle.write_bytes(b"")
    installed.start("--version")
    assert installed.bundle.read_bytes() == first != b""


def test_no_checkout_is_written_to(tmp_path: Path) -> None:
    """What was not installed stays as it is, and so does what has no place for it."""
    checkout = Installed(tmp_path, "my-packages")
    assert checkout.start("--version").returncode == 0
    assert not checkout.has()
    without = Installed(tmp_path)
    without.bundle.unlink()
    done = without.start("--version")
    assert (done.returncode, done.stderr, without.bundle.exists()) == (0, "", False)


def test_an_upgrade(installed: Installed) -> None:
    """A bundle of other sources is not used; the new package brings an empty one, which is written anew."""
    installed.start("--version")
    job = installed.directory / "run/job.py"
    job.write_text(job.read_text() + "\n")
    os.utime(job, (1, 1))
    installed.bundle.unlink()
    installed.bundle.write_bytes(b"")
    installed.start("--version")
    index = marshal.loads(installed.bundle.read_bytes()[_HEAD:])[0]
    assert index[_MODULE][1:3] == (1, job.stat().st_size)
