"""``cronlock pause``: no run of a key starts, on any node, until it is resumed or the time is over."""

from __future__ import annotations

import click

from .. import durations
from ..errors import UsageError
from ..lease.describe import describe_pause
from ..lease.vocabulary import Pause, Record
from . import common, completion
from .views.table import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lease.vocabulary import Backend


@click.command(short_help="Let no run of a key start until it is resumed.")
@click.argument("keys", nargs=-1, metavar="KEY...", shell_complete=completion.keys)
@click.option("--all", "all_keys", is_flag=True, help="All keys that have been used so far.")
@click.option("--for", "lasts", metavar="DURATION", help="Resume by itself after so long. Default: never.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever looks.")
@common.backend_options
def command(keys: tuple[str, ...], all_keys: bool, lasts: str | None, reason: str, **values: str | None) -> int:
    """Pause each KEY, which may be a pattern such as 'reports.*': every run on every node is a skip.

    A run that is under way goes on; `cronlock stop` ends it. Once this command has returned no other starts, but
    for those with --ignore-pause. A key need not have been used yet.
    """
    seconds = None if lasts is None else common.duration("--for", lasts)
    if seconds == 0:
        raise UsageError("--for: a pause lasts more than 0 seconds")
    user, host = common.asker()
    pause = Pause(user, host, reason)
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "pause")
        _check_duration(backend, seconds)
        paused = common.matching_keys(backend, keys, "pause", all_keys=all_keys)
        if not paused:
            click.echo("no key has been used yet, and none is paused; name the keys that are to be")
        for key in paused:
            backend.pause(key, pause, seconds)
            click.echo(f"{printable(key)}: {_told(backend.read(key) or Record())}")
    return 0


def _check_duration(backend: Backend, seconds: float | None) -> None:
    """Refuse a pause that the backend would forget. Raises UsageError."""
    longest = backend.traits.longest_hold
    if seconds is None and backend.traits.evicts:
        raise UsageError(
            f"--for: this backend drops what nobody wrote for long; give one, of {longest / 86400:.0f}d at most"
        )
    if seconds is not None and seconds > longest:
        raise UsageError(f"--for: {durations.show(seconds)} is too long: this backend keeps {longest / 86400:.0f}d")


def _told(record: Record) -> str:
    """Say what was done, by the record as it is now."""
    if record.pause is None:
        return "was resumed in the meantime"
    text = printable(describe_pause(record.pause))
    run = record.run
    if run is None or not record.remaining:
        return text
    return f"{text}\n  the run of pid {run.pid} on {printable(run.host)} goes on; `cronlock stop` ends it"
