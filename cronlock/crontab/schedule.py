"""Schedules, and the shortest time between two ticks.

cronsim follows Debian's cron: if both day fields are given, either one matches; ``*/2`` counts as a star.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile

from .. import durations
from .dialects import CRON, Dialect
from .fields import NAMES, plain, years

_REBOOT = "@reboot"
SHORTCUTS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
    _REBOOT: _REBOOT,
}
_EVERY = re.compile(r"@every[ \t]+([0-9.hms]+)")
# Counted from the end of the previous run, so different on each machine.
_INTERVAL = re.compile(r"@([0-9]+|every_second)")
_FIRST = datetime(2000, 1, 1)
_DAY = 86400


@dataclass
class Schedule:
    """When a line fires."""

    #: As written, with single blanks; five fields for shortcuts such as ``@daily``; or ``@reboot``.
    text: str
    #: The equivalent five fields of Debian's cron, if different.
    plain: str = ""
    #: Whether each machine picks its own random time.
    random: bool = False
    #: The period of ``@every``, in seconds.
    period: float | None = None
    #: The field of seconds.
    seconds: str = "0"

    @property
    def reboot(self) -> bool:
        """Whether it fires when the machine boots."""
        return self.text == _REBOOT

    @property
    def gap(self) -> float | None:
        """Return the shortest time between two ticks in seconds; None if it fires at most once."""
        if self.reboot or self.random or self.period is not None:
            return self.period
        gap = smallest_gap(self.plain or self.text)
        return gap if self.seconds == "0" else _gap_with_seconds(self.seconds, gap)


def read(text: str, dialect: Dialect = CRON) -> Schedule:
    """Return the schedule `text`: time fields or a shortcut. Raises ValueError with a reason."""
    if text.startswith("@"):
        return _read_shortcut(text, dialect)
    fields = text.split()
    seconds = "0"
    if len(fields) > len(NAMES):
        if not years(fields[-1]):
            raise ValueError(f"{fields[-1]!r} is not a valid year for {dialect.title}")
        if len(fields) == len(NAMES) + 2:
            seconds = plain([fields[0], *"****"], dialect)[0][0]
        read_fields, random = plain(fields[-len(NAMES) - 1 : -1], dialect)
    else:
        read_fields, random = plain(fields, dialect)
    return Schedule(" ".join(fields), " ".join(read_fields), random, None, seconds)


def _read_shortcut(text: str, dialect: Dialect) -> Schedule:
    known = {name: fields for name, fields in SHORTCUTS.items() if name not in dialect.lacks}
    known.update(dialect.shortcuts)
    every = _EVERY.fullmatch(text) if dialect.name == "kubernetes" else None
    if every:
        period = durations.parse(every[1])
        return Schedule(text, period=max(period, 1.0))
    if dialect.name == "bsd" and _INTERVAL.fullmatch(text):
        return Schedule(text, random=True)
    if text not in known:
        raise ValueError(f"{text!r} is not one of {', '.join(known)}")
    return Schedule(known[text])


def _gap_with_seconds(seconds: str, gap: float | None) -> float | None:
    minute = _FIRST + timedelta(minutes=1)
    ticks = [tick.second for tick in takewhile(lambda tick: tick < minute, _ticks(f"{seconds} * * * * *"))]
    within = [float(later - earlier) for earlier, later in zip(ticks, ticks[1:])]
    return min(within + ([] if gap is None else [gap - (ticks[-1] - ticks[0])]), default=None)


@lru_cache(maxsize=4096)
def smallest_gap(text: str) -> float | None:
    """Return the shortest time between two ticks of five fields in seconds, without daylight saving; or None."""
    minute, hour, *days = text.split()
    times = _times(minute, hour)
    within_day = min((later - earlier for earlier, later in zip(times, times[1:])), default=None)
    across_midnight = _DAY - (times[-1] - times[0])
    if within_day is not None and within_day <= across_midnight:
        return float(within_day) if _fires(*days) else None
    between_days = _smallest_day_gap(*days)
    if between_days is None:
        return float(within_day) if within_day is not None and _fires(*days) else None
    across_days = (between_days - 1) * _DAY + across_midnight
    return float(across_days if within_day is None else min(within_day, across_days))


@lru_cache(maxsize=4096)
def _times(minute: str, hour: str) -> list[int]:
    """Return the seconds of the day at which a line with these fields fires."""
    times = []
    for tick in _ticks(f"{minute} {hour} * * *"):
        if tick.date() != _FIRST.date():
            break
        times.append(tick.hour * 3600 + tick.minute * 60)
    return times


@lru_cache(maxsize=4096)
def _smallest_day_gap(day: str, month: str, weekday: str) -> int | None:
    """Return the smallest number of days between two ticks; None if it fires at most once."""
    smallest: int | None = None
    last: date | None = None
    end = _FIRST.replace(year=_FIRST.year + _years(day, weekday))
    for tick in _ticks(f"0 0 {day} {month} {weekday}"):
        if tick >= end:
            break
        if last is not None:
            gap = (tick.date() - last).days
            smallest = gap if smallest is None else min(smallest, gap)
        last = tick.date()
        if smallest == 1:
            break
    return smallest


def _years(day: str, weekday: str) -> int:
    """Return how many years cover every distance between two days."""
    if weekday == "*":
        return 9  # With three 29ths of February.
    # Each month has each weekday four times; weekdays of dates repeat after 28 years.
    return 1 if day == "*" else 29


@lru_cache(maxsize=4096)
def _fires(day: str, month: str, weekday: str) -> bool:
    return next(_ticks(f"0 0 {day} {month} {weekday}"), None) is not None


def _ticks(expression: str) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    try:
        yield from CronSim(expression, _FIRST - timedelta(seconds=1))
    except CronSimError:
        return  # Such as the 31st of February, which disables a line.
