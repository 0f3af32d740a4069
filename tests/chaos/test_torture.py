"""A short torture of backends of each kind: the same seeds each time, and not one promise broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_OPTIONS = ["--seconds=8", "--nodes=3", "--keys=5", "--jobs=short", "--every=0.5", "--busy"]
#: Chosen so that each backend sees other faults of its servers. The rest is left to `make chaos`.
_SEEDS = {
    "file": 11,
    "redis": 12,
    "redis-memory": 13,
    "redis-sentinel": 14,
    "redis-cluster": 15,
    "memcached": 16,
    "memcached-three": 17,
    "zookeeper": 18,
    "etcd": 45,
    "postgresql": 41,
}


def _chaos(*options: str, limit: float = 60.0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "chaos", *options]
    return subprocess.run(line, cwd=_ROOT, capture_output=True, text=True, timeout=limit)


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("backend", _SEEDS)
def test_torture(backend: str, tmp_path: Path) -> None:
    """Nothing runs twice at a time or twice a tick, nothing is left behind, and every status is as documented."""
    which = (f"--backend={backend}", "--faults=all", f"--seed={_SEEDS[backend]}")
    done = _chaos(*which, *_OPTIONS, f"--out={tmp_path}", limit=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = tmp_path.glob("*.summary.json")
    summary = json.loads(kept.read_text())
    assert summary["good"]
    assert summary["runs"] > 0
    assert summary["injected"] > 0
    assert (tmp_path / f"{backend}-{_SEEDS[backend]}.svg").read_text().startswith("<svg")


def test_unknown_backend() -> None:
    """A backend that is none is refused with those that are known."""
    done = _chaos("--backend=consul")
    assert done.returncode == 2
    assert "unknown backend consul; known: all, file, redis" in done.stderr


def test_plan_is_shown() -> None:
    """The plan can be looked at beforehand, and is the same each time."""
    first, second = (_chaos("--plan", "--seed=4", "--backend=zookeeper,file").stdout for _ in range(2))
    assert first == second
    assert "zookeeper, seed 4:" in first
    assert "leader-stop" in first
