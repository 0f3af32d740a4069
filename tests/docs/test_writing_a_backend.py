"""docs/writing-a-backend.md, done word for word: a package of somebody else's, with its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT

from .markdown import blocks

_PAGE = ROOT / "docs/writing-a-backend.md"
# What the page leaves to its reader: an engine, here the one in memory.
_BOX = '''
class BoxServer(MemoryServer):
    """A lockbox."""

    locks_are_oiled = False

    def __init__(self):
        super().__init__(SystemClock())

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def end_lease(self, key):
        self.entries[key].lapse = self.clock.now()

    def end_hold(self, key):
        entry = self.entries[key]
        entry.hold_until, entry.kept = self.clock.now(), (0.0, None)


class Lockbox(MemoryBackend):
    """One node's way to a lockbox."""

    def __init__(self, host, port, prefix, timeout):
        super().__init__(BoxServer())

    @classmethod
    def on(cls, server):
        self = cls("box.internal", 4711, "cronlock", 5.0)
        self.server = server
        return self
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What the page says, in the files that it names, in a directory of modules."""
    metadata, module, test, doctor = (block.text for block in blocks(_PAGE))
    directory = tmp_path / "site"
    (directory / "cronlock_lockbox").mkdir(parents=True)
    (directory / "cronlock_lockbox/__init__.py").touch()
    for text in (module, doctor):
        # Each says in its first line where it belongs.
        (directory / text.split('"""')[1].partition(":")[0]).write_text(text)
    box = (ROOT / "tests/engines/memory.py").read_text()
    box = box.replace("from labs.clocks import ManualClock", "from cronlock.lease.clock import SystemClock")
    box = box.replace("clock: ManualClock", "clock: SystemClock")
    (directory / "cronlock_lockbox/box.py").write_text(box + _BOX)
    (tmp_path / "test_lockbox.py").write_text(test)
    info = directory / "cronlock_lockbox-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cronlock-lockbox\nVersion: 1.0\n")
    points = metadata.split('[project.entry-points."cronlock.backends"]\n')[1].replace('"', "")
    (info / "entry_points.txt").write_text(f"[cronlock.backends]\n{points}")
    return tmp_path


def _python(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(package / "site"), "CRONLOCK_CONFIG": os.devnull}
    environ["CRONLOCK_STATE_DIR"] = str(package / "state")
    command = [sys.executable, *words]
    return subprocess.run(command, env=environ, cwd=package, capture_output=True, text=True, timeout=300)


def test_the_contract_from_outside(package: Path) -> None:
    """Somebody else's backend earns all of the contract, the state machine included, and a mistake is explained."""
    done = _python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lockbox.py")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    box = package / "site/cronlock_lockbox/box.py"
    box.write_text(box.read_text() + "    def renew(self, grant):\n        return True\n")
    done = _python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lockbox.py", "-k", "only_the_owner")
    assert done.returncode == 1
    assert "assert not True" in done.stdout


def test_the_doctor_from_outside(package: Path) -> None:
    """The package's doctor is asked, and what it finds counts."""
    done = _python(package, "-m", "cronlock", "doctor", "--backend", "lockbox://box.internal")
    assert done.returncode == 2, done.stderr
    assert "they squeak" in done.stdout
    assert "oil them" in done.stdout


def test_a_run_from_outside(package: Path) -> None:
    """The program serves the package's URLs, and refuses those that its module refuses."""
    run = ("-m", "cronlock", "run", "--key", "k", "--ttl", "60", "--backend")
    done = _python(package, *run, "lockbox://box.internal", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    done = _python(package, *run, "lockbox://box.internal?color=red", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (78, "")
    assert "unknown parameter 'color'" in done.stderr
