"""Drift: runs of one key that were started in different ways, as during a rolling change of images."""

from __future__ import annotations

from . import durations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lease import Run

#: A record has times to the millisecond.
_SAME = 0.001
#: Backends keep at least so much of a program's name.
_KEPT = 100


def describe_drift(before: Run, program: str, ttl: float) -> str | None:
    """Say how the run `before` was started otherwise than with `program` and `ttl`, in seconds; None if it was not."""
    was, now = _comparable(before.program), _comparable(program)
    if was != now:
        return f"the run before it was of another program: {was}, now {now}; give each job a key of its own"
    if abs(before.ttl - ttl) > _SAME:
        was, now = durations.show(before.ttl), durations.show(ttl)
        return f"the run before it had another ttl: {was}, now {now}; do all machines have the same crontab?"
    return None


def _comparable(program: str) -> str:
    # What is no text is kept in different ways.
    return program[:_KEPT].encode("ascii", "replace").decode()
