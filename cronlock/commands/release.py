"""``cronlock release``: end a lease or a hold by force."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from .. import durations
from ..lease.describe import moment
from ..lease.vocabulary import Record, Run
from . import common, completion
from .notifying import next_look, notify
from .views import state
from .views.table import how_it_ended, printable

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

#: Exit status if nothing was released: the key was free, the user declined, or another run has it by now.

NOTHING_DONE = 1


@click.command(short_help="Free a key of a dead machine, or end a hold.")
@click.argument("key", metavar="KEY", shell_complete=completion.keys)
@click.option("-f", "--force", is_flag=True, help="Do not ask for confirmation.")
@common.backend_options
def command(key: str, force: bool, **values: str | None) -> int:
    """Free KEY at once: end the lease or the hold of the run that has it.

    Shows who has the key and asks for confirmation first; a later run keeps its lease. Use it for a machine that is
    dead; to end a run, use `cronlock stop`. A run in progress is stopped when it is notified or renews, as if its
    lease were lost. Until then another run can start beside it, so first make sure that it is dead or that an overlap
    does no harm. Exits with 0 if the key was freed, else 1.
    """
    (key,) = common.check_keys((key,))
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "release")
        found = backend.read(key)
        record = found or Record()
        what = state.state_of(record)
        if not state.is_held(record):
            click.echo(f"{printable(key)}: free; nothing to release")
            common.warn_of_typo(backend, key, found)
            return NOTHING_DONE
        run = record.run or record.last
        assert run is not None
        click.echo(_describe(key, record, run, backend), err=not force)
        if not force and not common.confirmed("release it?", "release", "--", key):
            click.echo("nothing was released", err=True)
            return NOTHING_DONE
        if not backend.force_release(key, run.owner):
            click.echo(f"{printable(key)}: no longer held by that run; nothing was released", err=True)
            return NOTHING_DONE
        click.echo(_done(key, what, run, backend))
    return 0


def _describe(key: str, record: Record, run: Run, backend: Backend) -> str:
    now = time.time()
    who = f"{printable(run.host)} (pid {run.pid})"
    if state.state_of(record) == state.RUNNING:
        text = f"held by {who}, {printable(run.program)}, since {moment(run.started_at, now)}"
        if not backend.traits.local:
            text += f"; if alive, it stops within {durations.show(run.ttl)}, and another run can start before that"
            text += " (`cronlock stop` waits for its end)"
    else:
        text = f"{who} {click.unstyle(how_it_ended(run))}; held for another {durations.show(record.hold_remaining)}"
    return f"{printable(key)}: {text}"


def _done(key: str, what: str, run: Run, backend: Backend) -> str:
    name = printable(key)
    if what != state.RUNNING:
        return f"{name}: hold ended; the key is free"
    notices = notify(backend, key, next_look(run, backend))
    if backend.traits.local:
        return f"{name}: the run of pid {run.pid} is to stop: it will notice {notices}; then the key is free"
    return f"{name}: released; the run of pid {run.pid} on {printable(run.host)} is to stop: it will notice {notices}"
