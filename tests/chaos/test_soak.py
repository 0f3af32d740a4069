"""The soak, in short, and that it sees what grows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from chaos.soak import BACKENDS, TOLERANCE, Samples, main, memory


def test_nothing_grows(tmp_path: Path) -> None:
    """For a while of renewals wrapper and guard stay as they are, on every backend."""
    backends = [name for name in BACKENDS if name not in ("redis-sentinel", "redis-cluster")]
    assert main([f"--backend={','.join(backends)}", "--seconds=30", "--ttl=15", f"--out={tmp_path}"]) == 0
    for backend in backends:
        summary = json.loads((tmp_path / f"soak-{backend}.summary.json").read_text())
        assert summary["renewals"] >= 3, backend
        assert summary["wrapper"]["first_mb"] > 1
        assert summary["guard"]["first_descriptors"] >= 3


def test_slow_growth_is_seen() -> None:
    """Memory that creeps is seen although single samples jump about."""
    chance = random.Random(1)
    steady, creeping = Samples(), Samples()
    for number in range(300):
        noise = chance.choice((0.0, 0.0, 0.0, 0.9 * TOLERANCE, 5.0 if number % 50 == 0 else 0.0))
        steady.memory.append(8 + noise)
        creeping.memory.append(8 + noise + number * 3 * TOLERANCE / 300)
        steady.descriptors.append(7)
        creeping.descriptors.append(7)
    assert steady.grew() is None
    assert "memory" in (creeping.grew() or "")


def test_leaked_descriptors_are_seen() -> None:
    """One descriptor more is one too many; one that is open for a moment is none."""
    samples = Samples([8.0] * 30, [7] * 28 + [9] * 2)
    assert samples.grew() is None
    samples.descriptors[20:] = [8] * 10
    assert samples.grew() == "descriptors grew from 7 to 8"


def test_samples_are_of_the_process() -> None:
    """A sample shows the process's own numbers."""
    code = "import os, sys; kept = b'x' * 50_000_000; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 50 < memory(process.pid) < 80
        samples = Samples()
        samples.take(process.pid)
        assert samples.descriptors == [len(os.listdir(f"/proc/{process.pid}/fd"))] == [3]
        process.communicate()
