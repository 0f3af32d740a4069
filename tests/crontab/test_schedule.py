"""The shortest time between ticks."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from cronlock.crontab import schedule

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("* * * * *", _MINUTE),
        ("*/5 * * * *", 5 * _MINUTE),
        ("*/7 * * * *", 4 * _MINUTE),
        ("*/50 * * * *", 10 * _MINUTE),
        ("0 * * * *", _HOUR),
        ("59,0 * * * *", _MINUTE),
        ("0 */5 * * *", 4 * _HOUR),
        ("0 3 * * *", _DAY),
        ("50 23,0 * * *", _HOUR),
        ("0,59 0,23 * * *", _MINUTE),
        ("0,59 0,23 1 * *", 59 * _MINUTE),
        ("0 0 * * 1-5", _DAY),
        ("0 0 * * 0", 7 * _DAY),
        ("0 0 * * 0,7", 7 * _DAY),
        ("30 4 1,15 * 5", _DAY),
        ("0 0 */2 * *", _DAY),
        ("0 0 1 * *", 28 * _DAY),
        ("0 0 31 * *", 31 * _DAY),
        ("0 0 1 1 *", 365 * _DAY),
        ("0 0 29 2 *", 1461 * _DAY),
        ("0 0 31 2 *", None),
        ("0,5 0 31 2 *", None),
        ("5-5/2 * * * *", _HOUR),
        ("*/100 * * * *", _HOUR),
        ("@hourly", _HOUR),
        ("@midnight", _DAY),
        ("@weekly", 7 * _DAY),
        ("@monthly", 28 * _DAY),
        ("@annually", 365 * _DAY),
        ("@reboot", None),
    ],
)
def test_smallest_gap(text: str, gap: float | None) -> None:
    """The closest two ticks count, also across midnight and the end of a month."""
    assert schedule.read(text).gap == gap


@pytest.mark.parametrize(
    "text", ["13 */3 * * *", "*/13 2-4 * * *", "0 9 1-7 * 1", "5 0 */9 * *", "0 22 * 1,2 3", "1,2 0 1 * 0"]
)
def test_smallest_gap_by_counting_minutes(text: str) -> None:
    """Ten years of minutes, compared with the fields one by one, have the same smallest gap."""
    assert schedule.read(text).gap == _count(text)


def _count(text: str) -> float:
    minute, hour, day, month, weekday = (
        _values(field, limit) for field, limit in zip(text.split(), (60, 24, 32, 13, 8))
    )
    fields = text.split()
    both = fields[2].startswith("*") or fields[4].startswith("*")
    last, smallest, when = None, float("inf"), datetime(2000, 1, 1)
    while when.year < 2010:
        in_month, in_week = when.day in day, when.isoweekday() in weekday or when.isoweekday() % 7 in weekday
        if when.month in month and ((in_month and in_week) if both else (in_month or in_week)):
            for each in (h * 60 + m for h in sorted(hour) for m in sorted(minute)):
                now = when + timedelta(minutes=each)
                smallest = smallest if last is None else min(smallest, (now - last).total_seconds())
                last = now
        when += timedelta(days=1)
    return smallest


def _values(field: str, limit: int) -> set[int]:
    low = 1 if limit in (32, 13) else 0
    found: set[int] = set()
    for element in field.split(","):
        span, _, step = element.partition("/")
        first, _, last = (f"{low}-{limit - 1}" if span == "*" else span).partition("-")
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def test_random_times_have_no_gap() -> None:
    """cronie's random times are known as such."""
    found = schedule.read("0~30 4 * * *")
    assert (found.random, found.gap) == (True, None)
