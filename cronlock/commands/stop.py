"""``cronlock stop``: stop the run that has a key, on whatever machine, and wait for its end."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

import click

from .. import durations
from ..lease.describe import moment
from ..lease.vocabulary import Record, Run, Stop
from . import common, completion
from .notifying import next_look, notify
from .views.table import how_it_ended, printable

if TYPE_CHECKING:
    from ..lease.vocabulary import Backend

#: Exit statuses besides 0: no run had the key; its lease lapsed without an answer; it still runs.
NOT_RUNNING, LAPSED, STILL_RUNNING = 1, 2, 3
#: Seconds between two reads of the record: the first pause, and the longest.
_FIRST, _LONGEST = 0.2, 2.0
#: Seconds after the run's next renewal until its silence is reported.
_LATE = 10.0


@click.command(short_help="Stop the run that has a key, and wait for its end.")
@click.argument("key", metavar="KEY", shell_complete=completion.keys)
@click.option(
    "--wait", metavar="DURATION", help="Wait for at most DURATION. Default: until the run ends or its lease lapses."
)
@common.backend_options
def command(key: str, wait: str | None, **values: str | None) -> int:
    """Stop the run that has KEY and wait for its end. Its machine sends TERM, and KILL after --kill-after.

    Redis, ZooKeeper and etcd notify the run at once. With other engines, or if the notification is lost, it learns of
    the request at its next renewal, within about a third of its ttl, or sooner with --poll. It keeps the lease until
    everything is dead, so no other run starts. Its hold stays and no standby takes over. The next tick runs unless
    the key is paused. Exits with 0 if the run ended, 1 if no run had the key, 2 if its lease lapsed without an
    answer, 3 if it still ran after --wait.
    """
    limit = None if wait is None else common.duration("--wait", wait)
    (key,) = common.check_keys((key,))
    with common.opened(common.read_settings(values)) as backend:
        common.need_records(backend, "stop")
        found = backend.read(key)
        record, name = found or Record(), printable(key)
        run = record.run
        user, host = common.asker()
        if run is None or not record.remaining or not backend.stop(key, Stop(run.owner, user, host)):
            click.echo(f"{name}: {_nothing_to_stop(record)}")
            common.warn_of_typo(backend, key, found)
            return NOT_RUNNING
        within = next_look(run, backend)
        click.echo(
            f"{name}: asked the run of pid {run.pid} on {printable(run.host)}, {printable(run.program)}, since"
            f" {moment(run.started_at)}, to stop; it will notice {notify(backend, key, within)}"
        )
        return _Waiting(backend, key, run, within).wait(limit)


def _nothing_to_stop(record: Record) -> str:
    if record.run is None:
        return "no run in progress; nothing to stop"
    return f"the run of pid {record.run.pid} on {printable(record.run.host)} died (lease lapsed); nothing to stop"


class _Waiting:
    """The wait for a run's end."""

    def __init__(self, backend: Backend, key: str, run: Run, within: float) -> None:
        self._backend = backend
        self._key = key
        self._run = run
        self._within = within
        self._began = time.monotonic()
        #: Beginnings of the messages printed so far.
        self._reported: set[str] = set()

    def wait(self, limit: float | None) -> int:
        """Wait for at most `limit` seconds, report what happened, and return the exit status."""

        pause, heard_at = _FIRST, self._began
        remaining = float("inf")
        while True:
            record = self._backend.read(self._key) or Record()
            now, run = time.monotonic(), record.run
            if run is None or run.owner != self._run.owner:
                return self._ended(record)
            if not record.remaining:
                return self._lapsed()
            if record.remaining > remaining - (now - heard_at) + 1.0:
                self._report_once(f"{printable(run.host)} answers; the command is being stopped")
            elif now - self._began > self._within + _LATE and not self._reported:
                left = durations.show(record.remaining)
                self._report_once(f"no answer from {printable(run.host)}, cut off or dead; its lease lapses in {left}")
            remaining, heard_at = record.remaining, now
            if limit is not None and now - self._began >= limit:
                click.echo(f"{printable(self._key)}: still running; the request to stop remains")
                return STILL_RUNNING
            self._sleep(pause if limit is None else min(pause, limit - (now - self._began)))
            pause = min(pause * 1.5, _LONGEST)

    def _sleep(self, seconds: float) -> None:
        descriptor = self._backend.watch(self._key)
        select.select([] if descriptor is None else [descriptor], [], [], seconds)

    def _ended(self, record: Record) -> int:
        took = durations.show(time.monotonic() - self._began)
        mine = next((run for run in record.history if run.owner == self._run.owner), None)
        how = "ended" if mine is None else click.unstyle(how_it_ended(mine))
        hold = f"; the key is held for another {durations.show(record.hold_remaining)}" if record.hold_remaining else ""
        click.echo(f"{printable(self._key)}: {how}, after {took}{hold}")
        return 0

    def _lapsed(self) -> int:
        host = printable(self._run.host)
        click.echo(
            f"{printable(self._key)}: no answer from {host}, and its lease lapsed: it is dead or cut off. Its guard has"
            " killed the command by now (except with --on-lost continue); no standby takes over"
        )
        return LAPSED

    def _report_once(self, text: str) -> None:
        if text[:20] not in self._reported:
            self._reported.add(text[:20])
            click.echo(f"{printable(self._key)}: {text}", err=True)
