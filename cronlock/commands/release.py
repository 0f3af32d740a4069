"""``cronlock release``: take a lease, or what is left of a hold, from whoever has it."""

from __future__ import annotations

import time

import click

from .. import durations
from ..lease.describe import moment
from ..lease.vocabulary import Record, Run
from . import common, completion
from .views import state
from .views.table import how_it_ended, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

#: Nothing was released: it was free, somebody declined, or it was another run's meanwhile.
NOTHING_DONE = 1


@click.command(short_help="Free a key whose machine is gone, or end its hold.")
@click.argument("key", metavar="KEY", shell_complete=completion.keys)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@common.backend_options
def command(key: str, force: bool, **values: str | None) -> int:
    """Free KEY at once: show who has it, ask, and take the lease or the hold from that run and from no later one.

    It is for a machine that is gone; `cronlock stop` ends a run. A run that is under way is stopped as when its
    lease is lost, when it renews the next time; until then another can start beside it, so make sure first that
    it is dead, or that this does no harm. Exits with 0 when the key was freed, 1 when not.
    """
    (key,) = common.check_keys((key,))
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "release")
        record = backend.read(key) or Record()
        what = state.state_of(record)
        if not state.is_held(record):
            click.echo(f"{printable(key)}: is free; nothing to release")
            return NOTHING_DONE
        run = record.run or record.last
        assert run is not None
        click.echo(_describe(key, record, run, backend), err=not force)
        if not force and not common.confirmed("release it?", "cronlock release --force KEY"):
            click.echo("nothing was released", err=True)
            return NOTHING_DONE
        if not backend.force_release(key, run.owner):
            click.echo(f"{printable(key)}: is not that run's any more; nothing was released", err=True)
            return NOTHING_DONE
        click.echo(_done(key, what, run, backend))
    return 0


def _describe(key: str, record: Record, run: Run, backend: Backend) -> str:
    now = time.time()
    who = f"{printable(run.host)} (pid {run.pid})"
    if state.state_of(record) == state.RUNNING:
        text = f"held by {who}, {printable(run.program)}, since {moment(run.started_at, now)}"
        if not backend.traits.local:
            text += f"; if it lives it stops within {durations.show(run.ttl)}, and another can start before that"
            text += ": `cronlock stop` waits until it is dead"
    else:
        text = f"{who} {click.unstyle(how_it_ended(run))}; held for another {durations.show(record.hold_remaining)}"
    return f"{printable(key)}: {text}"


def _done(key: str, what: str, run: Run, backend: Backend) -> str:
    name = printable(key)
    if what != state.RUNNING:
        return f"{name}: the hold is over; the key is free"
    if backend.traits.local:
        return f"{name}: told the run of pid {run.pid} to stop when it renews the next time; then the key is free"
    return f"{name}: released; the run of pid {run.pid} on {printable(run.host)} stops when it renews the next time"
