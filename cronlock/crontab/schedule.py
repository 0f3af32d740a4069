"""When a line fires, and how close to each other its ticks come.

cronsim reads and counts, since it does so after Debian's cron: both day fields given means either,
``*/2`` counts as a star.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

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
_NAMES = ("minute", "hour", "day of month", "month", "day of week")
# cronsim knows more than cron does: L, #, a step after a single number.
_NUMBER = r"(?:[0-9]+|[A-Za-z]{3})"
_ELEMENT = re.compile(rf"(?:\*|({_NUMBER})-({_NUMBER}))(/[0-9]+)?|{_NUMBER}")
_RANDOM = re.compile(r"[0-9]*~[0-9]*(/[0-9]+)?")
_FIRST = datetime(2000, 1, 1)
_DAY = 86400


@dataclass
class Schedule:
    """When a line fires."""

    #: Five fields between single blanks, or ``@reboot``.
    text: str
    #: Whether every machine picks a time of its own (cronie's ``~``).
    random: bool = False

    @property
    def reboot(self) -> bool:
        """Whether it fires when the machine starts."""
        return self.text == _REBOOT

    @property
    def gap(self) -> float | None:
        """Return the seconds between the two of its ticks that are closest; None if there are no two."""
        return None if self.reboot or self.random else smallest_gap(self.text)


def read(text: str) -> Schedule:
    """Return the schedule `text`: five fields, or such as ``@daily``. Raises ValueError with a reason."""
    if text.startswith("@"):
        if text not in SHORTCUTS:
            raise ValueError(f"{text!r} is none of {', '.join(SHORTCUTS)}")
        return Schedule(SHORTCUTS[text])
    fields = text.split()
    random = [_check_field(name, field) for name, field in zip(_NAMES, fields)]
    if any(random):
        return Schedule(" ".join(fields), random=True)
    fields = [",".join(map(_without_empty_range, field.split(","))) for field in fields]
    _check(fields)
    return Schedule(" ".join(fields))


@lru_cache(maxsize=4096)
def smallest_gap(text: str) -> float | None:
    """Return the seconds between the two ticks of five fields that are closest; None if there are no two.

    Clocks that are set forward or back for daylight saving are not looked at.
    """
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
    """Return the days between the two days that are closest; None if there are no two."""
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
    """Return how many years show all that there is to see of the days."""
    if weekday == "*":
        return 9  # With three 29ths of February.
    # Any month has each day of the week four times; dates fall on the same ones again after 28 years.
    return 1 if day == "*" else 29


@lru_cache(maxsize=4096)
def _fires(day: str, month: str, weekday: str) -> bool:
    return next(_ticks(f"0 0 {day} {month} {weekday}"), None) is not None


def _ticks(expression: str) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    try:
        yield from CronSim(expression, _FIRST - timedelta(minutes=1))
    except CronSimError:
        return  # Such as the 31st of February, a way to switch a line off.


def _check_field(name: str, field: str) -> bool:
    """Return whether `field` is random; raise ValueError if cron does not know such a thing."""
    random = False
    for element in field.split(","):
        if _RANDOM.fullmatch(element):
            random = True
        elif not _ELEMENT.fullmatch(element):
            raise ValueError(f"{field!r} is no {name} for cron")
    return random


def _without_empty_range(element: str) -> str:
    """Return `element`, but ``5-5/2`` as ``5``, which cronsim takes for ``5/2``."""
    match = _ELEMENT.fullmatch(element)
    return match[1] if match and match[1] is not None and match[1] == match[2] else element


def _check(fields: list[str]) -> None:
    """Raise ValueError if a field has a value that cron refuses, or a range that runs backwards."""
    from cronsim import CronSim, CronSimError

    for index, name in enumerate(_NAMES):
        alone = ["*"] * 5
        alone[index] = fields[index]
        try:
            CronSim(" ".join(alone), _FIRST)
        except CronSimError:
            raise ValueError(f"{fields[index]!r} is no {name} for cron") from None
