"""The oracle: what a history proves, counted for each fault.

    python -m chaos.check HISTORY...

What a backend does not promise under a fault (the fault *grants* it) is counted apart, never among
the violations, unless it exceeded the bound that still holds.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import findings, pairs
from .findings import KINDS, Finding
from .history import BOTH, GUARD, WRAPPER, Attempt, Fault, History, read
from .occupancy import FaultIndex
from .pulse import BUSY

#: Runs during which nothing was broken.
NO_FAULT = "no fault"
_KILL = 9
_SHOWN = 50


@dataclass
class Row:
    """The counts of one kind of fault."""

    injected: int = 0
    #: Commands that ran during it.
    runs: int = 0
    #: Violations by kind, and excused findings.
    broken: Counter[str] = field(default_factory=Counter)
    apart: Counter[str] = field(default_factory=Counter)
    #: The longest excused overlap, in seconds.
    longest_apart: float = 0.0
    #: The longest time in seconds from a run's death to the takeover on another node, and the number of takeovers.
    takeover: float | None = None
    takeovers: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return it for a summary."""
        return {
            "injected": self.injected,
            "runs": self.runs,
            **{kind: self.broken[kind] for kind in KINDS},
            "apart": dict(sorted(self.apart.items())),
            "longest_apart": round(self.longest_apart, 3),
            "takeover": None if self.takeover is None else round(self.takeover, 3),
            "takeovers": self.takeovers,
        }


@dataclass
class Verdict:
    """The verdict on a history."""

    history: History
    findings: list[Finding]
    rows: dict[str, Row]
    #: Process killed -> moment of the run's life -> count.
    kills: dict[str, Counter[str]]
    #: Ticks without a healthy node, and ticks during which the key was held.
    unasked: int
    held: int

    def violations(self) -> list[Finding]:
        """Return the findings that break a promise."""
        return [finding for finding in self.findings if not finding.apart]

    def is_void(self) -> bool:
        """Return True if the harness failed, which proves nothing."""
        return bool(self.history.harness) or not self.history.attempts

    def is_good(self) -> bool:
        """Return True if all promises were kept."""
        return not self.is_void() and not self.violations()


def check(history: History) -> Verdict:
    """Return the verdict on a history."""
    around = FaultIndex(history)
    found = findings.find(history, around)
    for finding in found:
        _attribute(finding, history, around)
    rows = _rows(history, around, found)
    unasked, held = _ticks(history, around)
    return Verdict(history, found, rows, _kills(history), unasked, held)


def summary(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON data, for `report`."""
    history = verdict.history
    lives = [attempt for attempt in history.attempts.values() if attempt.life]
    return {
        **{
            name: history.plan[name]
            for name in ("backend", "seed", "mutant", "ttl", "hold", "nodes")
            if name in history.plan
        },
        "seconds": round(history.end - history.begin, 1),
        "attempts": len(history.attempts),
        "runs": len(lives),
        "ticks": len(history.ticks),
        "unasked": verdict.unasked,
        "held": verdict.held,
        "injected": sum(fault.name != BUSY for fault in history.faults.values()),
        "busy": round(_busy(history), 1),
        "late": history.late,
        "pairs": dict(sorted(pairs.came(history).items())),
        "faults": {name: row.to_json() for name, row in sorted(verdict.rows.items())},
        "kills": {process: dict(sorted(moments.items())) for process, moments in sorted(verdict.kills.items())},
        "violations": [f"{finding.kind}: {finding.text}" for finding in verdict.violations()[:_SHOWN]],
        "apart": [f"{finding.kind}: {finding.text}" for finding in verdict.findings if finding.apart][:_SHOWN],
        "harness": history.harness[:_SHOWN],
        "good": verdict.is_good(),
    }


def _busy(history: History) -> float:
    """Return for how many seconds the machine had too much to do."""
    busy = [fault for fault in history.faults.values() if fault.name == BUSY]
    return sum((history.end if fault.end is None else fault.end) - fault.begin for fault in busy)


def _attribute(finding: Finding, history: History, around: FaultIndex) -> None:
    """Assign a finding to a fault, and decide whether that excuses it."""
    likely = around.during(finding.begin, finding.end)
    hits = [fault for run in finding.runs for fault in around.hits(history.attempts[run])]
    for fault in [*hits, *reversed(likely)]:
        if any(_excuses(grant, finding, fault, history) for grant in fault.grants):
            finding.fault, finding.apart = fault.name, True
            return
    if hits or likely:
        finding.fault = (hits or likely)[-1].name


def _excuses(grant: dict[str, Any], finding: Finding, fault: Fault, history: History) -> bool:
    if grant["finding"] != finding.kind:
        return False
    within = grant.get("within")
    if within is not None and finding.length is not None and finding.length > within:
        return False
    unless = grant.get("unless_seen")
    return unless is None or not findings.seen(finding, fault, history, unless)


def _rows(history: History, around: FaultIndex, found: Sequence[Finding]) -> dict[str, Row]:
    rows: dict[str, Row] = {NO_FAULT: Row()}
    for fault in history.faults.values():
        rows.setdefault(fault.name, Row()).injected += 1
    for attempt in history.starts():
        for name in {fault.name for fault in _lived_through(attempt, around)} or {NO_FAULT}:
            rows[name].runs += 1
    for finding in found:
        row = rows[finding.fault or NO_FAULT]
        (row.apart if finding.apart else row.broken)[finding.kind] += 1
        if finding.apart and finding.kind == findings.OVERLAP:
            row.longest_apart = max(row.longest_apart, finding.length or 0.0)
    for died, _, seconds in findings.takeovers(history, around):
        names = {fault.name for fault in _lived_through(died, around)} or {NO_FAULT}
        for name in names:
            row = rows[name]
            row.takeovers += 1
            row.takeover = max(row.takeover or 0.0, seconds)
    return rows


def _lived_through(attempt: Attempt, around: FaultIndex) -> list[Fault]:
    """Return the faults that hit this run, or what it depends on, during its life."""
    return [fault for fault in around.near(attempt) if fault.run == attempt.run or fault.run is None]


def _ticks(history: History, around: FaultIndex) -> tuple[int, int]:
    unasked = held = 0
    for _, attempts, healthy in findings.asked(history, around):
        if not any(attempt.life for attempt in attempts):
            unasked += not healthy
            held += bool(healthy)
    return unasked, held


def _kills(history: History) -> dict[str, Counter[str]]:
    kills: dict[str, Counter[str]] = {}
    for fault in history.faults.values():
        if fault.signal == _KILL and fault.run is not None and fault.process in (WRAPPER, GUARD, BOTH):
            attempt = history.attempts.get(fault.run)
            if attempt is not None:
                kills.setdefault(fault.process, Counter())[_moment(attempt, fault.begin)] += 1
    return kills


def _moment(attempt: Attempt, at: float) -> str:
    life = attempt.life
    if life is None or at < life.start:
        return "before the command"
    if life.end is not None and at >= life.end:
        return "during release"
    return "during the run"


def show(verdict: Verdict) -> str:
    """Return a verdict for people."""
    told = summary(verdict)
    word = "VOID" if verdict.is_void() else "good" if verdict.is_good() else "BROKEN"
    lines = [
        f"{told.get('backend')}, seed {told.get('seed')}: {word}: {told['runs']} runs of {told['attempts']} attempts, "
        f"{told['injected']} faults in {told['seconds']:g} s"
    ]
    for name, row in told["faults"].items():
        broken = ", ".join(f"{row[kind]} {kind}" for kind in KINDS if row[kind]) or "nothing broken"
        apart = ", ".join(f"{number} {kind}" for kind, number in row["apart"].items())
        took = "" if row["takeover"] is None else f"; taken over within {row['takeover']:.1f} s"
        lines.append(
            f"  {name}: {row['injected']} times, {row['runs']} runs: {broken}"
            + (f"; apart: {apart}" if apart else "")
            + took
        )
    lines += [f"  {text}" for text in [*told["harness"], *told["violations"]]]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Print the verdict on each history; return 0 if all are good."""
    good = True
    for name in arguments:
        verdict = check(read(Path(name)))
        good = good and verdict.is_good()
        print(show(verdict))
        Path(name).with_suffix(".summary.json").write_text(json.dumps(summary(verdict), indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
