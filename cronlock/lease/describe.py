"""Words for people: why a key was not granted, how a run ended, how far a clock is off.

Drift: runs of one key that were started in different ways, as during a rolling change of images.
"""

from __future__ import annotations

import time

from .. import durations
from .vocabulary import (
    DEFERRED,
    DIED,
    ENDED,
    EXITED,
    HELD,
    HOLD,
    LOST,
    NOT_STARTED,
    PAUSED,
    RELEASED,
    STOPPED,
    TIMED_OUT,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .vocabulary import Conflict, Pause, Run

#: Records round times to the millisecond.
_RESOLUTION = 0.001
#: Characters of a program's name that are compared: backends may cut off the rest.
_COMPARED = 100


def describe(conflict: Conflict) -> str:
    """Say for people why a key was not granted."""
    run = conflict.run
    by = "another run" if run is None else f"{run.host} (pid {run.pid})"
    if conflict.why == HELD:
        # Some backends record no holder, and cannot tell a hold from a lease.
        return f"held by {by}, or its hold" if run is None else f"held by {by} since {moment(run.started_at)}"
    if conflict.why == PAUSED and conflict.pause is not None:
        return describe_pause(conflict.pause)
    # After PAUSED: a pause without an end lasts for infinity.
    left = durations.show(conflict.remaining)
    if conflict.why == HOLD:
        return f"{by} ran it just now; held for another {left}"
    if conflict.why == ENDED:
        if run is None:
            return "the run that it stood by for has ended"
        return f"{by} ran it: {ending(run.outcome, run.status)}"
    if conflict.why == DEFERRED and run is not None:
        return f"{by} ran it: {ending(run.outcome, run.status)}; left to other hosts"
    # STATE_LOST.
    return f"the server lost state that this host had seen; treating the key as held for another {left}"


def describe_pause(pause: Pause, now: float | None = None) -> str:
    """Say for people who paused the key, until when and why; `now` defaults to the present epoch time."""
    until = "it is resumed" if pause.until is None else moment(pause.until, now)
    reason = f": {pause.reason}" if pause.reason else ""
    return f"paused by {pause.user} on {pause.host} until {until}{reason}"


def ending(outcome: str | None, status: int | None) -> str:
    """Say for people how a run with this outcome and exit status ended."""
    if outcome == EXITED:
        return f"exited with status {status}"
    words = {
        LOST: "lost its lease and was stopped",
        TIMED_OUT: "stopped after --timeout",
        STOPPED: "stopped by `cronlock stop`",
        NOT_STARTED: "failed to start",
        DIED: "died",
        RELEASED: "released by hand",
        None: "no end recorded",
    }
    return words.get(outcome, str(outcome))


def describe_drift(before: Run, program: str, ttl: float) -> str | None:
    """Say how the run `before` differs in program or ttl (seconds) from one that starts now; None if it does not."""
    was, now = _comparable(before.program), _comparable(program)
    if was != now:
        return f"the previous run was another program: {was}, now {now}; give each job its own key"
    if abs(before.ttl - ttl) > _RESOLUTION:
        was, now = durations.show(before.ttl), durations.show(ttl)
        return f"the previous run had another ttl: {was}, now {now}; do all machines have the same crontab?"
    return None


def moment(at: float, now: float | None = None) -> str:
    """Return local time, with the date unless `at` is on the day of `now` (today by default)."""
    then, today = time.localtime(at), time.localtime(now)
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M:%S", then)


def _comparable(program: str) -> str:
    # Backends store names that are not text in different ways.
    return program[:_COMPARED].encode("ascii", "replace").decode()
