"""The long run: so many inputs in all, other ones each time, counted by target.

    python -m fuzz [--inputs N] [--seed N] [--only TARGET]... [--write FILE]

Ends with status 1 at the first input that is not dealt with as documented, and prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from .engine import feed
from .targets import TARGETS

#: Bytes of address space: what a parser without bounds runs into, before the machine does.
_MOST = 4 << 30


def main(arguments: Sequence[str]) -> int:
    """Feed the targets; return 0 if nothing came out that should not."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="default: random")
    parser.add_argument("--only", action="append", choices=[*TARGETS], help="this target, and others so given")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the counts, for docs/reliability.md")
    options = parser.parse_args(arguments)
    if options.write is not None:
        options.write.parent.mkdir(parents=True, exist_ok=True)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST, _MOST))
    names = options.only or [*TARGETS]
    each = -(-options.inputs // len(names))
    print(f"seed {options.seed}: {each} inputs for each of {len(names)} targets", flush=True)
    counts: dict[str, int] = {}
    crashes, began = 0, time.monotonic()
    for name in names:
        try:
            fed = feed(name, TARGETS[name], each, options.seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback.print_exc()
            print(f"{name:24} FAILED; again with --seed {options.seed} --only {name}", flush=True)
            crashes += 1
            continue
        counts[name] = fed.inputs
        print(f"{name:24} {fed.inputs:9} inputs in {fed.seconds:6.1f} s", flush=True)
    print(f"{'in all':24} {sum(counts.values()):9} inputs in {time.monotonic() - began:6.1f} s, {crashes} crashes")
    if options.write is not None:
        summary = {"kind": "fuzz", "seed": options.seed, "targets": counts, "crashes": crashes}
        options.write.write_text(json.dumps(summary, indent=1) + "\n")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
