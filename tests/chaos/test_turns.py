"""Turns: which comes next, what is kept, and that an interrupted one leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaos import report, turns
from chaos.check import summary
from chaos.made import Made
from chaos.turns import Rounds, State, Turn
from labs.servers.process import eventually

_ROOT = Path(__file__).resolve().parents[2]


def _over(state: State, name: str, **more: object) -> None:
    """Let a turn be over."""
    made = Made()
    made.events[0].update(backend=name.split(".")[0], seed=int(name.split(".")[2]))
    made.run(1, 3)
    kind = "void" if "harness" in more else "summary"
    (state.directory / f"{name}.{kind}.json").write_text(json.dumps({**summary(made.verdict()), **more}))


def test_all_have_their_turns(tmp_path: Path) -> None:
    """What had least comes next, each time with a new seed, above those on record."""
    state = State(tmp_path)
    rounds = Rounds(state, [Turn("redis", "plain"), Turn("redis", "pairs"), Turn("etcd", "leaders", 2)], 10.0, 1e9)
    chosen = [rounds._next() for _ in range(8)]
    kinds = [turn.kind for turn, _ in chosen]
    assert [kinds.count(kind) for kind in ("plain", "pairs", "leaders")] == [2, 2, 4]
    for system in ("redis", "etcd"):
        seeds = [seed for turn, seed in chosen if turn.system == system]
        assert len({*seeds}) == len(seeds)
        assert min(seeds) > max(report.on_record()["backends"][system]["seeds"])


def test_goes_on(tmp_path: Path) -> None:
    """Turns that are over, also void ones, count when the next call chooses, and their seeds are used."""
    state = State(tmp_path)
    _over(state, "redis.plain.900")
    _over(state, "redis.plain.901", harness=["no server"])
    turn, seed = Rounds(state, [Turn("redis", "plain"), Turn("redis", "pairs", 2)], 10.0, 1e9)._next()
    assert (turn.kind, seed) == ("pairs", 902)


def test_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report sums up what is on record and what came since; void turns and violations are named."""
    monkeypatch.setattr(report, "on_record", lambda *_: report.merge([]))
    state = State(tmp_path)
    _over(state, "redis.plain.1")
    _over(state, "redis.pairs.2", pairs={"cut and kill-guard": 20}, violations=["overlap: one and another"])
    _over(state, "etcd.plain.3", harness=["no leader"])
    text = turns.show(state)
    assert "redis: 0.00 h, 2 starts, 2 commands" in text
    assert "VIOLATION: redis, seed 2: overlap: one and another" in text
    assert "etcd: 1 void" in text
    assert "void: etcd, seed 3: no leader" in text
    assert "| runs and nodes | 110 | 1 | 0 | 20 |" in text
    assert "redis-memory: cannot have disk-full, disk-read-only, server-restart-empty" in text


def test_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was added to the documents is not added again."""
    added: list[list[str]] = []
    monkeypatch.setattr(report, "main", lambda arguments: added.append(list(arguments)))
    state = State(tmp_path)
    _over(state, "redis.plain.1")
    state.record()
    state.record()
    assert added == [["--add", str(tmp_path / "redis.plain.1.summary.json")]]
    assert state.summaries(new=True) == []
    assert len(state.summaries()) == 1
    assert state.next_seed("redis") > 1


def _turns(out: Path, *options: str) -> list[str]:
    line = [sys.executable, "-m", "chaos.turns", "--backend=file", "--kinds=plain,pairs", "--keys=4"]
    return [*line, f"--out={out}", *options]


@pytest.mark.usefixtures("machines")
def test_turns(tmp_path: Path) -> None:
    """Two slices beside each other leave two summaries, of new seeds, and their pairs."""
    line = _turns(tmp_path, "--seconds=41", "--slice=22", "--lanes=2")
    done = subprocess.run(line, cwd=_ROOT, capture_output=True, text=True, timeout=300)
    kept: list[dict[str, Any]] = [json.loads(path.read_text()) for path in tmp_path.glob("*.summary.json")]
    assert len(kept) == 2, done.stdout + done.stderr
    assert len({summary["seed"] for summary in kept}) == 2
    assert all(summary["runs"] and summary["pairs"] for summary in kept)
    assert "file: cannot have cut" in done.stdout


@pytest.mark.usefixtures("machines")
def test_interrupted(tmp_path: Path) -> None:
    """TERM ends the slice and all that it started; it leaves no summary."""
    process = subprocess.Popen(
        _turns(tmp_path, "--seconds=300", "--lanes=1"), cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def slices() -> list[str]:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return [pid for thread in threads for pid in (thread / "children").read_text().split()]

    eventually(lambda: bool(slices()), "a slice goes on")
    begun = slices()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert "file: cannot have cut" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in begun)
    assert not children.exists()
    assert list(tmp_path.glob("*.json")) == []
