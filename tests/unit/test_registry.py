"""The registry of backends: engines without their client libraries, and third parties' engines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT

# The missing package of each scheme, and its name on Debian and for pip.
_ENGINES = {
    "postgresql://h/d?channel_binding=require": (
        "PostgreSQL's library libpq",
        "libpq5 (Red Hat: libpq)",
        "'psycopg[binary]'",
    ),
    "postgres://h/d?channel_binding=require": (
        "PostgreSQL's library libpq",
        "libpq5 (Red Hat: libpq)",
        "'psycopg[binary]'",
    ),
}
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cronlock.__main__ import main; main()"
# To Python they are then not installed; nor is libpq, which will do without psycopg.
_MISSING = ["botocore", "cronlock.engines.postgresql.libpq", "psycopg"]
_WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({_MISSING})); "
_THEIRS = """\
from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import Traits

class Lockbox:
    traits = Traits(shortest_ttl=1, longest_ttl=1e6)
    notices = []

    def __init__(self, name):
        self.name = name

    def acquire(self, claim):
        raise BackendUnavailable(f"lockbox://{self.name}: closed today")

    abandon = read = acquire

    def close(self):
        pass

def open_backend(url, timeout):
    return Lockbox(url.need_hosts(1)[0][0])
"""


def _start(*words: str, paths: tuple[Path, ...] = (), before: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "CRONLOCK_CONFIG": os.devnull}
    command = [sys.executable, "-c", before + _START, str(ROOT), *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)


def _run(url: str, tmp_path: Path, paths: tuple[Path, ...] = (), before: str = "") -> subprocess.CompletedProcess[str]:
    words = ("run", "--key", "k", "--backend", url, "--state-dir", str(tmp_path / "state"), "--", "true")
    return _start(*words, paths=paths, before=before)


@pytest.mark.parametrize("venv", [True, False])
@pytest.mark.parametrize("url", _ENGINES)
def test_missing_client(url: str, venv: bool, tmp_path: Path) -> None:
    """Without its client an engine says what brings it, to this interpreter, and the command does not run."""
    before = _WITHOUT + f"sys.prefix, sys.base_prefix = {'/opt/v' if venv else '/usr'!r}, '/usr'; "
    done = _run(url, tmp_path, before=before)
    lacking, package, pip = _ENGINES[url]
    way = f"/opt/v/bin/pip install {pip}"
    if not venv:
        way = f"install your distribution's {package}; for a Python of your own, pip install {pip}"
    said = f"cronlock: k: --backend: {url.partition('?')[0]}: a login like this needs {lacking}: {way}\n"
    assert (done.returncode, done.stderr) == (78, said)


def test_package_of_the_distribution(tmp_path: Path) -> None:
    """A package that carries its modules alone finds an engine's client in the system's directories."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); assert 'site' not in sys.modules\n"
        "sys.modules['cronlock.engines.postgresql.libpq'] = None; from cronlock.engines import registry\n"
        "registry.open_backend('postgresql://h/d?channel_binding=require', 1.0).close()\n"
        "print(sys.modules['psycopg'].__version__)"
    )
    # A virtual environment's interpreter knows its directories by itself once site is asked.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout[0].isdigit()


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory with a third party's package, as pip installs it."""
    directory = tmp_path / "site"
    info = directory / "lockbox-1.0.dist-info"
    info.mkdir(parents=True)
    (directory / "lockbox.py").write_text(_THEIRS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lockbox\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cronlock.backends]\nlockbox = lockbox\nfile = lockbox\nbroken = nowhere\n")
    return directory


def test_backend_of_others(theirs: Path, tmp_path: Path) -> None:
    """A package that names its scheme by an entry point serves it."""
    done = _run("lockbox://cellar", tmp_path, paths=(theirs,))
    assert done.returncode == 69
    assert "lockbox://cellar: closed today" in done.stderr


def test_backend_of_others_in_the_doctor(theirs: Path) -> None:
    """It needs no module for the doctor."""
    done = _start("doctor", "--backend", "lockbox://cellar", paths=(theirs,))
    assert done.returncode == 2
    assert "lockbox://cellar: closed today" in done.stdout


def test_packages_cannot_replace_our_schemes(theirs: Path, tmp_path: Path) -> None:
    """A package cannot replace a scheme of cronlock's own."""
    done = _run(f"file://{tmp_path}/leases", tmp_path, paths=(theirs,))
    assert (done.returncode, done.stderr) == (0, "")


def test_unknown_scheme_names_theirs_too(theirs: Path, tmp_path: Path) -> None:
    """A mistyped scheme is answered with the installed ones and the nearest."""
    assert "unknown backend lockbx://; did you mean lockbox://?" in _run("lockbx://a", tmp_path, paths=(theirs,)).stderr
    done = _run("cellar://lockbox", tmp_path, paths=(theirs,))
    assert done.returncode == 78
    assert "unknown backend cellar://; known: file, " in done.stderr
    assert "lockbox" in done.stderr


def test_entry_point_that_leads_nowhere(theirs: Path, tmp_path: Path) -> None:
    """A package that was removed by halves is no traceback."""
    done = _run("broken://cellar", tmp_path, paths=(theirs,))
    assert done.returncode == 78
    served = "broken:// is served by the module nowhere, which cannot be imported: No module named 'nowhere'"
    assert done.stderr == f"cronlock: k: --backend: {served}\n"
