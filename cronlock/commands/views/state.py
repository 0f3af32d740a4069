"""The state of a key, from its record; and record and runs as JSON, in the schema docs/status.schema.json."""

from __future__ import annotations

from typing import Any

from ...lease.describe import describe_drift
from ...lease.vocabulary import Record, Run

#: The version of the JSON that ``--json`` prints: raised when a field changes its meaning or goes.
SCHEMA = 1

#: A run has the key.
RUNNING = "running"
#: Its last run's hold is not over; or a run has it, where the backend does not tell which of both.
HELD = "held"
#: A run's lease lapsed without the run having ended: it died, or was cut off.
LAPSED = "lapsed"
FREE = "free"


def state_of(record: Record | None) -> str:
    """Return RUNNING, HELD, LAPSED or FREE; None is a key that nobody used."""
    if record is None:
        return FREE
    if record.run is not None:
        return RUNNING if record.remaining > 0 else LAPSED
    return HELD if record.untold or record.hold_remaining > 0 else FREE


def drift_of(record: Record) -> str | None:
    """Say how the newest run was started otherwise than the one before it; None if it was not."""
    runs = ([record.run] if record.run is not None else []) + record.history[:2]
    if len(runs) < 2:
        return None
    newest, before = runs[:2]
    return describe_drift(before, newest.program, newest.ttl)


def duration_of(run: Run) -> float | None:
    """Return how long an ended run took, in seconds; None where nobody knows."""
    return None if run.ended_at is None else max(0.0, run.ended_at - run.started_at)


def key_as_json(key: str, record: Record | None) -> dict[str, Any]:
    """Return all that is known of a key; seconds, and times since the epoch."""
    return {
        "key": key,
        "state": state_of(record),
        "remaining": round(record.remaining, 3) if record is not None and record.run is not None else None,
        "hold_remaining": _hold_remaining(record),
        "run": run_as_json(record.run) if record is not None and record.run is not None else None,
        "last": run_as_json(record.history[0]) if record is not None and record.history else None,
        "last_success": run_as_json(record.success) if record is not None and record.success is not None else None,
        "drift": drift_of(record) if record is not None else None,
    }


def _hold_remaining(record: Record | None) -> float | None:
    if record is None:
        return 0.0
    return None if record.untold else round(record.hold_remaining, 3)


def run_as_json(run: Run) -> dict[str, Any]:
    """Return a run; what is not known is null."""
    duration = duration_of(run)
    return {
        "owner": run.owner,
        "host": run.host,
        "pid": run.pid,
        "program": run.program,
        "started_at": round(run.started_at, 3),
        "ended_at": None if run.ended_at is None else round(run.ended_at, 3),
        "duration": None if duration is None else round(duration, 3),
        "ttl": run.ttl,
        "fence": run.fence,
        "outcome": run.outcome,
        "status": run.status,
        "takeover": run.stands_for is not None,
        "took_over": run.took_over,
    }
