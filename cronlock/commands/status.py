"""``cronlock status``: who holds what, and how each key's last run ended."""

from __future__ import annotations

import os
import time

import click

from ..config.settings import Settings
from ..errors import BackendError, ForeignValue, UsageError
from ..lease.describe import moment
from ..lease.vocabulary import Record
from . import common, completion
from .views import prometheus, state, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

#: How often --watch looks, in seconds.
_WATCH = 2.0


@click.command(short_help="Show who holds what, and how each key's last run ended.")
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=completion.keys)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in the schema of the manual page.")
@click.option("--prometheus", "as_metrics", is_flag=True, help="Print metrics in Prometheus' text format.")
@click.option("--output", metavar="FILE", help="With --prometheus: replace FILE, which readers never see half-written.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@common.backend_options
def command(
    keys: tuple[str, ...], as_json: bool, as_metrics: bool, output: str | None, watch: bool, **values: str | None
) -> int:
    """Show the state of each KEY, or of all keys where the backend can list them.

    STATE is running; held (the last run's hold is not over; on SQS, a run or its hold has the key); lapsed
    (the run died: its lease lapsed without its having ended); paused (no run may start); or free. A line below
    a key says who paused it.
    """
    if sum((as_json, as_metrics, watch)) > 1:
        raise UsageError("--json, --prometheus and --watch do not go together; give one of them")
    if output is not None and not as_metrics:
        raise UsageError("--output goes with --prometheus")
    chosen = common.read_settings(values)
    if as_metrics:
        return _metrics(chosen, keys, output)
    with common.opened(chosen) as backend:
        while True:
            records, failure = _read(backend, keys)
            now = time.time()
            if as_json:
                shown = [state.key_as_json(key, record) for key, record in records]
                click.echo(state.as_json(common.name_of(chosen), now, keys=shown))
                break
            if watch:
                click.clear()
                click.echo(f"{common.name_of(chosen)}  {moment(now, now)}\n")
            nothing = [] if failure is not None else ["no key has been used yet"]
            for line in table.status_table(records, now) if records else nothing:
                click.echo(line, color=common.colored())
            if not watch:
                break
            time.sleep(_WATCH)
    if failure is not None:
        raise failure
    return 0


def _read(backend: Backend, names: tuple[str, ...]) -> tuple[list[tuple[str, Record]], BackendError | None]:
    """Return the keys' records, and what is wrong with one that is none: the others are shown all the same."""
    records, failure = [], None
    for key in common.keys_to_show(backend, names, "status"):
        try:
            records.append((key, backend.read(key) or Record()))
        except ForeignValue as error:
            failure = failure or error
    return records, failure


def _metrics(chosen: Settings, names: tuple[str, ...], output: str | None) -> int:
    """Print or write the metrics; without an answer, that there is none, so that an alarm can be set on it."""
    failure: BackendError | None = None
    records: list[tuple[str, Record]] | None = None
    try:
        with common.opened(chosen) as backend:
            records, failure = _read(backend, names)
    except BackendError as error:
        failure = error
    text = prometheus.exposition(records)
    if output is None:
        click.echo(text, nl=False)
    else:
        _replace(output, text)
    if failure is not None:
        raise failure
    return 0


def _replace(path: str, text: str) -> None:
    """Put `text` in the place of the file `path`, whole. Raises UsageError."""
    # The node exporter reads *.prom: this name is none.
    partial = f"{path}.{os.getpid()}.tmp"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except OSError as error:
        try:
            os.unlink(partial)
        except OSError:
            pass  # It was not made.
        raise UsageError(f"--output: cannot write {path}: {error.strerror}; name a file that you may write") from None
