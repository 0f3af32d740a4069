"""One process of the crowd: ``python -m bench.fleet.worker``, told what to do by lines of JSON on stdin.

A tick: ``{"options": {...}, "lines": 1, "keys": [...], "first": 0, "nodes": 5000, "spread": 0.0,
"brief": false, "seed": 1}`` is answered by ``"ready"``; ``{"at": SECONDS}`` of the monotonic clock by
the results of all runs, once the losers have left; and an empty line, on which the winners
release, by an empty one. ``brief`` lets a winner's command end at once.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
from dataclasses import dataclass
from typing import Any

from cronlock.config import settings

from .loop import Loop
from .node import WON, Node, Outcome, QuietLog, load
from .sockets import Network


@dataclass(frozen=True)
class Tick:
    """What one worker's nodes do at one second: each node has all `keys`, or one of them each if `lines` is 1."""

    options: dict[str, str]
    keys: list[str]
    #: How many of the keys each node asks for.
    lines: int
    #: The number of its first node, and how many it has.
    first: int
    nodes: int
    #: Standard deviation of the nodes' clocks, in seconds.
    spread: float
    #: True if the winners' command ends at once.
    brief: bool
    seed: int


class Crowd:
    """The nodes of this process."""

    def __init__(self) -> None:
        self._loop = Loop()
        self._network = Network(self._loop)
        self._log = QuietLog()

    def prepare(self, tick: Tick) -> None:
        """Let the nodes' runs come so far that they are to connect next."""
        wanted = {key: load({**tick.options, "key": key}) for key in tick.keys}
        chance = random.Random(tick.seed * 1_000_003 + tick.first)
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if tick.nodes * tick.lines + 100 > room:
            raise SystemExit(f"{tick.nodes * tick.lines} runs need as many descriptors; ulimit -n lets have {room}")
        self._tick = tick
        self._outcomes: list[Outcome] = []
        self._winners: list[Node] = []
        self._runs: list[tuple[float, str, Node]] = []
        for number in range(tick.first, tick.first + tick.nodes):
            offset = min(6.0, max(0.0, chance.gauss(3.0, 1.0))) * tick.spread
            for line in range(tick.lines):
                key = tick.keys[(number * tick.lines + line) % len(tick.keys)]
                self._runs.append((offset, _address(number), self._node(wanted[key])))
        # Backends are loaded by now.
        self._network.install()
        self._network.traffic.clear()
        self._log.told.clear()
        for offset, address, node in self._runs:
            self._start(offset + node.jitter, address, node)
        gc.collect()
        gc.freeze()

    def run(self, at: float) -> dict[str, Any]:
        """Let them ask, and return the results once the losers have left."""
        gc.disable()
        self._network.fire(at)
        self._loop.run()
        gc.enable()
        traffic = self._network.traffic
        return {
            "runs": [[run.kind, run.key, run.due, run.left - at] for run in self._outcomes],
            "failures": [run.why for run in self._outcomes if run.why],
            "connects": traffic.connects,
            "sends": traffic.sends,
            "most_open": traffic.most_open,
            "late": traffic.late,
            "network": traffic.failures,
            "log": self._log.told,
        }

    def end(self) -> None:
        """Let the winners release."""
        for node in self._winners:
            self._loop.start(node.end)
        self._loop.run()
        del self._runs
        gc.unfreeze()

    def _node(self, wanted: settings.Settings) -> Node:
        return Node(wanted, self._log, self._pause)

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            self._loop.sleep(seconds)

    def _start(self, due: float, address: str, node: Node) -> None:
        def work() -> None:
            with self._network.machine(address, due):
                outcome = node.ask(due)
                self._outcomes.append(outcome)
                if outcome.kind == WON:
                    if self._tick.brief:
                        node.end()
                    else:
                        self._winners.append(node)

        self._loop.start(work)


def _address(number: int) -> str:
    """Return the node's own address of loopback."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"


def main() -> None:
    """Serve until stdin ends."""
    # A socket for each run, and some more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd()
    for line in sys.stdin:
        if not line.strip():
            crowd.end()
            answer: Any = ""
        else:
            told = json.loads(line)
            if "at" in told:
                answer = crowd.run(told["at"])
            else:
                crowd.prepare(Tick(**told))
                answer = "ready"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
