"""The deliberate bugs: each can still be put in. That each is caught, `python -m chaos.mutants` shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos import faults, findings
from chaos.mutants import Edit, Tooth, bite, put_in
from chaos.mutants.stores import STORE_TEETH, caught
from chaos.mutants.table import TEETH
from chaos.systems import SYSTEMS


def test_enough() -> None:
    """There are at least twelve, each with a run that can be made and findings that there are."""
    assert len(TEETH) >= 12
    for tooth in TEETH.values():
        names = tooth.faults.split(",")
        suiting = {fault.kind.name for fault in faults.choose(tooth.faults, SYSTEMS[tooth.backend])}
        assert names == ["none"] or set(names) == suiting
        assert tooth.catches
        assert set(tooth.catches) <= set(findings.KINDS)


@pytest.mark.parametrize("name", TEETH)
def test_bites(name: str, tmp_path: Path) -> None:
    """The pieces to be replaced are there, and what comes out is a program."""
    bite(name, tmp_path / "bitten")
    env = {"PYTHONPATH": str(tmp_path / "bitten")}
    line = [sys.executable, "-m", "compileall", "-q", str(tmp_path / "bitten")]
    assert subprocess.run(line, env=env).returncode == 0
    run = [sys.executable, str(tmp_path / "bitten" / "bin" / "cronlock"), "run", "--key=x", "--min-hold=0"]
    run += [f"--backend=file://{tmp_path}/leases", f"--state-dir={tmp_path}/state", "--", "echo", "ran"]
    done = subprocess.run(run, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


@pytest.mark.parametrize("name", STORE_TEETH)
def test_store_bites(name: str, tmp_path: Path) -> None:
    """The pieces to be replaced are there, and what comes out compiles."""
    put_in(name, STORE_TEETH[name].edits, tmp_path / "bitten")
    engine = tmp_path / "bitten/cronlock/engines"
    assert subprocess.run([sys.executable, "-m", "compileall", "-q", str(engine)]).returncode == 0


def test_store_bug_is_caught() -> None:
    """One of them, on the engine that needs no server."""
    assert caught(STORE_TEETH["file-version-not-compared"])[0]


def test_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece that is no longer there fails, and says which."""
    tooth = Tooth("gone", "", [Edit("no such line", "")], "redis", "none", (findings.OVERLAP,))
    monkeypatch.setitem(TEETH, "gone", tooth)
    with pytest.raises(LookupError, match="no such line"):
        bite("gone", tmp_path / "bitten")
