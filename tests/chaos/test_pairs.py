"""Pairs of faults: which came in a history, which a plan asks for, and what the document says of them."""

from __future__ import annotations

from collections import Counter

from chaos import check, pairs
from chaos.made import Made
from chaos.plan import GOAL, NODES, RUNS, SERVERS, Kind, Shot, make, pair

_KINDS = [
    *(Kind(name, RUNS) for name in ("kill-wrapper", "kill-guard", "kill-command")),
    *(Kind(name, NODES, 0.3, 2.0) for name in ("cut", "slow", "node-clock")),
    *(Kind(name, SERVERS, 0.2, 2.5, 2.5) for name in ("server-kill", "server-restart")),
]


def _planned(shots: list[Shot]) -> Counter[str]:
    """Return the pairs of a plan; of a run and a node those on the same node."""
    counts: Counter[str] = Counter()
    for one in shots:
        for other in shots:
            begins = other.at <= one.at < other.at + other.length and one.track != other.track
            same = {one.track, other.track} != {RUNS, NODES} or one.node == other.pick
            if begins and same:
                counts[pair(one.name, other.name)] += 1
    return counts


def test_what_came() -> None:
    """Faults of two tracks at the same time are a pair, those of a run and of a node on the same node only."""
    made = Made()
    run = made.begun(1)
    made.fault(2, 5, "cut", nodes=["a"])
    made.fault(4, 8, "leader-kill")
    made.fault(4.5, 4.5, "kill-guard", nodes=["a"], run=run)
    made.fault(4.6, 4.6, "kill-wrapper", nodes=["b"], run=run)
    made.fault(7, 9, "slow", nodes=["b"])
    made.fault(8.5, 8.5, "kill-guard", nodes=["b"], run=run)
    made.fault(1, 20, "busy")
    expected = {
        pair("cut", "leader-kill"): 1,
        pair("cut", "kill-guard"): 1,
        pair("leader-kill", "kill-guard"): 1,
        pair("leader-kill", "kill-wrapper"): 1,
        pair("leader-kill", "slow"): 1,
        pair("slow", "kill-guard"): 1,
    }
    assert check.summary(made.verdict())["pairs"] == expected


def test_rare_pairs_come_first() -> None:
    """A plan has the pairs that came least, and so all of them come about alike."""
    counts = Counter({pair("cut", "server-kill"): GOAL, pair("kill-guard", "cut"): GOAL})
    for seed in range(12):
        counts += _planned(make(seed, _KINDS, 120.0, 3.0, 0.5, dense=True, pairs=counts))
    tracks = {kind.name: kind.track for kind in _KINDS}
    possible = {pair(one, other) for one in tracks for other in tracks if tracks[one] != tracks[other]}
    assert {*counts} == possible
    assert min(counts.values()) >= GOAL
    blind: Counter[str] = Counter()
    for seed in range(12):
        blind += _planned(make(seed, _KINDS, 120.0, 3.0, 0.5, dense=True))
    assert min(blind[name] for name in possible) < min(counts.values())


def test_servers_that_lack_pairs() -> None:
    """A fault of the servers whose pairs with others came least is chosen for that: another has no time beside it."""
    tracks = {kind.name: kind.track for kind in _KINDS}
    counts = {pair("server-kill", name): GOAL for name in tracks if tracks[name] != SERVERS}
    shots = make(1, _KINDS, 120.0, 3.0, 0.5, dense=True, pairs=counts)
    assert {shot.name for shot in shots if shot.track == SERVERS} == {"server-restart"}


def test_dense() -> None:
    """Faults and rests of a dense plan are shorter, though none shorter than its kind allows."""
    usual, dense = (make(3, _KINDS, 600.0, 3.0, 0.5, dense=dense) for dense in (False, True))
    for track in (NODES, SERVERS):
        assert sum(shot.track == track for shot in dense) > 1.5 * sum(shot.track == track for shot in usual)
    kinds = {kind.name: kind for kind in _KINDS}
    assert all(shot.length >= 3.0 * kinds[shot.name].shortest for shot in dense)
    brief = Kind("leader-kill", SERVERS, 1.5, 3.0, brief=0.3)
    assert all(0.3 * 3.0 <= shot.length <= 0.6 * 3.0 for shot in make(1, [brief], 99.0, 3.0, 1.0, dense=True))


def test_same_seed_and_counts() -> None:
    """The same seed and counts make the same plan; other counts another one."""
    enough = {pair(one.name, other.name): GOAL for one in _KINDS for other in _KINDS}
    once, again, other = (make(5, _KINDS, 120.0, 3.0, 0.5, pairs=counts) for counts in ({}, {}, enough))
    assert once == again
    assert once != other


def test_words() -> None:
    """The document says how many pairs came often enough, and names those that did not."""
    every = pairs.of_all_systems()
    assert pair("cut", "leader-kill") in every
    assert pair("kill-guard", "disk-full") in every
    assert pair("cut", "disk-full") not in every, "what has a disk has no network"
    assert "disk-full" in pairs.lacking()["redis"]
    assert "cut" in pairs.lacking()["file"]
    counts = dict.fromkeys(every, GOAL)
    assert f"Each came at least {GOAL} times." in pairs.table(counts)
    del counts[pair("cut", "leader-kill")]
    text = pairs.table(counts)
    assert "node cut off from the servers and leader or master killed (0)" in text
    assert "| nodes and servers | 106 | 105 | 0 | 2,100 |" in text
