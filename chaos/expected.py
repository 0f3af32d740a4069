"""The exit statuses that a cronlock process may have, given its faults."""

from __future__ import annotations

from cronlock import errors

from .history import BOTH, COMMAND, GUARD, WRAPPER, Attempt
from .occupancy import FaultIndex

_KILL = 9


def allowed(attempt: Attempt, around: FaultIndex) -> set[int]:
    """Return the statuses that the manual allows, negative for a signal as in subprocess."""
    end = float("inf") if attempt.ended is None else attempt.ended
    hits = around.hits(attempt)
    impaired = bool(hits or around.impairing(attempt.node, attempt.at, end))
    result = _of_hits(attempt, around)
    life = attempt.life
    if life is None:
        result.add(attempt.skip_status)
        if impaired:
            # The lease was lost, or came too late, before the command recorded its start.
            result |= {errors.UNAVAILABLE, errors.LOST}
        return result
    if life.end is not None and life.end_status is not None and (life.why == "done" or hits):
        result.add(life.end_status)
    if impaired:
        result.add(errors.LOST)
    if attempt.timeout is not None and end - life.start >= attempt.timeout:
        result.add(errors.TIMEOUT)
    return result


def _of_hits(attempt: Attempt, around: FaultIndex) -> set[int]:
    result: set[int] = set()
    for fault in around.near(attempt):
        result.update(fault.statuses)
    for fault in around.hits(attempt):
        if fault.signal is None:
            continue
        if fault.signal == _KILL and fault.process in (WRAPPER, BOTH):
            result.add(-_KILL)
        if fault.signal == _KILL and fault.process in (GUARD, BOTH):
            result.add(errors.FAULT)
        if fault.process == COMMAND or (fault.process == WRAPPER and fault.signal != _KILL):
            result.add(errors.SIGNAL_BASE + fault.signal)
    return result
