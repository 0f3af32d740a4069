"""``cronlock pause``: let no run of a key start, on any node, until it is resumed or the time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .. import durations
from ..errors import UsageError
from ..lease.describe import describe_pause
from ..lease.vocabulary import Pause, Record
from . import common, completion
from .views.table import printable

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend


@click.command(short_help="Let no run of a key start until it is resumed or the time is over.")
@click.argument("keys", nargs=-1, metavar="KEY...", shell_complete=completion.keys)
@click.option("--all", "all_keys", is_flag=True, help="Pause all keys that have been used so far.")
@click.option("--for", "lasts", metavar="DURATION", help="Resume automatically after DURATION. Default: never.")
@click.option("--reason", default="", metavar="TEXT", help="Record TEXT as the reason; status and skips show it.")
@common.backend_options
def command(keys: tuple[str, ...], all_keys: bool, lasts: str | None, reason: str, **values: str | None) -> int:
    """Pause each KEY: every run on every machine is skipped.

    KEY may be a pattern such as 'reports.*' if the backend can list keys, and need not have been used yet. A run in
    progress continues; `cronlock stop` ends it. Once this command has returned, no other run starts, except with
    --ignore-pause.
    """
    seconds = None if lasts is None else common.duration("--for", lasts)
    if seconds == 0:
        raise UsageError("--for: must be more than 0 seconds")
    user, host = common.asker()
    pause = Pause(user, host, reason)
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "pause")
        _check_duration(backend, seconds)
        paused = common.matching_keys(backend, keys, "pause", all_keys=all_keys)
        if not paused:
            click.echo("no key has been used yet, so none was paused; name the keys to pause")
        for key in paused:
            backend.pause(key, pause, seconds)
            click.echo(f"{printable(key)}: {_report(backend.read(key) or Record())}")
    return 0


def _check_duration(backend: Backend, seconds: float | None) -> None:
    """Raise UsageError for a pause that the backend would drop before its end."""
    longest = backend.traits.longest_hold
    if seconds is None and backend.traits.evicts:
        raise UsageError(f"--for: required, since this backend drops old records; give at most {longest / 86400:.0f}d")
    if seconds is not None and seconds > longest:
        raise UsageError(
            f"--for: {durations.show(seconds)} is too long for this backend; give at most {longest / 86400:.0f}d"
        )


def _report(record: Record) -> str:
    """Report the pause as the record shows it now."""
    if record.pause is None:
        return "resumed in the meantime"
    text = printable(describe_pause(record.pause))
    run = record.run
    if run is None or not record.remaining:
        return text
    return f"{text}\n  the run of pid {run.pid} on {printable(run.host)} continues; `cronlock stop` ends it"
