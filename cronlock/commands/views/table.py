"""Tables for people, and times in words."""

from __future__ import annotations

import click

from ... import durations, errors
from ...lease.describe import describe_pause, ending, moment
from ...lease.vocabulary import DIED, LOST, RELEASED, TIMED_OUT, Record, Run
from . import state

_COLORS = {state.RUNNING: "green", state.LAPSED: "red", state.HELD: "yellow", state.PAUSED: "yellow"}
_BAD = (DIED, LOST, TIMED_OUT)


def status_table(records: list[tuple[str, Record]], now: float) -> list[str]:
    """Return the lines of ``cronlock status``; `now` is since the epoch. A line that warns stands under its key."""
    rows = [["KEY", "STATE", "HOLDER", "SINCE", "REMAINING", "LAST RUN"]]
    rows += [_status_row(key, record, now) for key, record in records]
    lines = columns(rows)
    result = [click.style(lines[0], bold=True)]
    for (_, record), line in zip(records, lines[1:]):
        result.append(line)
        if record.pause is not None:
            result.append(click.style(f"  {printable(describe_pause(record.pause, now))}", fg="yellow"))
        drift = state.drift_of(record)
        if drift is not None:
            result.append(click.style(f"  warning: {printable(drift)}", fg="yellow"))
    return result


def history_table(runs: list[Run], now: float, *, what: str) -> list[str]:
    """Return the lines of ``cronlock history``; `what` is the key's state, for the run that has not ended."""
    rows = [["STARTED", "TOOK", "HOST", "PROGRAM", "FENCE", "ENDED"]]
    rows += [_history_row(run, now, what) for run in runs]
    lines = columns(rows)
    return [click.style(lines[0], bold=True), *lines[1:]]


def columns(rows: list[list[str]]) -> list[str]:
    """Return the rows as lines, each column as wide as its widest cell; colors take no room."""
    widths = [max(len(click.unstyle(row[n])) for row in rows) for n in range(len(rows[0]))]
    return [
        "  ".join(cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths)).rstrip()
        for row in rows
    ]


def printable(text: str) -> str:
    """Return `text` with nothing in it that a terminal would obey."""
    return errors.printable(text, "\N{REPLACEMENT CHARACTER}")


def how_it_ended(run: Run) -> str:
    """Say how a run ended, colored if badly."""
    text = printable(ending(run.outcome, run.status)) + (" (takeover)" if run.stands_for is not None else "")
    if run.succeeded or run.outcome in (RELEASED, None):
        return text
    return click.style(text, fg="red" if run.outcome in _BAD or run.status else "yellow")


def _status_row(key: str, record: Record, now: float) -> list[str]:
    what = words = state.state_of(record)
    holder = since = remaining = "-"
    if record.untold:
        holder = "not told"
    elif what == state.HELD:
        words = f"held until {moment(now + record.hold_remaining, now)}"
        remaining = durations.show(record.hold_remaining)
    elif record.run is not None:
        run = record.run
        holder = printable(f"{run.host} ({run.pid})") + (" takeover" if run.stands_for is not None else "")
        since = f"{moment(run.started_at, now)} ({durations.show(now - run.started_at)})"
        if what == state.RUNNING:
            remaining = durations.show(record.remaining)
        elif record.hold_remaining > 0:
            words = f"{what}, held until {moment(now + record.hold_remaining, now)}"
    last = _last(record.history[0], now) if record.history else "none known"
    return [printable(key), _colored(words, what), holder, since, remaining, last]


def _colored(words: str, what: str) -> str:
    return click.style(words, fg=_COLORS[what]) if what in _COLORS else words


def _last(run: Run, now: float) -> str:
    took = state.duration_of(run)
    after = "" if took is None else f" after {durations.show(took)}"
    return f"{moment(run.started_at, now)} {printable(run.host)}: {how_it_ended(run)}{after}"


def _history_row(run: Run, now: float, what: str) -> list[str]:
    took = state.duration_of(run)
    return [
        moment(run.started_at, now),
        "-" if took is None else durations.show(took),
        printable(run.host),
        printable(run.program),
        "-" if run.fence is None else str(run.fence),
        how_it_ended(run) if run.outcome is not None else _colored(what, what),
    ]
