"""Puts each deliberate bug into cronlock, and fails unless the harness catches it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import Mutant
from .table import MUTANTS

#: What a run takes besides its length: machines, servers, the last jobs.
_BESIDE = 240.0


def main(arguments: Sequence[str]) -> int:
    """Return 0 if every bug was caught."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all unless named: {', '.join(MUTANTS)}")
    parser.add_argument("--out", type=Path, help="where to keep a summary of each")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MUTANTS]
    if unknown:
        parser.error(f"unknown: {unknown[0]}")
    names = options.names or list(MUTANTS)
    missed = [name for name in names if not _caught(MUTANTS[name], options.out)]
    print(f"{len(names) - len(missed)} of {len(names)} bugs caught")
    return 1 if missed else 0


def _caught(mutant: Mutant, out: Path | None) -> bool:
    begin = time.monotonic()
    summary = _run(mutant)
    found: dict[str, int] = {}
    for text in summary["violations"]:
        kind = text.partition(":")[0]
        found[kind] = found.get(kind, 0) + 1
    caught = not summary["harness"] and any(kind in found for kind in mutant.catches)
    shown = ", ".join(f"{number} {kind}" for kind, number in found.items()) or "nothing found"
    word = "caught" if caught else "MISSED"
    print(f"{mutant.name}: {word} ({mutant.backend}, {mutant.faults}, seed {mutant.seed}): {shown}", end="; ")
    print(f"{time.monotonic() - begin:.0f} s {' '.join(summary['harness'])[-1500:]}", flush=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        about = {name: getattr(mutant, name) for name in ("name", "what", "backend", "faults", "seed")}
        told = {"kind": "mutant", **about, "caught": caught, "found": found}
        (out / f"{mutant.name}.summary.json").write_text(json.dumps(told, indent=1) + "\n")
    return caught


def _run(mutant: Mutant) -> dict[str, Any]:
    """Return the summary of the torture run with a bug in it."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as out:
        options = [f"--backend={mutant.backend}", f"--faults={mutant.faults}", f"--seconds={mutant.seconds:g}"]
        options += [f"--seed={mutant.seed}", f"--out={out}", f"--mutant={mutant.name}", *mutant.options]
        line = [sys.executable, "-m", "chaos", *options]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=mutant.seconds + _BESIDE)
        except subprocess.TimeoutExpired:
            return {"harness": ["it takes too long"], "violations": []}
        found = next(Path(out).glob("*.summary.json"), None)
        if found is None:
            return {"harness": [done.stdout, done.stderr], "violations": []}
        summary: dict[str, Any] = json.loads(found.read_text())
        return summary


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
