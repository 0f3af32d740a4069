"""The deliberate bugs: each can still be put in. That each is caught, `python -m chaos.mutants` shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos import faults, findings
from chaos.mutants import Edit, Mutant, mutate, put_in
from chaos.mutants.stores import STORE_MUTANTS, caught
from chaos.mutants.table import MUTANTS
from chaos.systems import SYSTEMS


def test_enough() -> None:
    """There are at least twelve, each with a run that can be made and findings that there are."""
    assert len(MUTANTS) >= 12
    for mutant in MUTANTS.values():
        names = mutant.faults.split(",")
        suiting = {fault.kind.name for fault in faults.choose(mutant.faults, SYSTEMS[mutant.backend])}
        assert names == ["none"] or set(names) == suiting
        assert mutant.catches
        assert set(mutant.catches) <= set(findings.KINDS)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_runs(name: str, tmp_path: Path) -> None:
    """The pieces to be replaced are there, and what comes out is a program."""
    mutate(name, tmp_path / "mutant")
    env = {"PYTHONPATH": str(tmp_path / "mutant")}
    line = [sys.executable, "-m", "compileall", "-q", str(tmp_path / "mutant")]
    assert subprocess.run(line, env=env).returncode == 0
    run = [sys.executable, str(tmp_path / "mutant" / "bin" / "cronlock"), "run", "--key=x", "--min-hold=0"]
    run += [f"--backend=file://{tmp_path}/leases", f"--state-dir={tmp_path}/state", "--", "echo", "ran"]
    done = subprocess.run(run, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.parametrize("name", STORE_MUTANTS)
def test_store_mutant_compiles(name: str, tmp_path: Path) -> None:
    """The pieces to be replaced are there, and what comes out compiles."""
    put_in(name, STORE_MUTANTS[name].edits, tmp_path / "mutant")
    engine = tmp_path / "mutant/cronlock/engines"
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", str(engine)]).returncode == 0


def test_store_bug_is_caught() -> None:
    """One of them, on the engine that needs no server."""
    assert caught(STORE_MUTANTS["file-version-not-compared"])[0]


def test_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that is no longer there fails, and says which."""
    mutant = Mutant("gone", "", [Edit("no such line", "")], "redis", "none", (findings.OVERLAP,))
    monkeypatch.setitem(MUTANTS, "gone", mutant)
    with pytest.raises(LookupError, match="no such line"):
        mutate("gone", tmp_path / "mutant")
