"""A whole crontab in the same moment: as many lines as cron starts at second zero, under fresh keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from .cases import ETCDCTL, FILE, REDIS, SKIP, Lab
from .measure import Cost, finish, spawn

LINES = 200
_ROUNDS = 3


def rounds(lab: Lab) -> dict[str, list[Cost]]:
    """Return the cost of all lines together, by what stands before them, of rounds by turns."""
    held = f"held-at-once-{lab.installation.version}"
    holder = lab.line(REDIS, "true", key=held, hold=86400)
    finish(*spawn(holder, lab.environ), holder)
    cases: dict[str, Callable[[int], list[str]]] = {
        FILE: lambda _: lab.line(FILE, "true"),
        REDIS: lambda _: lab.line(REDIS, "true"),
        SKIP: lambda _: lab.line(REDIS, "true", key=held),
    }
    rival = lab.rival()
    if rival is not None:
        cases[ETCDCTL] = lambda number: [*rival, "lock", f"line-{number}", "--", "true"]
    costs: dict[str, list[Cost]] = {name: [] for name in cases}
    for _ in range(_ROUNDS):
        for name, line in cases.items():
            costs[name].append(_at_once([line(number) for number in range(LINES)], lab.environ))
    return costs


def _at_once(lines: Sequence[list[str]], environ: dict[str, str]) -> Cost:
    """Start all lines, and wait for the last one's end; SystemExit if one fails."""
    began = time.perf_counter()
    running = [(*spawn(line, environ), line) for line in lines]
    for pid, _, _ in running:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - began
    return Cost(wall, sum(finish(pid, errors, line) for pid, errors, line in running))
