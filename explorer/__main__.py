"""The explorer from the command line.

python -m explorer              every case with few faults, and every deliberate bug: a minute or two
python -m explorer --long       the same with one fault more, and random ones of larger cases, on all processors
python -m explorer --case NAME --faults N
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing import Pool
from typing import NamedTuple

from . import cases, search
from .bugs import BUGS
from .planting import put_in

#: Random interleavings of a larger case, faults in each, and interleavings of a part.
_SAMPLES, _SAMPLES_FAULTS, _PART = 100_000, 4, 5_000
#: The most interleavings to search for a deliberate bug, with each number of faults.
MOST_FOR_A_BUG = 20_000


class Part(NamedTuple):
    """A part of an exploration, for one process."""

    case: str
    faults: int
    #: Random interleavings from this seed; None: all, or the first `most`.
    seed: int | None
    most: int | None


class Result(NamedTuple):
    """The result of a part."""

    part: Part
    interleavings: int
    seconds: float
    story: list[str]


def explore(part: Part) -> Result:
    """Explore one part; the story is empty if no promise is broken."""
    case, began, count, story = getattr(cases, part.case), time.monotonic(), 0, []
    with search.prepared():
        try:
            if part.seed is None:
                count = search.exhaust(case, part.faults, part.most)
            else:
                count = len(search.sample(case, part.faults, part.most or _PART, part.seed))
        except search.Found as found:
            story = found.story
    return Result(part, count, time.monotonic() - began, story)


def parts(*, long: bool) -> list[Part]:
    """Return the parts of a short or a long exploration, the largest first."""
    small = [Part(case.__name__, many if long else few, None, None) for case, few, many in cases.SMALL]
    if not long:
        return small
    large = [
        Part(case.__name__, _SAMPLES_FAULTS, seed, _PART)
        for case in cases.LARGE
        for seed in range(1, _SAMPLES // _PART + 1)
    ]
    return [*small, *large]


def main(arguments: Sequence[str]) -> int:
    """Explore, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m explorer", description="Explores the rules of a lease.")
    parser.add_argument("--long", action="store_true", help="one fault more, and larger cases at random")
    parser.add_argument("--case", help="one case only, such as two_runs")
    parser.add_argument("--faults", type=int, help="how many faults an interleaving may have")
    parser.add_argument("--most", type=int, help="at most so many interleavings of each small case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    work = parts(long=options.long)
    if options.case:
        work = [Part(options.case, options.faults or 1, None, None)]
    work = [part._replace(most=part.most or options.most) for part in work]
    broken = total = 0
    with Pool(options.jobs) as pool:
        for result in pool.imap_unordered(explore, work):
            part = result.part
            at_random = "" if part.seed is None else f", random, seed {part.seed}"
            print(
                f"{part.case:24} {part.faults} faults{at_random}: {result.interleavings:,} in {result.seconds:.0f} s",
                flush=True,
            )
            total += result.interleavings
            if result.story:
                broken += 1
                print("\n".join(result.story), flush=True)
    print(f"{total:,} distinct interleavings, {broken} with a broken promise", flush=True)
    missed = [] if options.case else _missed_bugs()
    return 1 if broken or missed else 0


def _missed_bugs() -> list[str]:
    missed = []
    with search.prepared():
        for bug in BUGS:
            with put_in(bug):
                found = search.shortest(bug.case, bug.faults, MOST_FOR_A_BUG)
            print(f"bug: {bug.name}: {found or 'NOT FOUND'}", flush=True)
            if found is None:
                missed.append(bug.name)
    print(f"{len(BUGS) - len(missed)} of {len(BUGS)} deliberate bugs found", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
