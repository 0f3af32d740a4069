"""The crowd of simulated nodes as its conductor sees it: worker processes that fire at the same moment."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .node import FAILED, LOST, WON
from .worker import Tick

_ROOT = Path(__file__).resolve().parent.parent.parent
#: Seconds from all processes' being ready to the moment at which all nodes fire.
_LEAD = 0.3


@dataclass
class Result:
    """The results of one tick, in seconds since the tick by the earliest possible clock."""

    #: When the first run asked for each key.
    asked: dict[str, float] = field(default_factory=dict)
    #: When the command of each key's winner could start, and that of any second winner.
    won: dict[str, list[float]] = field(default_factory=dict)
    #: Seconds of each loser, by its own clock.
    lost: list[float] = field(default_factory=list)
    #: When the last loser left.
    last_left: float = 0.0
    #: The largest delay of the load generator.
    late: float = 0.0
    #: Reasons for runs without an answer, counted.
    failures: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    sends: int = 0
    #: At the peak, by the clients' side.
    connections: int = 0
    #: Network errors, and cronlock's messages about them.
    network: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)

    def add(self, answer: dict[str, Any]) -> None:
        """Add the results of a worker."""
        for kind, key, due, left in answer["runs"]:
            self.asked[key] = min(self.asked.get(key, math.inf), due)
            if kind == WON:
                self.won.setdefault(key, []).append(left)
            elif kind == LOST:
                self.lost.append(left - due)
                self.last_left = max(self.last_left, left)
            else:
                assert kind == FAILED
        self.late = max(self.late, answer["late"])
        self.failures.update(answer["failures"])
        self.connects += answer["connects"]
        self.sends += answer["sends"]
        self.connections += answer["most_open"]
        self.network.update(answer["network"])
        self.told.update(answer["log"])

    @property
    def started(self) -> float:
        """The longest time from a key's first request to its command's start."""
        return max((min(times) - self.asked[key] for key, times in self.won.items()), default=0.0)

    @property
    def lasted(self) -> float:
        """The time from the first request to the end of the last loser."""
        return max(0.0, self.last_left - min(self.asked.values(), default=0.0))

    @property
    def wrong(self) -> int:
        """The number of requested keys that ran twice or not at all."""
        return sum(len(self.won.get(key, ())) != 1 for key in self.asked)

    def quantile(self, share: float) -> float:
        """Return a quantile of the losers' times."""
        ordered = sorted(self.lost)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Crowd:
    """Nodes in `processes` processes, started by ``with``, with more in their environment."""

    def __init__(self, processes: int = 2, environ: Mapping[str, str] | None = None) -> None:
        self._workers = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.fleet.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=_ROOT,
                env={**os.environ, **(environ or {})},
            )
            for _ in range(processes)
        ]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if kind is not None:
                worker.kill()
            worker.communicate()

    def prepare(self, tick: Tick) -> None:
        """Prepare all nodes."""
        share, more = divmod(tick.nodes, len(self._workers))
        first = tick.first
        for number, worker in enumerate(self._workers):
            nodes = share + (number < more)
            _tell(worker, json.dumps({**asdict(tick), "first": first, "nodes": nodes}))
            first += nodes
        for worker in self._workers:
            _hear(worker)

    def fire(self, at: float | None = None) -> Result:
        """Fire all nodes at monotonic time `at`, and return the results. Winners keep their leases."""
        at = time.monotonic() + _LEAD if at is None else at
        for worker in self._workers:
            _tell(worker, json.dumps({"at": at}))
        result = Result()
        for worker in self._workers:
            result.add(_hear(worker))
        return result

    def release(self) -> None:
        """Release the winners' leases."""
        for worker in self._workers:
            _tell(worker, "")
        for worker in self._workers:
            _hear(worker)


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


def _hear(worker: subprocess.Popen[str]) -> Any:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a process of the load ended with status {worker.wait()}")
    return json.loads(line)
