"""``cronlock resume``: end a pause."""

from __future__ import annotations

import click

from . import common, completion
from .views.table import printable

#: Exit status if none of the keys was paused.
NOTHING_DONE = 1


@click.command(short_help="Let runs of a paused key start again.")
@click.argument("keys", nargs=-1, metavar="KEY...", shell_complete=completion.keys)
@click.option("--all", "all_keys", is_flag=True, help="Resume all keys.")
@common.backend_options
def command(keys: tuple[str, ...], all_keys: bool, **values: str | None) -> int:
    """Resume each KEY: the next tick runs. Ticks that were skipped are not made up for.

    KEY may be a pattern such as 'reports.*' if the backend can list keys. Exits with 0 if a key was paused, else 1.
    """
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "resume")
        status = NOTHING_DONE
        for key in common.matching_keys(backend, keys, "resume", all_keys=all_keys):
            pause = backend.resume(key)
            if pause is not None:
                reason = f": {pause.reason}" if pause.reason else ""
                click.echo(printable(f"{key}: resumed; {pause.user} on {pause.host} had paused it{reason}"))
                status = 0
            elif not all_keys:
                click.echo(f"{printable(key)}: not paused")
                common.warn_of_typo(backend, key, backend.read(key))
    if all_keys and status == NOTHING_DONE:
        click.echo("no key is paused")
    return status
