"""``cronlock resume``: end a pause."""

from __future__ import annotations

import click

from . import common, completion
from .views.table import printable

#: None of the keys was paused.
NOTHING_DONE = 1


@click.command(short_help="Let runs of a paused key start again.")
@click.argument("keys", nargs=-1, metavar="KEY...", shell_complete=completion.keys)
@click.option("--all", "all_keys", is_flag=True, help="All keys.")
@common.backend_options
def command(keys: tuple[str, ...], all_keys: bool, **values: str | None) -> int:
    """Resume each KEY, which may be a pattern such as 'reports.*': the next tick runs.

    Nothing is made up for. Exits with 0 when a key was paused, 1 when none was.
    """
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "resume")
        status = NOTHING_DONE
        for key in common.matching_keys(backend, keys, "resume", all_keys=all_keys):
            pause = backend.resume(key)
            if pause is not None:
                reason = f": {pause.reason}" if pause.reason else ""
                click.echo(printable(f"{key}: resumed, which {pause.user} on {pause.host} had paused{reason}"))
                status = 0
            elif not all_keys:
                click.echo(f"{printable(key)}: was not paused")
    if all_keys and status == NOTHING_DONE:
        click.echo("no key is paused")
    return status
