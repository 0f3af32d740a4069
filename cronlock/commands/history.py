"""``cronlock history``: the last runs of a key."""

from __future__ import annotations

import time

import click

from ..lease.vocabulary import HISTORY, Record
from . import common, completion
from .views import state, table


@click.command(short_help="Show the last runs of a key.")
@click.argument("key", metavar="KEY", shell_complete=completion.keys)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    default=HISTORY,
    metavar="N",
    help=f"How many. Default: {HISTORY}, which is all that is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, in the schema of the manual page.")
@common.backend_options
def command(key: str, count: int, as_json: bool, **values: str | None) -> int:
    """Show the last runs of KEY, the newest first: start, duration, host, and how each ended.

    A run that is under way is shown first. One that died shows as such once the next one started.
    """
    (key,) = common.check_keys((key,))
    chosen = common.read_settings(values)
    with common.opened(chosen) as backend:
        common.need_records(backend, "history")
        record = backend.read(key) or Record()
    now, what, runs = time.time(), state.state_of(record), record.runs[:count]
    if as_json:
        shown = [state.run_as_json(run) for run in runs]
        click.echo(state.as_json(common.name_of(chosen), now, key=key, state=what, runs=shown))
        return 0
    nothing = [f"no run of {table.printable(key)} is known"]
    for line in table.history_table(runs, now, what=what) if runs else nothing:
        click.echo(line, color=common.colored())
    return 0
