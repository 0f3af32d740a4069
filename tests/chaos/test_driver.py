"""What driver and agents do with an order whose time has come, or has passed."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chaos.driver import Driver, Pace
from chaos.history import History, now, read
from chaos.plan import RUNS, Shot
from labs.installation import ROOT
from labs.servers.process import eventually

_SHOT = Shot("runs-1", "kill-wrapper", RUNS, 10.0, 0.0, 0.5)


@pytest.mark.parametrize("together", [True, False])
def test_plan_waits_for_servers(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    """While servers recover, a dense plan's other faults are put off by as much; others come when they are due."""
    struck: list[Shot] = []
    driver = Driver(cast("Any", SimpleNamespace(nodes=["a"])), Pace(60, 4, together=together), 1, [])
    monkeypatch.setattr(driver, "_strike", struck.append)
    driver._late = 5.0
    driver._begin(_SHOT, 100.0, 0.0)
    if together:
        assert not struck
        ((at, _, what),) = driver._due
        assert at == 100.0 + 10.0 + 5.0
        cast("partial[None]", what)()
    assert struck == [_SHOT]


def test_plan_ends() -> None:
    """What is put off beyond the end does not come."""
    driver = Driver(cast("Any", SimpleNamespace(nodes=["a"])), Pace(12, 4, together=True), 1, [])
    driver._late = 5.0
    driver._begin(_SHOT, 100.0, 0.0)
    assert driver._due == []


def _agent(path: Path, at: float) -> History:
    """Return what an agent notes that is told to start one run at time `at`."""
    spawn = {"node": "a", "key": "k", "tick": None, "ttl": 0.1, "hold": 1.0, "skip_status": 99}
    order = {"do": "run", "at": at, "run": "a-1", "argv": ["true"], "env": {}, "spawn": spawn}
    text = "\n".join(json.dumps(one) for one in (order, {"do": "finish"})) + "\n"
    path.unlink(missing_ok=True)
    agent = [sys.executable, "-m", "chaos.agent", str(path)]
    subprocess.run(agent, input=text, text=True, cwd=ROOT, check=True, timeout=60)
    return read(path)


def test_too_late(tmp_path: Path) -> None:
    """A run that could only start too late is left out, and noted as such; one whose time has come is started."""
    history = _agent(tmp_path / "history", now() - 5)
    assert (len(history.attempts), history.late) == (0, 1)

    def in_time() -> bool:
        history = _agent(tmp_path / "history", now() + 1)
        return (len(history.attempts), history.late) == (1, 0)

    # The agent itself may take longer than that to start.
    eventually(in_time, "an agent is in time", limit=120)
