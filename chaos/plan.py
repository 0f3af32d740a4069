"""When which fault is injected: made from a seed, before anything is started."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Tracks: faults of one track do not overlap, but for those of runs, which are over at once or hit one run.
RUNS, NODES, SERVERS = "runs", "nodes", "servers"


@dataclass(frozen=True)
class Kind:
    """A fault as the plan knows it. Times are parts of the ttl."""

    name: str
    track: str
    #: How long it lasts, from and to.
    shortest: float = 0.0
    longest: float = 0.0
    #: How long everything is left alone after it, so that what it leads to is seen alone.
    rest: float = 1.0


@dataclass(frozen=True)
class Shot:
    """One fault that is to be injected."""

    id: str
    name: str
    track: str
    #: Seconds after the begin.
    at: float
    #: How long it lasts, in seconds.
    length: float
    #: From 0 to 1: which of the possible targets.
    pick: float


def make(seed: int, kinds: Sequence[Kind], seconds: float, ttl: float, run_every: float) -> list[Shot]:
    """Return the plan for `seconds`, by time.

    Every kind of a track comes before any of it comes a second time. Runs are hit every `run_every`
    seconds on average; nodes and servers whenever the fault before is over.
    """
    shots: list[Shot] = []
    for track in (RUNS, NODES, SERVERS):
        # Each track by itself: with other faults left out, those that stay come at the same times.
        chance = random.Random(f"{seed} {track}")
        ours = [kind for kind in kinds if kind.track == track]
        turn: list[Kind] = []
        at = ttl * chance.uniform(0.5, 1.5)
        while ours and at < seconds:
            if not turn:
                turn = chance.sample(ours, len(ours))
            kind = turn.pop()
            length = ttl * chance.uniform(kind.shortest, kind.longest)
            shots.append(Shot(f"{track}-{len(shots)}", kind.name, track, at, length, chance.random()))
            pause = run_every * chance.uniform(0.5, 1.5) if track == RUNS else length + ttl * kind.rest
            at += pause
    return sorted(shots, key=lambda shot: shot.at)
