"""Wall time and CPU of one process and all it waited for; many of them as ratios."""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return those of `values`, at least one."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


@dataclass(frozen=True)
class Case:
    """Something that is measured once a round."""

    name: str
    measure: Callable[[], Cost]


def spawn(
    command: Sequence[str], environ: dict[str, str], *, stdin: int | None = None, stdout: int | None = None
) -> tuple[int, str]:
    """Start `command` away from any terminal; return its pid and the file that takes what it says."""
    descriptor, errors = tempfile.mkstemp(prefix="cronlock-bench-")
    null = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, null if stdin is None else stdin, 0),
            (os.POSIX_SPAWN_DUP2, null if stdout is None else stdout, 1),
            (os.POSIX_SPAWN_DUP2, descriptor, 2),
        ]
        # Not subprocess: it would fork this process, which is larger, or wait in steps.
        return os.posix_spawn(command[0], list(command), environ, file_actions=actions, setsid=True), errors
    finally:
        os.close(null)
        os.close(descriptor)


def finish(pid: int, errors: str, what: Sequence[str]) -> float:
    """Wait for a process of `spawn` and return its CPU seconds; SystemExit if it failed."""
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        with open(errors, encoding="utf-8", errors="replace") as file:
            raise SystemExit(f"{' '.join(what)}: wait status {status}: {file.read()}")
    os.unlink(errors)
    return usage.ru_utime + usage.ru_stime


def run(command: Sequence[str], environ: dict[str, str]) -> Cost:
    """Run `command` to its end."""
    began = time.perf_counter()
    pid, errors = spawn(command, environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - began
    return Cost(wall, finish(pid, errors, command))


def rounds(cases: Sequence[Case], number: int) -> dict[str, list[Cost]]:
    """Measure every case once a round, in an order that changes; return each one's costs by round."""
    for case in cases:
        case.measure()  # Once for nothing: files come into memory, the state directory comes to be.
    costs: dict[str, list[Cost]] = {case.name: [] for case in cases}
    for _ in range(number):
        for case in random.sample(cases, len(cases)):
            costs[case.name].append(case.measure())
    return costs


def ratio(costs: Sequence[Cost], unit: Sequence[Cost], what: str) -> Spread:
    """Return the costs (`what`: wall or cpu) in those of `unit` in the same round."""
    return Spread.of([getattr(cost, what) / getattr(one, what) for cost, one in zip(costs, unit)])
