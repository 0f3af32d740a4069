"""Ticks without a pause, which show leaks, and lines that do not run once a tick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from .crowd import Crowd
from .target import Target, descriptors, resident
from .worker import Tick

#: Lines of each node, and seconds from tick to tick.
LINES, EVERY = 20, 10.0
#: How many nodes; fewer for servers that do not stand as many without local sessions, see docs/fleet.md.
USUAL_NODES = 1_000
NODES = {"zookeeper": 50}
#: In times from tick to tick: for how long a line is held from its start on, which is longer than a tick's rush
#: and, as much as can be, shorter than it is to the next one; and over what time nodes sleep before they ask.
_HOLD, _JITTER = 0.65, 0.3


@dataclass(frozen=True)
class Minute:
    """The server's figures after six ticks, and the failures in them."""

    ticks: int
    #: Lines that ran twice or not at all, and runs that got no answer.
    wrong: int
    failed: int
    slowest: float
    cpu: float
    #: MB resident now, file descriptors, and things kept.
    memory: float
    descriptors: int
    records: int


def soak(target: Target, crowd: Crowd, nodes: int, seconds: float, every: float = EVERY) -> Iterator[Minute]:
    """Give what each minute showed."""
    keys = [f"soak-{number}" for number in range(LINES)]
    options = {"backend": target.url, "min_hold": str(_HOLD * every), "jitter": str(_JITTER * every)}
    pid = target.server.pid
    per_minute = round(60 / every)
    number = round(seconds / every)
    crowd.prepare(Tick(options, keys, LINES, 0, nodes, 0.05, True, 0))
    began = time.monotonic() + 1.0
    wrong, failed, slowest, cpu = 0, 0, 0.0, target.cpu()
    for tick in range(number):
        result = crowd.fire(began + tick * every)
        crowd.release()
        wrong += result.wrong
        failed += sum(result.failures.values())
        slowest = max(slowest, result.quantile(1.0))
        if (tick + 1) % per_minute == 0 or tick + 1 == number:
            now = target.cpu()
            yield Minute(tick + 1, wrong, failed, slowest, now - cpu, resident(pid), descriptors(pid), target.records())
            wrong, failed, slowest, cpu = 0, 0, 0.0, now
        if tick + 1 < number:
            crowd.prepare(Tick(options, keys, LINES, 0, nodes, 0.05, True, tick + 1))
