"""Tortures cronlock on one backend, and says what came of it.

    python -m chaos [--backend NAME] [--faults LIST] [--seconds N] [--seed S] [--out DIR] ...

Needs Linux and root, or a host that allows user namespaces.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "TORTURE_NETWORK"


def main(arguments: Sequence[str]) -> int:
    """Return 0 if every promise was kept, 1 if not."""
    from . import faults, run
    from .choice import add_backends, chosen_backends
    from .systems import SYSTEMS

    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.split("\n")[0])
    add_backends(parser, SYSTEMS, "redis")
    parser.add_argument("--faults", default="all", help=f"all, weak, none, or of: {', '.join(faults.FAULTS)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long ticks and faults come")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same plan")
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--keys", type=int, default=8)
    parser.add_argument("--fresh", type=int, default=1, help="how many of the keys are new at each tick")
    parser.add_argument("--period", type=float, default=3.2, help="seconds between two ticks of a key")
    parser.add_argument("--jobs", choices=("mixed", "short", "long"), default="mixed", help="how long the commands run")
    parser.add_argument("--every", type=float, default=0.7, help="seconds between two hits of a run's processes")
    parser.add_argument("--dense", action="store_true", help="short faults with short rests")
    parser.add_argument("--pairs", type=Path, help="a JSON file, pair of faults to count: rare pairs come first")
    parser.add_argument("--parameters", default="", help="added to the backend's URL, such as ?min_replicas=1")
    parser.add_argument("--out", type=Path, help="where to keep histories, verdicts and pictures")
    parser.add_argument("--mutant", help="a deliberate bug from chaos/mutants")
    parser.add_argument("--busy", action="store_true", help="excuse all the time what a busy machine may cause")
    parser.add_argument("--package", type=Path, help="torture the cronlock of another checkout")
    parser.add_argument("--plan", action="store_true", help="only print the plan")
    options = parser.parse_args(arguments)
    names = chosen_backends(parser, options.backend, SYSTEMS)
    try:
        for name in names:
            faults.choose(options.faults, SYSTEMS[name])
    except ValueError as error:
        parser.error(str(error))
    if options.plan:
        for name in names:
            print(run.plan_text(name, options))
        return 0
    _enter_network(arguments)
    # An orderly end, in which everything is ended, for TERM as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out = options.out or Path(tempfile.mkdtemp(prefix="torture-"))
    good = [run.torture(name, options, out) for name in names]
    print(f"see {out}")
    return 0 if all(good) else 1


def _enter_network(arguments: Sequence[str]) -> None:
    """Become this program in a network namespace of its own, as root at least in there."""
    if os.environ.pop(_INSIDE, None) is not None:
        return
    from .wires import in_network

    os.environ[_INSIDE] = "1"
    line = [*in_network(), sys.executable, "-m", "chaos", *arguments]
    os.execvp(line[0], line)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
