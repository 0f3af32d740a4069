"""Ticks of many nodes at a server, and their measurements."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .crowd import Crowd, Result
from .target import CONNECTIONS, Target, Watch
from .worker import Tick

SIZES = (10, 100, 1_000, 10_000)
KEYS = (1, 200)
SPREADS = (0.0, 0.05, 1.0)
#: Measurements of a tick, by its runs; the median counts.
_TIMES = ((1_000, 3), (10_000, 2))


@dataclass(frozen=True)
class Case:
    """`nodes` nodes, each with `lines` of the `keys`, and what else."""

    nodes: int
    keys: int = 1
    lines: int = 1
    spread: float = 0.0
    jitter: float = 0.0
    #: True if the jobs take no time, so that losers find a hold and not a lease.
    brief: bool = False

    @property
    def runs(self) -> int:
        """The number of runs that ask."""
        return self.nodes * self.lines

    @property
    def winners(self) -> int:
        """The number of runs that start their command."""
        return min(self.keys, self.runs)


@dataclass(frozen=True)
class Row:
    """The measurements of a tick, in seconds, MB, and counts of the whole tick."""

    case: Case
    won: int
    #: Runs that were told that another has the key.
    skipped: int
    #: Keys that ran twice or not at all.
    wrong: int
    failed: int
    started: float
    last_left: float
    p50: float
    p99: float
    slowest: float
    connects: int
    connections: int
    requests: int
    #: By name, as the server counts.
    counts: dict[str, int]
    cpu: float
    memory: float
    records: int
    #: The largest delay of the load generator.
    late: float
    #: Repeated connects, and refusals for lack of room.
    turned_away: int
    reasons: tuple[str, ...] = ()

    @property
    def twice(self) -> int:
        """The number of keys that two nodes ran; the rest of those that are wrong ran on none."""
        return (self.won - self.case.winners + self.wrong) // 2


#: Whole crontabs: every node has all lines.
CRONTABS = (
    Case(10, 200, 200),
    Case(50, 200, 200),
    Case(1_000, 20, 20),
    Case(1_000, 20, 20, jitter=10.0),
)
#: The largest ticks on one key, with as much jitter as is advised for the servers that need some.
JITTERS = (Case(1_000, jitter=5.0), Case(10_000, jitter=15.0))


def cases(sizes: tuple[int, ...] = SIZES) -> Iterator[Case]:
    """Give the cases of the curves."""
    for keys in KEYS:
        for spread in SPREADS:
            for size in sizes:
                yield Case(size, keys, spread=spread)


class Lab:
    """A server, and the crowd that asks it, with more `options` than it needs."""

    def __init__(self, target: Target, crowd: Crowd, **options: str) -> None:
        self._options = {"backend": target.url, **options}
        self.target = target
        self._crowd = crowd
        self._ticks = 0
        self._name = os.urandom(4).hex()

    def measure(self, case: Case) -> Row:
        """Return the middle one, by p99, of a few ticks of the case; what went wrong is of all."""
        rows = [self.tick(case)]
        for _ in range(1, _times(case)):
            # An overloaded server takes long, so one measurement suffices.
            if not rows[-1].failed:
                rows.append(self.tick(case))
        rows.sort(key=lambda row: row.p99)
        reasons = tuple(dict.fromkeys(reason for row in rows for reason in row.reasons))
        return replace(
            rows[len(rows) // 2],
            failed=max(row.failed for row in rows),
            wrong=max(row.wrong for row in rows),
            cpu=statistics.median(row.cpu for row in rows),
            reasons=reasons,
        )

    def tick(self, case: Case) -> Row:
        """Return what one tick gave, with keys that ran once before."""
        watch = Watch(self.target)
        self.prepare(case)
        watch.begin()
        result = self._crowd.fire()
        self._crowd.release()
        # The server cleans up ended connections afterwards.
        time.sleep(0.1)
        watch.end()
        return _row(case, result, watch)

    def prepare(self, case: Case) -> None:
        """Let the nodes be ready, under keys of their own that ran once: so it is at all ticks but a line's first."""
        self._ticks += 1
        keys = [f"line-{self._name}-{self._ticks}-{number}" for number in range(case.keys)]
        self._crowd.prepare(Tick({**self._options, "min_hold": "0"}, keys, len(keys), 0, 1, 0.0, True, 0))
        self._crowd.fire()
        options = {**self._options, **({"jitter": str(case.jitter)} if case.jitter else {})}
        self._crowd.prepare(Tick(options, keys, case.lines, 0, case.nodes, case.spread, case.brief, self._ticks))


def _times(case: Case) -> int:
    # A tick over several seconds is no rush, and the same each time.
    return 1 if case.spread >= 1 else next((times for most, times in _TIMES if case.runs <= most), 1)


def _row(case: Case, result: Result, watch: Watch) -> Row:
    counts = dict(watch.counts)
    # A server that counts neither is asked as often as the clients' sockets say.
    connections = counts.pop(CONNECTIONS, result.connects)
    return Row(
        case=case,
        won=sum(map(len, result.won.values())),
        skipped=len(result.lost),
        wrong=result.wrong,
        failed=sum(result.failures.values()),
        started=result.started,
        last_left=result.lasted,
        p50=result.quantile(0.5),
        p99=result.quantile(0.99),
        slowest=result.quantile(1.0),
        connects=connections,
        connections=result.connections,
        requests=counts.get("packets", sum(counts.values())) or result.sends,
        counts=counts,
        cpu=watch.cpu,
        memory=watch.memory,
        records=watch.records,
        late=result.late,
        turned_away=result.connects - case.runs,
        reasons=tuple(result.failures),
    )
