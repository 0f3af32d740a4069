"""``cronlock forget``: remove the records of jobs that no longer exist."""

from __future__ import annotations

import time

import click

from .. import durations
from ..engines import registry
from ..errors import UsageError
from ..lease import rules
from ..lease.clock import SystemClock
from ..lease.vocabulary import HELD, HOLD, Record
from ..lease.watermarks import Watermarks
from . import common, completion
from .views import table

#: Exit status if a named key was kept.
SOME_KEPT = 1


@click.command(short_help="Remove the records of jobs that no longer exist.")
@click.argument("keys", nargs=-1, metavar="[KEY]...", shell_complete=completion.keys)
@click.option(
    "--older-than", metavar="DURATION", help="Remove only keys unused for DURATION. Without KEY: of all keys."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask for confirmation.")
@common.backend_options
def command(keys: tuple[str, ...], older_than: str | None, force: bool, **values: str | None) -> int:
    """Remove the record of each KEY from the backend and from this machine's state directory.

    Shows the keys and asks for confirmation first. KEY may be a pattern such as 'reports.*' if the backend can list
    keys. Keeps a key that is held or was used within the last hour. Other machines that remember a removed key wait
    for the ttl before they use it again. Exits with 0, or with 1 if a KEY was kept.
    """
    if not keys and older_than is None:
        raise UsageError("forget: no keys; name them, or give --older-than DURATION")
    age = max(rules.FRESH, 0.0 if older_than is None else common.duration("--older-than", older_than))
    chosen = common.read_settings(values)
    with common.opened(chosen) as backend:
        common.need_records(backend, "forget")
        names = common.keys_to_show(backend, keys, "forget")
        _refuse_unknown(names, set(backend.keys()) if keys and backend.traits.lists_keys else set(names))
        records, failure = common.read_records(backend, names)
        now = time.time()
        unused, kept = [], 0
        for key, record in records:
            why = rules.stays(record, now, age)
            if why is None and (older_than is None or rules.last_used(record) is not None):
                unused.append((key, record))
            elif older_than is None:
                kept += 1
                click.echo(f"{table.printable(key)}: kept: {_reason(why, record, now)}", err=True)
        if unused:
            for line in table.forget_table(unused, now, common.table_width()):
                click.echo(line, color=common.colored())
            age_words = () if older_than is None else ("--older-than", older_than)
            question = f"forget {len(unused)} key{'s' * (len(unused) != 1)}?"
            if not force and not common.confirmed(question, "forget", *age_words, "--", *keys):
                click.echo("nothing was forgotten", err=True)
                return SOME_KEPT
            location, removed = registry.location(chosen.backend_url), len(unused)
            for key, _ in unused:
                if not backend.forget(key, age):
                    kept, removed = kept + 1, removed - 1
                    click.echo(f"{table.printable(key)}: kept: used again just now", err=True)
                elif chosen.state_dir is not None:
                    Watermarks(chosen.state_dir, location, key, SystemClock()).forget()
            click.echo(f"{removed} forgotten")
        elif older_than is not None:
            click.echo(f"no key has been unused for {durations.show(age)}")
    if failure is not None:
        raise failure
    return SOME_KEPT if kept else 0


def _refuse_unknown(names: list[str], known: set[str]) -> None:
    """Raise UsageError for an unknown key, so that a typo does not look like a removal."""
    for name in names:
        if name not in known:
            raise UsageError(f"{name!r}: {common.no_such_key(name, known)}")


def _reason(why: str | None, record: Record, now: float) -> str:
    if why == HELD:
        return "held by a run"
    if why == HOLD:
        return f"held for another {durations.show(record.hold_remaining)}"
    return f"used {durations.show(now - (rules.last_used(record) or now))} ago"
