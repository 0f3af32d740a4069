"""The mutation score: each small change of the files that decide about leases, and whether their tests fail on it.

    python -m chaos.mutants.score [--jobs N] [--out FILE] [FILE...]    all files unless named, by their ending

Prints each change that no test noticed, and the score. A change that no test can notice stands in
chaos/mutants/equivalent.py with its reason, and is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis as hypothesis  # once for all: each change is tried by a child of this process
import pytest

from . import equivalent
from .operators import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
#: The score that is promised, in percent.
_PROMISED = 95.0
#: How long a file's tests may take on a change, which may make them wait for ever.
_LIMIT = 300
#: By file: the tests that belong to it, the quicker ones first.
TESTS: Mapping[str, Sequence[str]] = {
    "lease/clock.py": ("unit/test_watermarks",),
    "lease/describe.py": ("unit/test_describe", "unit/test_views"),
    "lease/leases.py": ("unit/test_leases_and_stores", "unit/test_leases", "unit/test_store"),
    "lease/rules.py": ("unit/test_rules", "unit/test_leases", "unit/test_store"),
    "lease/server_clock.py": ("unit/test_server_clock",),
    "lease/state.py": ("unit/test_state", "unit/test_rules", "unit/test_leases"),
    "lease/store.py": ("unit/test_leases_and_stores", "unit/test_leases", "unit/test_store"),
    "lease/timing.py": ("unit/test_timing", "unit/test_standby"),
    "lease/vocabulary.py": ("unit/test_rules", "unit/test_leases", "unit/test_state", "unit/test_holding"),
    "lease/watermarks.py": ("unit/test_watermarks",),
    "run/holding.py": ("unit/test_access", "unit/test_holding"),
    "process/guard.py": ("unit/test_guard", "process/test_trees"),
}


#: The copy of this process, once it has one.
_copies: list[Copy] = []


class Verdict(NamedTuple):
    """What the tests said of a change."""

    file: str
    line: int
    before: str
    after: str
    noticed: bool


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the tests notice as many changes as is promised."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mutants.score", description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"of: {', '.join(TESTS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="changes tried at once")
    parser.add_argument("--out", type=Path, help="where to write all verdicts, as JSON")
    options = parser.parse_args(arguments)
    files = [file for file in TESTS if not options.files or any(file.endswith(name) for name in options.files)]
    if not files:
        parser.error(f"no such file: {options.files[0]}")
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        pool = multiprocessing.get_context("fork").Pool(options.jobs, _begin, [directory])
        unchanged = [(file, Mutant(0, file, "unchanged", source_of(file))) for file in files]
        for verdict in pool.imap_unordered(_judge, unchanged):
            if verdict.noticed:
                parser.error(f"the tests of {verdict.file} fail without a change")
        for verdict in pool.imap(_judge, _changes(files)):
            verdicts.append(verdict)
            if not verdict.noticed:
                print(f"{verdict.file}:{verdict.line}: {verdict.before}\n    -> {verdict.after}", flush=True)
        pool.close()
        pool.join()
    if options.out is not None:
        options.out.write_text(json.dumps([verdict._asdict() for verdict in verdicts], indent=1) + "\n")
    return _report(files, verdicts)


def _changes(files: Sequence[str]) -> Iterator[tuple[str, Mutant]]:
    """Yield each change that a test may notice."""
    for file in files:
        for mutant in mutants(source_of(file)):
            if equivalent.reason(file, mutant.before, mutant.after) is None:
                yield file, mutant


def source_of(file: str) -> str:
    """Return the source of a file of the package."""
    return (ROOT / "cronlock" / file).read_text()


def _report(files: Sequence[str], verdicts: Sequence[Verdict]) -> int:
    for file in files:
        of_file = [verdict.noticed for verdict in verdicts if verdict.file == file]
        print(f"{file}: {sum(of_file)} of {len(of_file)}")
    noticed = sum(verdict.noticed for verdict in verdicts)
    score = 100.0 * noticed / len(verdicts)
    print(f"{noticed} of {len(verdicts)} changes noticed: {score:.1f} %")
    return 1 if score < _PROMISED else 0


class Copy:
    """A copy of the program and its tests, in which one process tries changes."""

    def __init__(self, directory: str) -> None:
        self._path = Path(tempfile.mkdtemp(dir=directory))
        for part in ("cronlock", "bin", "tests", "labs", "explorer", "docs", "man"):
            shutil.copytree(ROOT / part, self._path / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self._path)

    def notices(self, file: str, source: str) -> bool:
        """Return True if a test of `file` fails with `source` in its place."""
        target = self._path / "cronlock" / file
        original = target.read_text()
        target.write_text(source)
        try:
            return self._test([f"tests/{name}.py" for name in TESTS[file]]) != 0
        finally:
            target.write_text(original)

    def _test(self, tests: Sequence[str]) -> int:
        """Return the status of pytest, which a child runs that has it imported already; -1 if it takes too long."""
        child = os.fork()
        if child == 0:
            with open(os.devnull, "r+") as null:
                for descriptor in range(3):
                    os.dup2(null.fileno(), descriptor)
            os.setsid()
            os.chdir(self._path)
            # The tests start programs, too, which must be of this copy. Byte code is not written: a change within a
            # second of the one before it would be taken for that one.
            os.environ.update(PYTHONPATH=str(self._path), PYTHONDONTWRITEBYTECODE="1")
            sys.dont_write_bytecode = True
            sys.path.insert(0, str(self._path))
            signal.alarm(_LIMIT)
            os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(status)


def _begin(directory: str) -> None:
    """Prepare a process that tries changes."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cronlock", "tests", "labs")]:
        del sys.modules[name]
    _copies.append(Copy(directory))


def _judge(change: tuple[str, Mutant]) -> Verdict:
    file, mutant = change
    return Verdict(file, mutant.line, mutant.before, mutant.after, _copies[0].notices(file, mutant.source))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
