"""The mutation score: each small change of the files that decide about leases, and whether their tests fail on it.

    python -m chaos.mutants.score [--jobs N] [--out FILE] [FILE...]    all files unless named, by their ending

Prints each change that no test noticed, and the score. A change that no test can notice stands in
chaos/mutants/equivalent.py with its reason, and is not counted. `python -m chaos.report --add FILE` writes the figures
of `--out FILE` into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis as hypothesis  # once for all: each change is tried by a child of this process
import pytest

from . import equivalent
from .operators import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
#: The score that is promised, in percent.
_PROMISED = 95.0
#: How long a file's tests may take on a change, which may make them wait for ever: seconds, and so many times as long
#: as without one.
_LIMIT, _TIMES = 30, 5
#: A status that no bug exits with.
_PASSED = 43
#: See unshare(2).
_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000
_LEASES = tuple(f"unit/test_leases{part}" for part in ("", "_hold", "_standby", "_record", "_losses"))
_RULES = ("unit/test_rules", "unit/test_rules_record")
_STORES = ("unit/test_leases_and_stores", *_LEASES, "unit/test_store")
#: By file: the tests that belong to it, the quicker ones first. lease/protocols.py is left out: it only declares.
TESTS: Mapping[str, Sequence[str]] = {
    "lease/clock.py": ("unit/test_watermarks",),
    "lease/describe.py": ("unit/test_describe", "unit/test_views"),
    "lease/leases.py": _STORES,
    "lease/listener.py": ("unit/test_listener",),
    "lease/rules.py": (*_RULES, *_LEASES, "unit/test_store"),
    "lease/server_clock.py": ("unit/test_server_clock",),
    "lease/state.py": ("unit/test_state", *_RULES, *_LEASES),
    "lease/store.py": _STORES,
    "lease/timing.py": ("unit/test_timing", "unit/test_standby"),
    "lease/vocabulary.py": (*_RULES, *_LEASES, "unit/test_state", "unit/test_holding", "unit/test_acquisition"),
    "lease/watermarks.py": ("unit/test_watermarks",),
    "run/acquisition.py": ("unit/test_waiting", "unit/test_acquisition", "unit/test_access", "unit/test_standby"),
    "run/holding.py": ("unit/test_access", "unit/test_holding", "unit/test_acquisition"),
    "run/standby.py": ("unit/test_standby_pauses", "unit/test_standby"),
    "process/guard.py": ("unit/test_guard", "unit/test_watchdog"),
    "process/protocol.py": ("unit/test_timing", "unit/test_guard"),
    "process/watchdog.py": ("unit/test_watchdog", "unit/test_guard"),
}


#: The copy of this process, once it has one.
_copies: list[Copy] = []


class Try(NamedTuple):
    """A change that the tests of its file are to notice within a number of seconds."""

    file: str
    mutant: Mutant
    limit: int


class Verdict(NamedTuple):
    """What the tests said of a change, and the seconds that they took."""

    file: str
    mutant: Mutant
    noticed: bool
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the tests notice as many changes as is promised."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mutants.score", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of: {', '.join(TESTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    options = parser.parse_args(arguments)
    files = [file for file in TESTS if not options.files or any(file.endswith(name) for name in options.files)]
    if not files:
        parser.error(f"no such file: {options.files[0]}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        pool = multiprocessing.get_context("fork").Pool(options.jobs, _begin, [directory])
        unchanged = [Try(file, Mutant(0, file, "unchanged", source_of(file)), 3600) for file in files]
        limits = {}
        for verdict in pool.imap_unordered(_judge, unchanged):
            if verdict.noticed:
                parser.error(f"the tests of {verdict.file} fail without a change")
            limits[verdict.file] = int(_LIMIT + _TIMES * verdict.seconds)
        for file in files:
            figures[file] = _score(file, pool.imap(_judge, _changes(file, limits[file])))
        pool.close()
        pool.join()
    if options.out is not None:
        options.out.write_text(json.dumps({"kind": "score", "files": figures}, indent=1) + "\n")
    changes, noticed = (sum(figure[name] for figure in figures.values()) for name in ("changes", "noticed"))
    score = 100.0 * noticed / changes
    print(f"{noticed} of {changes} changes noticed: {score:.1f} %")
    return 1 if score < _PROMISED else 0


def _changes(file: str, limit: int) -> Iterator[Try]:
    """Yield each change that a test may notice."""
    for mutant in mutants(source_of(file)):
        if equivalent.reason(file, mutant.before, mutant.after) is None:
            yield Try(file, mutant, limit)


def _score(file: str, verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Print each change that no test noticed, and return the numbers."""
    changes = noticed = 0
    for verdict in verdicts:
        changes += 1
        noticed += verdict.noticed
        if not verdict.noticed:
            mutant = verdict.mutant
            print(f"{file}:{mutant.line}: {mutant.before}\n    -> {mutant.after}", flush=True)
    print(f"{file}: {noticed} of {changes}", flush=True)
    return {"changes": changes, "noticed": noticed, "excluded": len(list(mutants(source_of(file)))) - changes}


def source_of(file: str) -> str:
    """Return the source of a file of the package."""
    return (ROOT / "cronlock" / file).read_text()


class Copy:
    """A copy of the program and its tests, in which one process tries changes."""

    def __init__(self, directory: str) -> None:
        self._path = Path(tempfile.mkdtemp(dir=directory))
        for part in ("cronlock", "bin", "tests", "labs", "explorer", "docs", "man"):
            shutil.copytree(ROOT / part, self._path / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self._path)

    def judge(self, one: Try) -> Verdict:
        """Return whether a test of the file fails with the change in it."""
        target = self._path / "cronlock" / one.file
        original = target.read_text()
        target.write_text(one.mutant.source)
        began = time.monotonic()
        try:
            passed = self._pass([f"tests/{name}.py" for name in TESTS[one.file]], one.limit)
            return Verdict(one.file, one.mutant, not passed, time.monotonic() - began)
        finally:
            target.write_text(original)

    def _pass(self, tests: Sequence[str], limit: int) -> bool:
        """Return True if the tests pass in time, in a child that has pytest imported already."""
        child = os.fork()
        if child == 0:
            with open(os.devnull, "r+") as null:
                for descriptor in range(3):
                    os.dup2(null.fileno(), descriptor)
            os.setsid()
            _isolate(limit)
            os.chdir(self._path)
            # The tests start programs, too, which must be of this copy. Byte code is not written: a change within a
            # second of the one before it would be taken for that one.
            os.environ.update(PYTHONPATH=str(self._path), PYTHONDONTWRITEBYTECODE="1")
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(self._path))
            os._exit(_PASSED if pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]) == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == _PASSED


def _isolate(limit: int) -> None:
    """Go on as a process in a pid namespace of its own; the caller's process ends with the same status.

    A change of what kills processes must reach none but those of its tests; and they end with the namespace. Its first
    process reaps orphans.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWPID | _CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "no pid namespace: run the score as root")
    first = os.fork()
    if first:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(first, signal.SIGKILL))
        signal.alarm(limit)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
    for line in ("mount --make-rprivate /", "mount -t proc proc /proc"):
        subprocess.run(line.split(), check=True)
    tests = os.fork()
    if tests:
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == tests:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _begin(directory: str) -> None:
    """Prepare a process that tries changes."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cronlock", "tests", "labs")]:
        del sys.modules[name]
    _copies.append(Copy(directory))


def _judge(one: Try) -> Verdict:
    return _copies[0].judge(one)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
