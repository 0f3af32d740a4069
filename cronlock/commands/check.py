"""``cronlock check``: a dead man's switch, as a monitoring plugin.

Statuses, output and performance data follow https://www.monitoring-plugins.org/doc/guidelines.html.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .. import durations
from ..errors import UsageError
from ..lease.describe import describe_pause
from ..lease.vocabulary import Record
from . import common, completion
from .views import state
from .views.table import how_it_ended, printable

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# From best to worst of several keys: a known problem outranks an unknown state.
_SEVERITY = (OK, UNKNOWN, WARNING, CRITICAL)


@dataclass
class Limits:
    """The limits of a key, in seconds. Raises UsageError if `warn_age` exceeds `max_age`."""

    max_age: float
    warn_age: float | None = None
    #: A run in progress counts as a success up to this age; None: it does not count.
    max_run: float | None = None
    #: The status of a paused key whose last success is too old.
    paused: int = WARNING

    def __post_init__(self) -> None:
        if self.warn_age is not None and self.warn_age > self.max_age:
            raise UsageError("--warn-age: longer than --max-age, so it would never warn; give a shorter one")


@click.command(short_help="Raise an alarm if a key had no successful run for too long.")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", shell_complete=completion.keys)
@click.option("--max-age", required=True, metavar="DURATION", help="Report CRITICAL if the last success is older.")
@click.option("--warn-age", metavar="DURATION", help="Report WARNING if the last success is older.")
@click.option(
    "--max-run",
    metavar="DURATION",
    help="Report OK while a run of at most this age is in progress. Default: runs in progress do not count.",
)
@click.option(
    "--paused",
    type=click.Choice(["ok", "warn", "critical"]),
    default="warn",
    help="Report at most this for a paused key. Default: warn.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of one line.")
@common.backend_options
def command(
    keys: tuple[str, ...],
    max_age: str,
    warn_age: str | None,
    max_run: str | None,
    paused: str,
    as_json: bool,
    **values: str | None,
) -> int:
    """Check that the last successful run of each KEY ended at most --max-age ago.

    KEY may be a pattern such as 'reports.*' if the backend can list keys. Each matching key is checked; a pattern
    without a match is UNKNOWN.

    Prints one line and exits like a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN (the backend did not
    answer, or bad options).
    """
    limits = Limits(
        common.duration("--max-age", max_age),
        None if warn_age is None else common.duration("--warn-age", warn_age),
        None if max_run is None else common.duration("--max-run", max_run),
        {"ok": OK, "warn": WARNING, "critical": CRITICAL}[paused],
    )
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "check")
        names, unmatched = _expanded(backend, keys)
        records = [(key, backend.read(key) or Record()) for key in names]
    now = time.time()
    results = [(key, record, *judge(record, now, limits)) for key, record in records]
    results += [(pattern, Record(), UNKNOWN, "no key matches this pattern") for pattern in unmatched]
    worst = max((status for _, _, status, _ in results), key=_SEVERITY.index)
    if as_json:
        found = [
            {"key": key, "status": NAMES[status], "text": text, "last_success_age": age_of(record, now)}
            for key, record, status, text in results
        ]
        click.echo(json.dumps({"schema": state.SCHEMA, "status": NAMES[worst], "keys": found}, indent=2))
        return worst
    # The worst first: a pager shows the beginning.
    results.sort(key=lambda result: -_SEVERITY.index(result[2]))
    texts = "; ".join(f"{printable(key)}: {text}" for key, _, _, text in results)
    data = " ".join(_performance(*one[:2], now, limits) for one in results if one[0] not in unmatched)
    click.echo(f"CRONLOCK {NAMES[worst]} - {texts}" + (f" | {data}" if data else ""))
    return worst


def _expanded(backend: Backend, words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the keys that `words` name or match, without duplicates, and the patterns without a match.

    Raises UsageError for a pattern if the backend cannot list keys.
    """
    patterns = [word for word in words if common.is_pattern(word)]
    found = common.check_keys(tuple(word for word in words if word not in patterns))
    if patterns and not backend.traits.lists_keys:
        raise UsageError("check: this backend cannot list keys; name them: cronlock check KEY...")
    known = sorted(backend.keys()) if patterns else []
    matched = {pattern: common.matching(pattern, known) for pattern in patterns}
    found += [key for keys in matched.values() for key in keys]
    return list(dict.fromkeys(found)), [pattern for pattern, keys in matched.items() if not keys]


def judge(record: Record, now: float, limits: Limits) -> tuple[int, str]:
    """Return (status, reason) for one key at epoch time `now`."""
    status, text = _judge(record, now, limits)
    if record.pause is None:
        return status, text
    return min(status, limits.paused), f"{text}, {printable(describe_pause(record.pause, now))}"


def _judge(record: Record, now: float, limits: Limits) -> tuple[int, str]:
    age = age_of(record, now)
    ahead = 0.0 if record.success is None else (record.success.ended_at or 0.0) - now
    if ahead > limits.max_age:
        # Otherwise it would stay fresh until then, whatever happens.
        return CRITICAL, f"last success is {durations.show(ahead)} in the future: a clock is wrong"
    if age is not None and age <= (limits.max_age if limits.warn_age is None else limits.warn_age):
        return OK, f"succeeded {durations.show(age)} ago"
    text = "no successful run on record" if age is None else f"last success {durations.show(age)} ago"
    if record.run is not None and record.remaining > 0:
        running = max(0.0, now - record.run.started_at)
        if limits.max_run is not None and running <= limits.max_run:
            return OK, f"running for {durations.show(running)}, {text}"
        text += f", running for {durations.show(running)}"
    elif record.run is not None:
        text += f", the last run, on {printable(record.run.host)}, died"
    elif record.history and not record.history[0].succeeded:
        last = record.history[0]
        text += f", the last run, on {printable(last.host)}, {click.unstyle(how_it_ended(last))}"
    if age is None or age > limits.max_age:
        return CRITICAL, f"{text} (limit {durations.show(limits.max_age)})"
    return WARNING, f"{text} (limit {durations.show(limits.warn_age or 0.0)})"


def age_of(record: Record, now: float) -> float | None:
    """Return how long ago the last successful run ended, in seconds; None without one on record."""
    success = record.success
    return None if success is None or success.ended_at is None else max(0.0, now - success.ended_at)


def _performance(key: str, record: Record, now: float, limits: Limits) -> str:
    # The guidelines double an apostrophe within quotes and forbid the equals sign.

    label = printable(key).replace("'", "''").replace("=", "_").replace("|", "_")
    age = age_of(record, now)
    value = "U" if age is None else f"{age:.0f}s"
    warn = "" if limits.warn_age is None else f"{limits.warn_age:.0f}"
    return f"'{label}'={value};{warn};{limits.max_age:.0f};0;"
