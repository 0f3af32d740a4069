"""Recommended servers and jitter, computed from the cost of ticks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from .measure import Row

NODES = (100, 1_000, 10_000)
LINES = (1, 20, 200)
#: The share of a processor that a rush may take.
_BUSY = 0.5
#: Seconds of --jitter that a line of every minute bears with the default --min-hold, and with one of 50 s.
SHORT_JITTER, LONG_JITTER = 15, 45
#: Runs per second that need no jitter, as measured.
_AT_ONCE = {"Redis": 10_000, "memcached": 10_000, "ZooKeeper": 1_000}


def cost(rows: Sequence[Row]) -> float:
    """Return the server's CPU seconds for one run that asks, as the middle of the largest ticks that went well."""
    well = [row for row in rows if not row.failed and row.case.runs >= 1_000]
    return statistics.median(row.cpu / row.case.runs for row in well or rows)


def jitter(runs: int, each: float, at_once: int) -> float:
    """Return the seconds over which to spread `runs`; 0 for no jitter."""
    return 0.0 if runs <= at_once else float(max(1, math.ceil(runs * each / _BUSY)))


def table(found: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return a table of Markdown: for nodes and lines, what each server needs."""
    costs = {name: cost(rows) for name, rows in found.items()}
    lines = [
        "| nodes | lines | runs a minute | " + " | ".join(found) + " |",
        "| ---: | ---: | ---: |" + " --- |" * len(found),
    ]
    for nodes in NODES:
        for number in LINES:
            runs = nodes * number
            cells = [_need(runs, each, _AT_ONCE.get(name, 1_000)) for name, each in costs.items()]
            lines.append(f"| {nodes:,} | {number} | {runs:,} | " + " | ".join(cells) + " |")
    return lines


def _need(runs: int, each: float, at_once: int) -> str:
    seconds = jitter(runs, each, at_once)
    if not seconds:
        return "as it is"
    if seconds <= SHORT_JITTER:
        return f"`--jitter {_round(seconds)}s`"
    if seconds <= LONG_JITTER:
        return f"`--jitter {_round(seconds)}s --min-hold 50s`"
    servers = math.ceil(seconds / LONG_JITTER)
    return f"{servers} servers, each `--jitter {LONG_JITTER}s --min-hold 50s`"


def _round(seconds: float) -> int:
    """Round up to a figure that is easy to remember."""
    return next((step for step in (1, 2, 3, 5, 10, 15, 20, 30, 45) if step >= seconds), math.ceil(seconds))
