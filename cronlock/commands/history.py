"""``cronlock history``: the last runs of a key, or of all keys."""

from __future__ import annotations

import time

import click

from ..lease.vocabulary import HISTORY, Run
from . import common, completion
from .views import state, table


@click.command(short_help="Show the last runs of a key, or of all keys.")
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=completion.keys)
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help=f"Show at most N runs. Default: {HISTORY}, which is all that a key's record keeps; with --since all.",
)
@click.option("--since", metavar="DURATION", help="Show only runs that were in progress within the last DURATION.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.backend_options
def command(keys: tuple[str, ...], count: int | None, since: str | None, as_json: bool, **values: str | None) -> int:
    """Show the last runs of each KEY, or of all keys if the backend can list them, newest first.

    KEY may be a pattern such as 'reports.*' if the backend can list keys. Runs in progress are included. A run that
    died is shown as died once the next run has started.
    """
    reach = None if since is None else common.duration("--since", since)
    chosen = common.read_settings(values)
    with common.opened(chosen) as backend:
        common.need_records(backend, "history")
        names = common.keys_to_show(backend, keys, "history")
        found, failure = common.read_records(backend, names)
    if failure is not None and not found:
        raise failure
    now = time.time()
    states = {key: state.state_of(record) for key, record in found}
    runs = [(key, run) for key, record in found for run in record.runs]
    if reach is not None:
        runs = [(key, run) for key, run in runs if run.outcome is None or _seen(run) >= now - reach]
    most = count or (HISTORY if since is None else None)
    runs = sorted(runs, key=lambda one: one[1].started_at, reverse=True)[:most]
    if as_json:
        click.echo(_json(common.name_of(chosen), now, keys, states, runs))
    else:
        what = table.printable(names[0]) if len(names) == 1 else "these keys" if keys else "any key"
        nothing = [f"no run of {what} on record" + ("" if since is None else " in that time")]
        lines = table.history_table(runs, now, states=states, width=common.table_width()) if runs else nothing
        for line in lines:
            click.echo(line, color=common.colored())
    if failure is not None:
        raise failure
    return 0


def _seen(run: Run) -> float:
    """Return the last moment at which the run is known to have been in progress."""
    return run.started_at if run.ended_at is None else run.ended_at


def _json(backend: str, now: float, asked: tuple[str, ...], states: dict[str, str], runs: list[tuple[str, Run]]) -> str:
    """Return the JSON of one named key, or of several keys, whose runs then have a field for the key."""
    if len(asked) == 1 and not common.is_pattern(asked[0]):
        ((key, what),) = states.items()
        return state.as_json(backend, now, key=key, state=what, runs=[state.run_as_json(run) for _, run in runs])
    return state.as_json(backend, now, runs=[{"key": key, **state.run_as_json(run)} for key, run in runs])
