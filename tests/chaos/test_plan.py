"""The plan of faults: the same seed makes the same, and every kind has its turn."""

from __future__ import annotations

from collections import Counter

import pytest

from chaos import faults
from chaos.plan import NODES, RUNS, SERVERS, Kind, Shot, make
from chaos.systems import SYSTEMS

_KINDS = [
    Kind("hit", RUNS),
    Kind("stop", RUNS, 0.1, 0.5),
    Kind("cut", NODES, 0.3, 2.0),
    Kind("slow", NODES, 0.5, 1.0),
    Kind("restart", SERVERS, 0.0, 0.5, 2.0),
]


def _plan(seed: int, kinds: list[Kind], seconds: float = 300.0) -> list[Shot]:
    return make(seed, kinds, seconds, 3.0, 0.5)


def test_same_seed() -> None:
    """One seed makes one plan, another one another."""
    assert _plan(7, _KINDS) == _plan(7, _KINDS)
    assert [shot.at for shot in _plan(7, _KINDS)] != [shot.at for shot in _plan(8, _KINDS)]


def test_all_kinds() -> None:
    """No kind of a track comes twice more often than another of it."""
    counts = Counter(shot.name for shot in _plan(1, _KINDS))
    for track in (RUNS, NODES, SERVERS):
        numbers = [counts[kind.name] for kind in _KINDS if kind.track == track]
        assert min(numbers) > 0
        assert max(numbers) - min(numbers) <= 1


def test_in_time() -> None:
    """Shots stand in the order of time, within the run, as long as their kind allows, each with a name of its own."""
    shots = _plan(3, _KINDS, 120.0)
    assert [shot.at for shot in shots] == sorted(shot.at for shot in shots)
    assert all(0 < shot.at < 120 for shot in shots)
    kinds = {kind.name: kind for kind in _KINDS}
    for shot in shots:
        assert 3.0 * kinds[shot.name].shortest <= shot.length <= 3.0 * kinds[shot.name].longest
    assert len({shot.id for shot in shots}) == len(shots)


def test_tracks_do_not_overlap() -> None:
    """Nodes and servers are broken one after the other, with a rest between."""
    kinds = {kind.name: kind for kind in _KINDS}
    for track in (NODES, SERVERS):
        shots = [shot for shot in _plan(5, _KINDS) if shot.track == track]
        for earlier, later in zip(shots, shots[1:]):
            assert later.at >= earlier.at + earlier.length + 3.0 * kinds[earlier.name].rest - 1e-6


def test_tracks_are_apart() -> None:
    """The plan of one track does not depend on the faults of another."""
    alone = _plan(2, [kind for kind in _KINDS if kind.track == SERVERS])
    among = [shot for shot in _plan(2, _KINDS) if shot.track == SERVERS]
    assert [(shot.name, shot.at, shot.length, shot.pick) for shot in alone] == [
        (shot.name, shot.at, shot.length, shot.pick) for shot in among
    ]


@pytest.mark.parametrize("backend", SYSTEMS)
def test_choose(backend: str) -> None:
    """Groups name faults that suit the backend, and a fault is of one group only."""
    system = SYSTEMS[backend]
    strong, weak = ({fault.kind.name for fault in faults.choose(group, system)} for group in ("all", "weak"))
    assert strong
    assert not strong & weak
    tracks = {fault.kind.name for fault in faults.choose("runs,nodes,servers", system)}
    assert tracks == strong
    assert not faults.choose("none", system)


def test_unknown_fault() -> None:
    """A name that is none is refused with those that are known."""
    with pytest.raises(ValueError, match=r"unknown fault earthquake; known: .*kill-wrapper"):
        faults.choose("cut,earthquake", SYSTEMS["redis"])
