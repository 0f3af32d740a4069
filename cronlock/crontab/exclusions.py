"""Lines that are not wrapped unless a comment asks for it."""

from __future__ import annotations

from . import guards, machine_local, naming
from .invocations import Reading
from .lines import Job

_SETTLE = 'write "# key: NAME" above it to wrap it anyway, or "# cronlock: off" to keep it'


def offer(converted: str) -> str:
    """Return the offer to replace a line's lock by cronlock, without the command, which may contain a password."""
    return f"replace it (--replace-locks): {converted.partition(' -- ')[0]} -- ..."


def why_left(reading: Reading, converted: str | None, *, replaces: bool) -> str | None:
    """Return why a line without a key in a comment is not wrapped, or None.

    `converted` is its command with the lock replaced by cronlock, as `replaces` asks for.
    """
    reason = machine_local.reason(reading)
    if reason is not None:
        return f"{reason}; wrapped, it would run on one machine only; {_SETTLE}"
    reason = guards.why_left(reading)
    if reason is None or (replaces and converted is not None):
        return None
    return "; ".join([reason, *([offer(converted)] if converted else []), _SETTLE])


def check_wrapped(job: Job, programs: frozenset[str]) -> list[str]:
    """Return remarks against wrapping `job`, unless a comment gives its key."""
    if job.key is not None or job.off:
        return []
    reading = naming.reading_of(job, programs)[0]
    found = guards.remarks(job, reading)
    reason = machine_local.about(reading)
    if reason is not None:
        found.append(f"{reason}, but runs on one machine; unwrap it, or {_APPROVE}")
    reason = guards.why_left(reading)
    if reason is not None:
        found.append(f"{reason}, inside of cronlock; remove one of both, or {_APPROVE}")
    return found


_APPROVE = 'write "# key: NAME" above it if that is right'
