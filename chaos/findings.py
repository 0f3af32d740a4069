"""Broken promises in a history: one pure function for each promise."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .expected import allowed
from .history import Attempt, Fault, History
from .occupancy import SLACK, FaultIndex, Occupancy, alive_until, ended_well

OVERLAP = "overlap"
FENCE = "fence"
DOUBLE = "double"
HOLD = "hold"
LOST = "lost"
STATUS = "status"
OUTLIVE = "outlive"
LEFT = "left"
STUCK = "stuck"
#: Kind -> meaning.
KINDS = {
    OVERLAP: "two runs of a key at the same time",
    FENCE: "a later run with a fence that is not larger",
    DOUBLE: "a tick run twice within the hold",
    HOLD: "a run before the last one's hold was over",
    LOST: "a tick run by nobody although a healthy node asked for a free key",
    STATUS: "an exit status that the manual does not allow",
    OUTLIVE: "processes that outlived their lease or their wrapper",
    LEFT: "processes found alive after all",
    STUCK: "a skip although nobody can have held the key",
}


@dataclass
class Finding:
    """One broken promise."""

    kind: str
    key: str
    #: The runs concerned; the last one is at fault.
    runs: list[str]
    #: Its interval of time.
    begin: float
    end: float
    text: str
    #: Seconds, if it has a length.
    length: float | None = None
    #: The fault that it is counted under, or None.
    fault: str | None = None
    #: True if that fault excuses it.
    apart: bool = False


def find(history: History, around: FaultIndex) -> list[Finding]:
    """Return all findings in order of time."""
    found: list[Finding] = []
    for attempts in history.by_key().values():
        started = sorted((a for a in attempts if a.life), key=_start)
        occupancy = Occupancy(attempts, around)
        found += overlaps(started, around)
        found += fences(started)
        found += early(started, around)
        found += stuck(attempts, occupancy, around)
    found += lost(history, around)
    found += wrong_statuses(history, around)
    found += outliving(history, around)
    found += _left(history)
    return sorted(found, key=lambda finding: finding.begin)


def overlaps(started: Sequence[Attempt], around: FaultIndex) -> Iterator[Finding]:
    """Yield overlapping pairs of runs, which are in order of their starts."""
    living: list[tuple[float, int, Attempt]] = []
    for number, attempt in enumerate(started):
        start, end = _start(attempt), alive_until(attempt, around)
        while living and living[0][0] < start:
            heapq.heappop(living)
        for last, _, other in sorted(living):
            length = min(last, end) - start
            text = f"{_name(attempt)} started while {_name(other)} was alive, which it was for {length:.3f} s more"
            yield Finding(OVERLAP, attempt.key, [other.run, attempt.run], other.at, start, text, length)
        heapq.heappush(living, (end, number, attempt))


def fences(started: Sequence[Attempt]) -> Iterator[Finding]:
    """Yield runs whose fence is not above all earlier ones; the runs are in order of their starts."""
    largest: Attempt | None = None
    for attempt in started:
        fence = _fence(attempt)
        if fence is None:
            continue
        before = None if largest is None else _fence(largest)
        if largest is not None and before is not None and fence <= before:
            text = f"{_name(attempt)} has fence {fence}; {_name(largest)} before it had {before}"
            yield Finding(FENCE, attempt.key, [largest.run, attempt.run], largest.at, _start(attempt), text)
        else:
            largest = attempt


def early(started: Sequence[Attempt], around: FaultIndex) -> Iterator[Finding]:
    """Yield runs that began within an earlier run's hold; the runs are in order of their starts.

    The hold counts from when the lease was granted, so at least from the start of the earlier process. A standby may
    take over within it, but no tick that a run is known to have done.
    """
    longest = max((attempt.hold for attempt in started), default=0.0)
    first = 0
    for index, attempt in enumerate(started):
        start = _start(attempt)
        while start - _start(started[first]) >= longest and first < index:
            first += 1
        if attempt.ignore_hold:
            continue
        takes_over = attempt.life is not None and attempt.life.takeover
        seen: set[str] = set()
        for other in reversed(started[first:index]):
            if start - other.at >= other.hold:
                continue
            kind = DOUBLE if other.tick is not None and other.tick == attempt.tick else HOLD
            if takes_over and not (kind == DOUBLE and _done(other, start, around)):
                continue
            if kind not in seen:
                seen.add(kind)
                text = f"{_name(attempt)} started {start - other.at:.3f} s after {_name(other)}, hold {other.hold:g} s"
                yield Finding(kind, attempt.key, [other.run, attempt.run], other.at, start, text)


def _done(attempt: Attempt, by: float, around: FaultIndex) -> bool:
    """Return True if the servers must have known by then that the run was done."""
    ended = attempt.ended is not None and attempt.ended <= by
    return ended and ended_well(attempt, around) and not around.hits(attempt)


def stuck(attempts: Sequence[Attempt], occupancy: Occupancy, around: FaultIndex) -> Iterator[Finding]:
    """Yield skips by healthy nodes of a key that nobody can have held."""
    for ask in attempts:
        if ask.life is not None or ask.ended is None or ask.status != ask.skip_status:
            continue
        if around.impairing(ask.node, ask.at, ask.ended):
            continue
        since = occupancy.free_since(ask)
        if since is not None and not _quarantines(ask, attempts, around):
            length = None if since == float("-inf") else ask.at - since
            how = "although nobody had it before" if length is None else f"{length:.1f} s after it must be free"
            text = f"{_name(ask)} was refused {how}: {ask.stderr.strip()[-200:]}"
            yield Finding(STUCK, ask.key, [ask.run], ask.at, ask.ended, text, length)


def _quarantines(ask: Attempt, attempts: Sequence[Attempt], around: FaultIndex) -> bool:
    """Return True if a watermark of the node may keep the key: for a ttl from when the node first noticed a loss.

    That is when it first asked after servers had lost leases, however long ago that was.
    """
    for loss in around.losses(ask.at):
        noticed = [other.at for other in attempts if other.node == ask.node and loss.until() < other.at <= ask.at]
        if not noticed or ask.at <= min(noticed) + ask.ttl + SLACK:
            return True
    return False


def asked(history: History, around: FaultIndex) -> Iterator[tuple[str, list[Attempt], list[Attempt]]]:
    """Yield each tick with all its attempts and those by healthy nodes."""
    by_tick: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in history.attempts.values():
        if attempt.tick is not None:
            by_tick.setdefault((attempt.key, attempt.tick), []).append(attempt)
    for tick in history.ticks:
        attempts = by_tick.get((tick.key, tick.tick), [])
        yield (
            tick.tick,
            attempts,
            [
                attempt
                for attempt in attempts
                if attempt.node in tick.healthy
                and attempt.ended is not None
                and not around.hits(attempt)
                and not around.impairing(attempt.node, attempt.at, attempt.ended)
            ],
        )


def lost(history: History, around: FaultIndex) -> Iterator[Finding]:
    """Yield ticks that nobody ran although a healthy node asked for a free key."""
    occupancies = {key: Occupancy(attempts, around) for key, attempts in history.by_key().items()}
    for tick, attempts, healthy in asked(history, around):
        if any(attempt.life for attempt in attempts):
            continue
        for ask in healthy:
            if not occupancies[ask.key].by_another(ask):
                assert ask.ended is not None
                text = f"tick {tick} of {ask.key} was run by nobody; {_name(ask)} asked and ended with {ask.status}"
                yield Finding(LOST, ask.key, [ask.run], ask.at, ask.ended, text)
                break


def wrong_statuses(history: History, around: FaultIndex) -> Iterator[Finding]:
    """Yield exits with a status that is not allowed."""
    for attempt in history.attempts.values():
        if attempt.ended is None or attempt.status is None:
            continue
        may = allowed(attempt, around)
        if attempt.status not in may:
            text = f"{_name(attempt)} ended with {attempt.status}, not {sorted(may)}: {attempt.stderr.strip()[-200:]}"
            yield Finding(STATUS, attempt.key, [attempt.run], attempt.at, attempt.ended, text)


def outliving(history: History, around: FaultIndex) -> Iterator[Finding]:
    """Yield runs with processes alive after the lease, or after a wrapper that exited."""
    for attempt in history.attempts.values():
        if attempt.life is None:
            continue
        last, death = alive_until(attempt, around), around.death(attempt)
        by_itself = attempt.ended is not None and attempt.status is not None and attempt.status >= 0
        limit = death + attempt.ttl
        if by_itself and attempt.ended is not None:
            limit = min(limit, attempt.ended)
        if last > limit:
            what = "its wrapper" if by_itself and limit == attempt.ended else "its lease"
            text = f"{_name(attempt)} was alive {last - limit:.3f} s after {what}"
            yield Finding(OUTLIVE, attempt.key, [attempt.run], attempt.at, last, text, last - limit)


def takeovers(history: History, around: FaultIndex) -> Iterator[tuple[Attempt, Attempt, float]]:
    """Yield (dead run, next run of the key on another node, seconds between)."""
    for attempts in history.by_key().values():
        started = sorted((a for a in attempts if a.life), key=_start)
        for earlier, later in zip(started, started[1:]):
            life = earlier.life
            assert life is not None
            if life.why == "done" or earlier.node == later.node:
                continue
            yield earlier, later, _start(later) - min(life.last, around.death(earlier))


def _left(history: History) -> Iterator[Finding]:
    for left in history.left:
        attempt = history.attempts[left.run]
        text = f"{_name(attempt)} left behind {left.pids}: {left.text}"
        yield Finding(LEFT, attempt.key, [left.run], attempt.at, left.at, text)


def seen(finding: Finding, fault: Fault, history: History, what: str) -> bool:
    """Return True if the node of the later run had asked before the fault, and so has a watermark.

    `what` is "lease": while the earlier run's lease was out; or "key": at any time.
    """
    later = history.attempts[finding.runs[-1]]
    earlier = history.attempts[finding.runs[0]]
    since = _start(earlier) if what == "lease" and earlier.life is not None else float("-inf")
    for attempt in history.attempts.values():
        if attempt.key != later.key or attempt.node != later.node or attempt is later:
            continue
        shown_at = _shown_at(attempt)
        if shown_at is not None and shown_at < fault.begin and (attempt is earlier or attempt.at >= since):
            return True
    return False


def _shown_at(attempt: Attempt) -> float | None:
    """Return when an attempt's node learnt the key's fence; None if it did not."""
    if attempt.life is not None:
        return attempt.life.start
    return attempt.ended if attempt.status == attempt.skip_status else None


def _start(attempt: Attempt) -> float:
    assert attempt.life is not None
    return attempt.life.start


def _fence(attempt: Attempt) -> int | None:
    assert attempt.life is not None
    return attempt.life.fence


def _name(attempt: Attempt) -> str:
    tick = "" if attempt.tick is None else f", tick {attempt.tick}"
    return f"{attempt.run} ({attempt.node}, {attempt.key}{tick})"
