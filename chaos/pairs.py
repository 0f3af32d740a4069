"""Pairs of faults of two tracks, such as a cut node and a killed leader: which there can be, and which came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from .faults import FAULTS, choose
from .history import Fault as Injected
from .history import History
from .plan import GOAL, NODES, RUNS, SERVERS, pair
from .systems import SYSTEMS
from .words import FAULTS as WORDS

_SHOWN = 20
TRACKS = ((RUNS, NODES), (RUNS, SERVERS), (NODES, SERVERS))


def of_all_systems() -> dict[str, tuple[str, str]]:
    """Return the pairs that some system can have, among the faults that every promise must bear: name -> tracks."""
    found: dict[str, tuple[str, str]] = {}
    for system in SYSTEMS.values():
        faults = {fault.kind.name: fault.kind.track for fault in choose("all", system)}
        for first, second in TRACKS:
            ones, others = ([name for name, track in faults.items() if track == one] for one in (first, second))
            found.update({pair(one, other): (first, second) for one in ones for other in others})
    return found


def lacking() -> dict[str, list[str]]:
    """Return the faults that each system cannot have, and so no pair with them."""
    names = [name for name, fault in FAULTS.items() if not fault.weak]
    suiting = {name: {fault.kind.name for fault in choose("all", system)} for name, system in SYSTEMS.items()}
    return {system: [name for name in names if name not in suits] for system, suits in suiting.items()}


def table(counts: Mapping[str, int]) -> str:
    """Return what of the pairs came, for the document."""
    lines = [
        "| pairs of faults of | there can be | came at least 20 times | least | all together |",
        "| --- " * 5 + "|",
    ]
    for tracks in TRACKS:
        ours = [counts.get(name, 0) for name, of in of_all_systems().items() if of == tracks]
        enough = sum(count >= GOAL for count in ours)
        lines.append(f"| {' and '.join(tracks)} | {len(ours)} | {enough} | {min(ours)} | {sum(ours):,} |")
    return "\n".join([*lines, "", *_rare(counts)])


def show(counts: Mapping[str, int]) -> str:
    """Return the same for a terminal, and which faults a system cannot have."""
    lines = [f"{name}: cannot have {', '.join(faults)}" for name, faults in lacking().items()]
    return "\n".join([table(counts), *lines])


def _rare(counts: Mapping[str, int]) -> list[str]:
    rare = sorted((counts.get(name, 0), name) for name in of_all_systems() if counts.get(name, 0) < GOAL)
    if not rare:
        return [f"Each came at least {GOAL} times."]
    named = [f"{' and '.join(WORDS[one] for one in name.split(' and '))} ({count})" for count, name in rare[:_SHOWN]]
    more = [f"{len(rare) - _SHOWN} more"] if len(rare) > _SHOWN else []
    return [f"Less often than that: {'; '.join([*named, *more])}."]


def came(history: History) -> Counter[str]:
    """Return how often each pair came: two faults at the same time; of a run and of a node: on the same node."""
    tracks: dict[str, list[Injected]] = {RUNS: [], NODES: [], SERVERS: []}
    for fault in history.faults.values():
        if fault.name in FAULTS:
            tracks[FAULTS[fault.name].kind.track].append(fault)
    counts: Counter[str] = Counter()
    for first, second in TRACKS:
        for one in tracks[first]:
            for other in tracks[second]:
                if _together(one, other, history.end):
                    counts[pair(one.name, other.name)] += 1
    return counts


def _together(one: Injected, other: Injected, end: float) -> bool:
    ends = [end if fault.end is None else fault.end for fault in (one, other)]
    apart = one.nodes and other.nodes and not {*one.nodes} & {*other.nodes}
    return not apart and max(one.begin, other.begin) <= min(ends)
