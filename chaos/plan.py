"""When which fault is injected: made from a seed, before anything is started."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Tracks: faults of one track do not overlap, but for those of runs, which are over at once or hit one run.
RUNS, NODES, SERVERS = "runs", "nodes", "servers"
#: How often each pair of faults of two tracks is to come at the same time.
GOAL = 20
#: In a dense plan: the share of each rest, and by how many ttls a fault may last longer than its shortest.
_DENSE_REST, _DENSE_SPREAD = 0.1, 0.3
#: A plan asks for the same rare pair so many times at most: it may be one that hardly ever comes about.
_ASKED = 3
#: The share of the strikes that hit a node which is broken at that time.
_AIMED = 0.7


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
    #: In a dense plan it lasts about as long; None: the shortest.
    brief: float | None = None

    def lasts(self, dense: bool) -> tuple[float, float]:
        """Return how long it lasts in a plan, from and to."""
        if not dense:
            return self.shortest, self.longest
        brief = self.shortest if self.brief is None else self.brief
        return brief, min(brief + _DENSE_SPREAD, max(brief, self.longest))


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
    #: From 0 to 1: which node; None: as `pick` says.
    node: float | None = None


def pair(one: str, other: str) -> str:
    """Return the name of two faults at the same time, whatever their order."""
    return " and ".join(sorted((one, other)))


def make(
    seed: int,
    kinds: Sequence[Kind],
    seconds: float,
    ttl: float,
    run_every: float,
    *,
    dense: bool = False,
    pairs: Mapping[str, int] | None = None,
) -> list[Shot]:
    """Return the plan for `seconds`, by time.

    Every kind of a track comes before any of it comes a second time. Runs are hit every `run_every`
    seconds on average; nodes and servers whenever the fault before is over. `dense`: faults and rests are short.
    `pairs`: how often each pair came so far; those that came less than GOAL times come first.
    """
    shots: list[Shot] = []
    rare = None if pairs is None else _Rare(pairs)
    later = [kind.name for kind in kinds if kind.track != SERVERS]
    for track in (SERVERS, NODES, RUNS):
        # Each track by itself: with other faults left out, those that stay come at the same times.
        chance = random.Random(f"{seed} {track}")
        ours = [kind for kind in kinds if kind.track == track]
        turn: list[Kind] = []
        at = ttl * chance.uniform(0.5, 1.5)
        while ours and at < seconds:
            if not turn:
                turn = chance.sample(ours, len(ours))
            kind, node = turn.pop(), None
            if rare is not None and track == SERVERS:
                kind = rare.lacking(kind, ours, later, chance)
            elif rare is not None:
                beside = [shot for shot in shots if shot.track != track and shot.at <= at < shot.at + shot.length]
                if track == RUNS and chance.random() < _AIMED:
                    node = next((shot.pick for shot in beside if shot.track == NODES), None)
                if track == RUNS and node is None:
                    beside = [shot for shot in beside if shot.track != NODES]
                kind = rare.instead_of(kind, ours, [shot.name for shot in beside], chance)
            length = ttl * chance.uniform(*kind.lasts(dense))
            shots.append(Shot(f"{track}-{len(shots)}", kind.name, track, at, length, chance.random(), node))
            rest = ttl * kind.rest * (_DENSE_REST if dense else 1.0)
            at += run_every * chance.uniform(0.5, 1.5) if track == RUNS else length + rest
    return sorted(shots, key=lambda shot: shot.at)


class _Rare:
    """Chooses the faults whose pairs came least."""

    def __init__(self, pairs: Mapping[str, int]) -> None:
        self._counts = Counter(pairs)
        self._asked: Counter[str] = Counter()

    def instead_of(self, kind: Kind, kinds: Sequence[Kind], beside: Sequence[str], chance: random.Random) -> Kind:
        """Return the kind that is to come while the faults `beside` last: `kind` itself if no pair is rare."""
        missing = {one: sum(map(self._missing, self._pairs(one, beside))) for one in kinds}
        most = max(missing.values())
        if most > 0:
            kind = chance.choice([one for one in kinds if missing[one] == most])
        for name in self._pairs(kind, beside):
            self._counts[name] += 1
            self._asked[name] += 1
        return kind

    def lacking(self, kind: Kind, kinds: Sequence[Kind], later: Sequence[str], chance: random.Random) -> Kind:
        """Return the kind beside which `later` ones are to come: the more of its pairs are missing, the more often."""
        missing = [sum(map(self._missing, self._pairs(one, later))) for one in kinds]
        return chance.choices(kinds, missing)[0] if any(missing) else kind

    def _missing(self, name: str) -> int:
        return 0 if self._asked[name] >= _ASKED else max(0, GOAL - self._counts[name])

    def _pairs(self, kind: Kind, beside: Sequence[str]) -> list[str]:
        return [pair(kind.name, other) for other in beside]
