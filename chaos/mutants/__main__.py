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

from . import Tooth
from .table import TEETH

#: What a run takes besides its length: machines, servers, the last jobs.
_BESIDE = 240.0


def main(arguments: Sequence[str]) -> int:
    """Return 0 if every bug was caught."""
    parser = argparse.ArgumentParser(prog="python -m chaos.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all unless named: {', '.join(TEETH)}")
    parser.add_argument("--out", type=Path, help="where to keep a summary of each")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in TEETH]
    if unknown:
        parser.error(f"unknown: {unknown[0]}")
    names = options.names or list(TEETH)
    missed = [name for name in names if not _caught(TEETH[name], options.out)]
    print(f"{len(names) - len(missed)} of {len(names)} bugs caught")
    return 1 if missed else 0


def _caught(tooth: Tooth, out: Path | None) -> bool:
    begin = time.monotonic()
    summary = _run(tooth)
    found: dict[str, int] = {}
    for text in summary["violations"]:
        kind = text.partition(":")[0]
        found[kind] = found.get(kind, 0) + 1
    caught = not summary["harness"] and any(kind in found for kind in tooth.catches)
    shown = ", ".join(f"{number} {kind}" for kind, number in found.items()) or "nothing found"
    word = "caught" if caught else "MISSED"
    print(f"{tooth.name}: {word} ({tooth.backend}, {tooth.faults}, seed {tooth.seed}): {shown}", end="; ")
    print(f"{time.monotonic() - begin:.0f} s {' '.join(summary['harness'])[-1500:]}", flush=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        about = {name: getattr(tooth, name) for name in ("name", "what", "backend", "faults", "seed")}
        told = {"kind": "tooth", **about, "caught": caught, "found": found}
        (out / f"{tooth.name}.summary.json").write_text(json.dumps(told, indent=1) + "\n")
    return caught


def _run(tooth: Tooth) -> dict[str, Any]:
    """Return the summary of the torture run with a bug in it."""
    with tempfile.TemporaryDirectory(prefix="teeth-") as out:
        options = [f"--backend={tooth.backend}", f"--faults={tooth.faults}", f"--seconds={tooth.seconds:g}"]
        options += [f"--seed={tooth.seed}", f"--out={out}", f"--teeth={tooth.name}", *tooth.options]
        line = [sys.executable, "-m", "chaos", *options]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=tooth.seconds + _BESIDE)
        except subprocess.TimeoutExpired:
            return {"harness": ["it takes too long"], "violations": []}
        found = next(Path(out).glob("*.summary.json"), None)
        if found is None:
            return {"harness": [done.stdout, done.stderr], "violations": []}
        summary: dict[str, Any] = json.loads(found.read_text())
        return summary


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
