"""Lines that are better not wrapped, until a comment says so."""

from __future__ import annotations

from . import machine_local, naming
from .lines import Job

_SETTLE = 'write "# key: NAME" above it to wrap it all the same, or "# cronlock: off" to keep it so'


def why_left(job: Job, programs: frozenset[str]) -> str | None:
    """Return why `job` is left as it is unless a comment gives its key, or None."""
    if job.key is not None:
        return None
    reason = machine_local.reason(naming.reading_of(job, programs)[0])
    return f"{reason}; wrapped, it would stop on all machines but one; {_SETTLE}" if reason else None


def check_wrapped(job: Job, programs: frozenset[str]) -> list[str]:
    """Return what speaks against having wrapped `job`, whose key no comment gives."""
    if job.key is not None or job.off:
        return []
    reason = machine_local.about(naming.reading_of(job, programs)[0])
    if reason is None:
        return []
    return [f'{reason}, but runs on one machine; unwrap it, or write "# key: NAME" above it if that is right']
