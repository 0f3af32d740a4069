"""Tables of ``status``, ``history`` and ``forget``."""

from __future__ import annotations

import unicodedata

import click

from ... import durations, errors
from ...lease.describe import describe_pause, ending, moment
from ...lease.rules import last_used
from ...lease.vocabulary import DIED, LOST, NOT_STARTED, RELEASED, STOPPED, TIMED_OUT, Record, Run
from . import state

_COLORS = {
    **{state.RUNNING: "green", state.LAPSED: "red", state.FAILED: "red"},
    **{state.HELD: "yellow", state.PAUSED: "yellow"},
}
_BAD = (DIED, LOST, TIMED_OUT)
_BRIEFLY = {LOST: "lost lease", TIMED_OUT: "timed out", NOT_STARTED: "not started", STOPPED: "stopped"}
#: The least width of a column that is cut to fit, in cells.
_LEAST = 12
#: The width up to which such a column grows if nothing is cut.
_USUAL = 40


def status_table(records: list[tuple[str, Record]], now: float, width: int | None = None) -> list[str]:
    """Return the lines of ``cronlock status``, of at most `width` cells, at epoch time `now`."""
    rows = [["KEY", "STATE", "TIME", "HOST", "LAST RUN"]]
    rows += [_status_row(key, record, now) for key, record in records]
    return _titled(fitted(rows, (0, 3), width))


def counted(records: list[tuple[str, Record]]) -> str:
    """Return the number of keys and of keys in each state, for people."""
    kinds = [f"{number} {one}" for one, number in state.count(records)]
    return f"{len(records)} key{'s' * (len(records) != 1)}" + (f": {', '.join(kinds)}" if kinds else "")


def nothing(wanted: list[str]) -> str:
    """Return the message that no key is in one of the states `wanted`."""
    return f"no key is {' or '.join(wanted)}" if wanted else "no key has been used yet"


def warnings(records: list[tuple[str, Record]], now: float) -> list[str]:
    """Return lines about keys that are paused, asked to stop, or whose last run was started differently."""
    found = [f"{key}: {describe_pause(record.pause, now)}" for key, record in records if record.pause is not None]
    found += [
        f"{key}: {record.stop.user} on {record.stop.host} asked it to stop at {moment(record.stop.at, now)}"
        for key, record in records
        if record.stop is not None
    ]
    drifts = [(key, state.drift_of(record)) for key, record in records]
    found += [f"warning: {key}: {drift}" for key, drift in drifts if drift]
    return [click.style(printable(text), fg="yellow") for text in found]


def history_table(
    runs: list[tuple[str, Run]], now: float, *, states: dict[str, str], width: int | None = None
) -> list[str]:
    """Return the lines of ``cronlock history``, with a column for the key if there are several.

    `states` are the states of the keys, for runs that have not ended.
    """
    several = len(states) > 1
    rows = [["STARTED", "TOOK", *(["KEY", "HOST"] if several else ["HOST", "PROGRAM", "FENCE"]), "ENDED"]]
    numbers = state.attempts(runs)
    for key, run in runs:
        took, what = state.duration_of(run), states[key]
        began = [moment(run.started_at, now), "-" if took is None else durations.show(took)]
        fence = "-" if run.fence is None else str(run.fence)
        ended = how_it_ended(run, numbers.get((key, run.owner))) if run.outcome is not None else _colored(what, what)
        middle = [key, run.host] if several else [run.host, run.program, fence]
        rows.append([*began, *map(printable, middle), ended])
    return _titled(fitted(rows, (2, 3), width))


def forget_table(records: list[tuple[str, Record]], now: float, width: int | None = None) -> list[str]:
    """Return the lines that ``cronlock forget`` shows before it asks for confirmation."""
    rows = [["KEY", "LAST USED", "HOST", "RUNS"]]
    for key, record in records:
        used, host = last_used(record), record.runs[0].host if record.runs else "-"
        ago = "never" if used is None else f"{durations.brief(now - used)} ago"
        rows.append([printable(key), ago, printable(host), str(len(record.runs))])
    return _titled(fitted(rows, (0, 2), width))


def fitted(rows: list[list[str]], flexible: tuple[int, ...], width: int | None = None) -> list[str]:
    """Return the rows as aligned columns, of at most `width` cells of a terminal; colors take no cell.

    Cuts the widest of the columns `flexible` first, then the last one. Without `width` nothing is cut, and an
    unusually wide cell shifts only its own row.
    """
    widths = [max(cells(row[n]) for row in rows) for n in range(len(rows[0]))]
    if width is None:
        widths = [min(size, _USUAL) if n in flexible else size for n, size in enumerate(widths)]
    else:
        excess = sum(widths) + 2 * len(widths) - 2 - width
        while excess > 0:
            widest = max(flexible, key=widths.__getitem__)
            if widths[widest] <= _LEAST:
                widths[-1] = max(1, widths[-1] - excess)
                break
            widths[widest] -= 1
            excess -= 1
        rows = [[cut(text, size) for text, size in zip(row, widths)] for row in rows]
    return ["  ".join(text + " " * (size - cells(text)) for text, size in zip(row, widths)).rstrip() for row in rows]


def cells(text: str) -> int:
    """Return the width of `text` in cells of a terminal: wide characters take two, combining ones none."""
    plain = click.unstyle(text)
    if plain.isascii():
        return len(plain)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


def cut(text: str, width: int | None) -> str:
    """Return `text`, which may be colored as a whole, cut to `width` cells."""
    excess = 0 if width is None else cells(text) - width
    if excess <= 0 or width is None:
        return text
    plain = kept = click.unstyle(text)
    while cells(kept) >= width:
        kept = kept[:-1]
    return text.replace(plain, f"{kept}\N{HORIZONTAL ELLIPSIS}")


def printable(text: str) -> str:
    """Return `text` without characters that could control a terminal."""
    return errors.printable(text, "\N{REPLACEMENT CHARACTER}")


def how_it_ended(run: Run, attempt: tuple[int, int] | None = None) -> str:
    """Return how a run ended, colored unless well; `attempt` is (number, attempts of its tick)."""
    of_tick = "" if attempt is None else f" (attempt {attempt[0]} of {attempt[1]})"
    of_tick = of_tick or (" (takeover)" if run.stands_for is not None else "")
    return _judged(run, printable(ending(run.outcome, run.status)) + of_tick)


def _titled(lines: list[str]) -> list[str]:
    return [click.style(lines[0], bold=True), *lines[1:]]


def _status_row(key: str, record: Record, now: float) -> list[str]:
    what = state.headline(record)
    newest = record.runs[0] if record.runs else None
    left = record.hold_remaining
    if what == state.PAUSED and record.pause is not None:
        left = 0.0 if record.pause.until is None else record.pause.until - now
    time = f"{durations.brief(left)} left" if left > 0 else "-"
    host = "unknown" if record.opaque else "-" if newest is None else newest.host
    if record.run is not None:
        host = f"{record.run.host} ({record.run.pid})"
    last = newest
    if state.state_of(record) == state.RUNNING and newest is not None:
        time = f"for {durations.brief(now - newest.started_at)}"
        last = record.history[0] if record.history else None
    return [printable(key), _colored(what, what), time, printable(host), _last(last, now)]


def _last(run: Run | None, now: float) -> str:
    """Return briefly when a run began, how it ended and how long it took."""
    if run is None:
        return "none recorded"
    took = state.duration_of(run)
    if run.succeeded:
        how = "ok"
    elif run.status is not None and run.outcome not in _BRIEFLY:
        how = f"status {run.status}"
    else:
        how = _BRIEFLY.get(run.outcome or DIED, run.outcome or DIED)
    after = "" if took is None else f", {durations.show(took)}"
    return _judged(run, f"{durations.brief(now - run.started_at)} ago: {printable(how)}{after}")


def _judged(run: Run, text: str) -> str:
    if run.succeeded or run.outcome in (RELEASED, None):
        return text
    return click.style(text, fg="red" if run.outcome in _BAD or run.status else "yellow")


def _colored(words: str, what: str) -> str:
    return click.style(words, fg=_COLORS[what]) if what in _COLORS else words
