"""The text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from ...lease.vocabulary import Record
from . import state

#: (name, meaning); all are gauges. The label `key` is on each but cronlock_up.
METRICS = (
    ("cronlock_up", "1 if the backend answered."),
    ("cronlock_held", "1 if a run or a hold has the key."),
    ("cronlock_running", "1 if a run has the key."),
    ("cronlock_lapsed", "1 if the lease of the last run lapsed before the run reported its end."),
    ("cronlock_paused", "1 if the key is paused."),
    ("cronlock_lease_remaining_seconds", "Seconds until the lease lapses unless renewed; 0 if no run has the key."),
    ("cronlock_hold_remaining_seconds", "Seconds until the hold ends."),
    ("cronlock_holder", "1 for the host of the run that has the key, or died with it; no series without such a run."),
    ("cronlock_last_start_timestamp_seconds", "Start time of the last run, finished or not."),
    ("cronlock_last_success_timestamp_seconds", "End time of the last successful run."),
    ("cronlock_last_end_timestamp_seconds", "End time of the last finished run."),
    ("cronlock_last_duration_seconds", "Duration of the last finished run."),
    ("cronlock_last_status", "Exit status of the last finished run."),
)


def exposition(records: list[tuple[str, Record]] | None) -> str:
    """Return the metrics of the keys' records, or of a backend that did not answer (None).

    Unknown values have no sample.
    """
    samples: dict[str, list[str]] = {name: [] for name, _ in METRICS}
    samples["cronlock_up"].append(f"cronlock_up {int(records is not None)}")
    for key, record in records or []:
        label = f'key="{_escape(key)}"'
        for name, value in _values(record).items():
            samples[name].append(f"{name}{{{label}}} {_number(value)}")
        if record.run is not None:
            samples["cronlock_holder"].append(f'cronlock_holder{{{label},host="{_escape(record.run.host)}"}} 1')
    lines = []
    for name, meaning in METRICS:
        if samples[name]:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", *samples[name]]
    return "\n".join(lines) + "\n"


def _values(record: Record) -> dict[str, float]:
    if record.opaque:
        return {"cronlock_held": 1.0}
    what = state.state_of(record)
    values = {
        "cronlock_held": float(state.is_held(record)),
        "cronlock_running": float(what == state.RUNNING),
        "cronlock_lapsed": float(what == state.LAPSED),
        "cronlock_paused": float(record.pause is not None),
        "cronlock_lease_remaining_seconds": record.remaining if record.run is not None else 0.0,
        "cronlock_hold_remaining_seconds": record.hold_remaining,
    }
    if record.runs:
        values["cronlock_last_start_timestamp_seconds"] = record.runs[0].started_at
    if record.success is not None and record.success.ended_at is not None:
        values["cronlock_last_success_timestamp_seconds"] = record.success.ended_at
    if record.history:
        last = record.history[0]
        if last.ended_at is not None:
            values["cronlock_last_end_timestamp_seconds"] = last.ended_at
            values["cronlock_last_duration_seconds"] = state.duration_of(last) or 0.0
        if last.status is not None:
            values["cronlock_last_status"] = float(last.status)
    return values


def _escape(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.3f}"
