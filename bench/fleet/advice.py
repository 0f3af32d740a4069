"""Recommended servers and jitter, computed from the cost of ticks, or from the limits of a service."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from .figures import curves
from .measure import Row

NODES = (100, 1_000, 10_000)
LINES = (1, 20, 200)
#: The share of a processor, or of a service's limit, that a rush may take.
_BUSY = 0.5
#: Seconds of --jitter that a line of every minute bears with the default --min-hold, and with one of 50 s.
SHORT_JITTER, LONG_JITTER = 15, 45
#: A tick goes well without jitter if nothing fails, and 99 of 100 losers have their answer after so many seconds.
_SOON = 2.0
#: Reads a second of one partition or prefix that AWS lets pass, and what one can have more of.
LIMITS = {"DynamoDB": (3_000, "tables"), "S3": (5_500, "prefixes")}


def cost(rows: Sequence[Row]) -> float:
    """Return the server's CPU seconds for one run that asks, as the middle of the largest ticks that went well."""
    well = [row for row in rows if not row.failed and row.case.runs >= 1_000]
    return statistics.median(row.cpu / row.case.runs for row in well or rows)


def at_once(rows: Sequence[Row]) -> int:
    """Return how many runs that ask for one key at the same moment went well; 0 for none."""
    ticks = curves(rows).get((1, 0.0), [])
    return max((row.case.runs for row in ticks if not row.failed and row.p99 <= _SOON), default=0)


def jitter(runs: int, each: float, at_once: int) -> float:
    """Return the seconds over which to spread `runs`; 0 for no jitter."""
    return 0.0 if runs <= at_once else float(max(1, math.ceil(runs * each / _BUSY)))


def table(found: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return a table of Markdown: for nodes and lines, what each server needs."""
    lines = [
        "| nodes | lines | runs a minute | " + " | ".join(found) + " |",
        "| ---: | ---: | ---: |" + " --- |" * len(found),
    ]
    for nodes in NODES:
        for number in LINES:
            runs = nodes * number
            cells = [_need(runs, number, name, rows) for name, rows in found.items()]
            lines.append(f"| {nodes:,} | {number} | {runs:,} | " + " | ".join(cells) + " |")
    return lines


def _need(runs: int, number: int, name: str, rows: Sequence[Row]) -> str:
    """Return what so many runs need, of a number of lines."""
    if name in LIMITS:
        most, more = LIMITS[name]
        seconds = jitter(runs, 1 / most, most)
    else:
        more, seconds = "servers", jitter(runs, cost(rows), at_once(rows))
    if not seconds:
        return "as it is"
    if seconds <= SHORT_JITTER:
        return f"`--jitter {_round(seconds)}s`"
    if seconds <= LONG_JITTER:
        return f"`--jitter {_round(seconds)}s --min-hold 50s`"
    apart = math.ceil(seconds / LONG_JITTER)
    if apart <= number:
        return f"{apart} {more}, each `--jitter {LONG_JITTER}s --min-hold 50s`"
    # One line cannot be shared out.
    where = "" if number == 1 else f"{number} {more}, each "
    return f"{where}`--jitter {_round(seconds / number)}s`, every 5 minutes at most"


def _round(seconds: float) -> int:
    """Round up to a figure that is easy to remember."""
    return next((step for step in (1, 2, 3, 5, 10, 15, 20, 30, 45) if step >= seconds), math.ceil(seconds))
