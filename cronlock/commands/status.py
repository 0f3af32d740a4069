"""``cronlock status``: who holds each key and how its last run ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ..config.settings import Settings
from ..errors import BackendError, UsageError, nearest
from ..lease.vocabulary import Record
from . import common, completion, watching
from .views import prometheus, state, table

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend


@click.command(short_help="Show who holds each key and how its last run ended.")
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=completion.keys)
@click.option(
    "--state",
    "states",
    metavar="LIST",
    shell_complete=completion.conditions,
    help=f"Show only keys in these states, separated by commas: {', '.join(state.CONDITIONS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--prometheus", "as_metrics", is_flag=True, help="Print metrics in Prometheus' text format.")
@click.option(
    "--output",
    metavar="FILE",
    shell_complete=common.files,
    help="Replace FILE atomically with the output of --prometheus.",
)
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@common.backend_options
def command(
    keys: tuple[str, ...],
    states: str | None,
    as_json: bool,
    as_metrics: bool,
    output: str | None,
    watch: bool,
    **values: str | None,
) -> int:
    """Show the state of each KEY, or of all keys if the backend can list them.

    KEY may be a pattern such as 'reports.*' if the backend can list keys. Keys that need attention come first. STATE
    is lapsed (the run died: its lease lapsed before it reported its end), failed (the last run did not succeed),
    running, paused (no run may start), held (the hold of the last run is not over; on SQS, a run or its hold has the
    key) or free. A line below the table tells who paused a key.
    """
    if sum((as_json, as_metrics, watch)) > 1:
        raise UsageError("--json, --prometheus and --watch are mutually exclusive; give one of them")
    if output is not None and not as_metrics:
        raise UsageError("--output: needs --prometheus")
    wanted = _wanted(states)
    chosen = common.read_settings(values)
    if as_metrics:
        return _metrics(chosen, keys, wanted, output)
    with common.opened(chosen) as backend:
        if watch:
            watching.repeat(lambda: _read(backend, keys, wanted), common.name_of(chosen))
        records, failure = _read(backend, keys, wanted)
    now = time.time()
    if as_json:
        shown = [state.key_as_json(key, record) for key, record in records]
        click.echo(state.as_json(common.name_of(chosen), now, keys=shown))
    elif records or failure is None:
        lines = table.status_table(records, now, common.table_width()) if records else [table.nothing(wanted)]
        for line in [*lines, *table.warnings(records, now)]:
            click.echo(line, color=common.colored())
    if failure is not None:
        raise failure
    return 0


def _wanted(text: str | None) -> list[str]:
    """Return the conditions that `--state` names; empty for all keys. Raises UsageError."""
    words = [] if text is None else text.split(",")
    for word in words:
        if word not in state.CONDITIONS:
            likely = nearest(word, state.CONDITIONS)
            hint = f"did you mean {likely}?" if likely is not None else f"known: {', '.join(state.CONDITIONS)}"
            raise UsageError(f"--state: unknown state {word!r}; {hint}")
    return words


def _read(
    backend: Backend, names: tuple[str, ...], wanted: list[str]
) -> tuple[list[tuple[str, Record]], BackendError | None]:
    """Return the records of the keys in one of the conditions `wanted`, most urgent first, and a read error, if any."""
    records, failure = common.read_records(backend, common.keys_to_show(backend, names, "status"))
    if wanted:
        records = [one for one in records if not set(wanted).isdisjoint(state.conditions_of(one[1]))]
    return state.by_attention(records), failure


def _metrics(chosen: Settings, names: tuple[str, ...], wanted: list[str], output: str | None) -> int:
    """Print or write the metrics; if the backend does not answer, cronlock_up 0, for alarms."""

    failure: BackendError | None = None
    records: list[tuple[str, Record]] | None = None
    try:
        with common.opened(chosen) as backend:
            records, failure = _read(backend, names, wanted)
    except BackendError as error:
        failure = error
    text = prometheus.exposition(records)
    if output is None:
        click.echo(text, nl=False)
    else:
        common.replace_file(output, text)
    if failure is not None:
        raise failure
    return 0
