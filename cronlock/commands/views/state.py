"""The state of a key, and records and runs as JSON (docs/status.schema.json)."""

from __future__ import annotations

import json
from typing import Any

from ...lease.describe import describe_drift
from ...lease.vocabulary import RELEASED, STOPPED, Pause, Record, Run

#: The version of the JSON, increased when a field changes its meaning or is removed.
SCHEMA = 1

#: A run has the key.
RUNNING = "running"
#: The hold of the last run is not over; or a run or a hold has the key and the backend cannot tell which.
HELD = "held"
#: The lease of a run lapsed before it reported its end: it died or was cut off.
LAPSED = "lapsed"
FREE = "free"
#: No run has the key, and none may start.
PAUSED = "paused"
#: In addition to one of the above: the last run did not succeed, and none is in progress.
FAILED = "failed"
#: All conditions, most urgent first.
CONDITIONS = (LAPSED, FAILED, RUNNING, PAUSED, HELD, FREE)


def state_of(record: Record) -> str:
    """Return RUNNING, LAPSED, PAUSED, HELD or FREE. A paused key that is running or lapsed is one of these."""
    if record.run is not None:
        return RUNNING if record.remaining > 0 else LAPSED
    if record.pause is not None:
        return PAUSED
    return HELD if record.opaque or record.hold_remaining > 0 else FREE


def conditions_of(record: Record) -> list[str]:
    """Return the conditions of the key, most urgent first."""
    what = state_of(record)
    last = record.history[0] if record.history else None
    failed = record.run is None and last is not None and not last.succeeded and last.outcome not in (RELEASED, STOPPED)
    return [one for one in CONDITIONS if one == what or (one == FAILED and failed) or (one == PAUSED and record.pause)]


def headline(record: Record) -> str:
    """Return the most urgent condition of the key."""
    return conditions_of(record)[0]


def count(records: list[tuple[str, Record]]) -> list[tuple[str, int]]:
    """Return (condition, number of keys), most urgent first, without conditions of no key."""
    found = [headline(record) for _, record in records]
    return [(one, found.count(one)) for one in CONDITIONS if one in found]


def by_attention(records: list[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """Return the keys' records sorted by urgency and name."""
    return sorted(records, key=lambda one: (CONDITIONS.index(headline(one[1])), one[0]))


def is_held(record: Record) -> bool:
    """Return whether a run or a hold has the key, including the hold of a run that died."""
    return state_of(record) in (RUNNING, HELD) or record.hold_remaining > 0


def drift_of(record: Record) -> str | None:
    """Return how the newest run was started differently from the previous one, for people; or None."""
    runs = record.runs
    return describe_drift(runs[1], runs[0].program, runs[0].ttl) if len(runs) > 1 else None


def duration_of(run: Run) -> float | None:
    """Return the duration of an ended run in seconds; None if unknown."""
    return None if run.ended_at is None else max(0.0, run.ended_at - run.started_at)


def as_json(backend: str, now: float, **fields: Any) -> str:
    """Return a JSON document with `fields`, the URL `backend` and the time of reading `now`."""
    return json.dumps({"schema": SCHEMA, "backend": backend, "read_at": round(now, 3), **fields}, indent=2)


def key_as_json(key: str, record: Record) -> dict[str, Any]:
    """Return a key as JSON, in seconds and times since the epoch."""
    return {
        "key": key,
        "state": state_of(record),
        "remaining": None if record.run is None else round(record.remaining, 3),
        "hold_remaining": None if record.opaque else round(record.hold_remaining, 3),
        "run": record.run and run_as_json(record.run),
        "last": run_as_json(record.history[0]) if record.history else None,
        "last_success": record.success and run_as_json(record.success),
        "drift": drift_of(record),
        "pause": record.pause and pause_as_json(record.pause),
        "stop": record.stop and {"user": record.stop.user, "host": record.stop.host, "at": round(record.stop.at, 3)},
    }


def pause_as_json(pause: Pause) -> dict[str, Any]:
    """Return a pause as JSON; `until` is null without an end."""
    until = None if pause.until is None else round(pause.until, 3)
    return {"user": pause.user, "host": pause.host, "reason": pause.reason, "at": round(pause.at, 3), "until": until}


def attempts(runs: list[tuple[str, Run]]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (number, attempts of its tick) of `runs`, newest first, by key and owner.

    Omits ticks with a single run, and those whose first run is not in `runs`.
    """
    ticks: dict[tuple[str, str], list[Run]] = {}
    for key, run in reversed(runs):
        ticks.setdefault((key, run.tick), []).append(run)
    several = {tick: found for tick, found in ticks.items() if len(found) > 1 and found[0].stands_for is None}
    return {
        (key, run.owner): (number, len(found))
        for (key, _), found in several.items()
        for number, run in enumerate(found, 1)
    }


def run_as_json(run: Run) -> dict[str, Any]:
    """Return a run as JSON, with null for what is unknown."""
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
        "tick": run.tick,
    }
