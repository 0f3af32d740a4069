"""Build the package of docs/writing-a-backend.md word for word, and run its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.installation import ROOT

from .markdown import blocks

_PAGE = ROOT / "docs/writing-a-backend.md"
# The engine, which the page leaves to its reader.
_BOX = '''
"""A lockbox: entries in memory, and a clock."""

import threading
import time
from types import SimpleNamespace


class BoxError(Exception):
    """The lockbox does not answer."""


class BoxServer:
    """A lockbox."""

    def __init__(self):
        self.entries = {}
        self.lock = threading.Lock()
        self.versions = 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def client(self):
        box = Box("box.internal", 4711)
        box.server = self
        return box

    def end_lease(self, name):
        self.entries[name].lapses_at = 0.0


class Box:
    """A client of one."""

    is_oiled = False

    def __init__(self, host, port):
        self.name = f"{host}:{port}"
        self.server = BoxServer()

    def get(self, name, *, deadline):
        empty = SimpleNamespace(data=None, version=0, lapses_at=0.0, hold_until=0.0)
        return SimpleNamespace(**{**vars(self.server.entries.get(name, empty)), "now": time.time()})

    def put(self, name, data, *, if_version, lease, hold, hold_until, deadline):
        with self.server.lock:
            entry = self.get(name, deadline=deadline)
            if entry.version != if_version:
                return False, entry
            self.server.versions += 1
            entry.data, entry.version = data, self.server.versions
            if lease is not None:
                entry.lapses_at = entry.now + lease
            longest = max(entry.hold_until, entry.now + hold if hold else 0.0)
            entry.hold_until = longest if hold_until is None else hold_until
            self.server.entries[name] = entry
            return True, entry

    def drop(self, name, *, if_version, deadline):
        with self.server.lock:
            if self.get(name, deadline=deadline).version != if_version:
                return False
            self.server.entries.pop(name, None)
            return True

    def names(self, start):
        return [name for name in self.server.entries if name.startswith(start)]

    def hang_up(self):
        pass
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Give the page's package, with the files that the page names."""
    metadata, module, test, doctor = (block.text for block in blocks(_PAGE))
    directory = tmp_path / "site"
    (directory / "cronlock_lockbox").mkdir(parents=True)
    (directory / "cronlock_lockbox/__init__.py").touch()
    for text in (module, doctor):
        # The first line of each names its file.
        (directory / text.split('"""')[1].partition(":")[0]).write_text(text)
    (directory / "cronlock_lockbox/box.py").write_text(_BOX)
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
    """The page's store passes the contract, which explains a mistake."""
    done = _python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lockbox.py")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
    box = package / "site/cronlock_lockbox/box.py"
    box.write_text(box.read_text().replace("if entry.version != if_version", "if entry.version < if_version"))
    tests = "races_have_one_winner or same_answers"
    done = _python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_lockbox.py", "-k", tests)
    assert done.returncode == 1
    assert "8 of 8 swaps of one version were done" in done.stdout
    assert "another answer than the simulated store's at the end of this history" in done.stdout


def test_the_doctor_from_outside(package: Path) -> None:
    """`cronlock doctor` asks the package's doctor, and its findings count."""
    done = _python(package, "-m", "cronlock", "doctor", "--backend", "lockbox://box.internal")
    assert done.returncode == 2, done.stderr
    assert "they squeak" in done.stdout
    assert "oil them" in done.stdout


def test_a_run_from_outside(package: Path) -> None:
    """`cronlock run` accepts the package's URLs, and refuses those that its module refuses."""
    run = ("-m", "cronlock", "run", "--key", "k", "--ttl", "60", "--backend")
    done = _python(package, *run, "lockbox://box.internal", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    done = _python(package, *run, "lockbox://box.internal?color=red", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (78, "")
    assert "unknown parameter 'color'" in done.stderr
