"""Translate the time fields of each dialect into five fields for cronsim, which follows Debian's cron."""

from __future__ import annotations

import re
from datetime import datetime

from .dialects import CRON, DIALECTS, Dialect

NAMES = ("minute", "hour", "day of month", "month", "day of week")
_FIRSTS, _LASTS = (0, 0, 1, 1, 0), (59, 23, 31, 12, 7)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_WHOLE_NAMES = re.compile(
    r"\b(january|february|march|april|june|july|august|september|october|november|december|"
    r"(?:sun|mon|tues|wednes|thurs|fri|satur)day)\b",
    re.IGNORECASE,
)
# cronsim accepts more than cron: L, #, a step after a single number.
_NUMBER = r"(?:[0-9]+|[A-Za-z]{3})"
_ELEMENT = re.compile(rf"(?:\*|({_NUMBER})-({_NUMBER}))(/[0-9]+)?|{_NUMBER}")
_RANDOM = re.compile(r"[0-9]*~[0-9]*(/[0-9]+)?")
_HASHED = re.compile(r"H(?:\(([0-9]+)-([0-9]+)\))?(/[0-9]+)?")
_STEPPED = re.compile(rf"({_NUMBER})(/[0-9]+)")
_LAST = re.compile(rf"L|LW|{_NUMBER}(?:L|W|#[1-5])", re.IGNORECASE)
_YEARS = re.compile(r"(?:(?:19[7-9]|20[0-9])[0-9]|\*)(?:[-/,](?:[0-9]+))*")
_ANY_TIME = datetime(2000, 1, 1)


def plain(fields: list[str], dialect: Dialect) -> tuple[list[str], bool]:
    """Return five equivalent fields of Debian's cron, and whether each machine picks a random time.

    Raises ValueError with a reason.
    """
    try:
        return _plain(fields, dialect)
    except ValueError as error:
        others = [other.title for other in DIALECTS.values() if other is not CRON and _reads(fields, other)]
        if dialect is not CRON or not others:
            raise
        raise ValueError(f"{error} (read by {', '.join(others)}: --dialect)") from None


def years(field: str) -> bool:
    """Return whether supercronic reads `field` as years."""
    return _YEARS.fullmatch(field) is not None


def _reads(fields: list[str], dialect: Dialect) -> bool:
    try:
        _plain(fields, dialect)
    except ValueError:
        return False
    return True


def _plain(fields: list[str], dialect: Dialect) -> tuple[list[str], bool]:
    found, random = [], False
    for index, text in enumerate(fields):
        elements = []
        for element in (_WHOLE_NAMES.sub(_three_letters, text) if dialect.seconds else text).split(","):
            is_random = "~" in dialect.signs and _RANDOM.fullmatch(element) is not None
            random |= is_random
            try:
                elements.append("*" if is_random else _element(element, index, dialect))
            except ValueError as error:
                raise ValueError(f"{text!r} is not a valid {NAMES[index]} for {dialect.title}{error}") from None
        found.append(",".join(elements))
        _check(found[index], index, text, dialect)
    return found, random


def _three_letters(name: re.Match[str]) -> str:
    return name[0][:3]


def _element(element: str, index: int, dialect: Dialect) -> str:
    """Return an element of field `index` for cronsim; raises ValueError, whose text may add a reason."""
    last = dialect.last_day if index == 4 else _LASTS[index]
    if "?" in dialect.signs and element == "?":
        return "*"
    hashed = _HASHED.fullmatch(element) if "H" in dialect.signs else None
    if hashed:
        # The hash is the same on every machine, so any value may represent it.
        first, end = hashed[1] or str(_FIRSTS[index]), hashed[2] or {2: 28, 4: 6}.get(index, last)
        return f"{first}-{end}{hashed[3]}" if hashed[3] else first
    stepped = _STEPPED.fullmatch(element) if "/" in dialect.signs else None
    if stepped:
        return f"{stepped[1]}-{last}{stepped[2]}"
    if "L" in dialect.signs and index in (2, 4) and _LAST.fullmatch(element):
        return re.sub("W", "", element, flags=re.IGNORECASE) or "L"
    match = _ELEMENT.fullmatch(element)
    if not match:
        raise ValueError
    values = [_value(part, index) for part in re.findall(_NUMBER, element.partition("/")[0])]
    if index == 4 and max(values, default=0) > last:
        raise ValueError
    if match[1] is not None and dialect.seconds and index == 4:
        values[1] %= 7  # supercronic reads 7 as Sunday only outside of ranges.
    if match[1] is not None and values[0] > values[1]:
        return _over_the_end(values, index, int((match[3] or "/1")[1:]), dialect)
    # cronsim reads `5-5/2` as `5/2`.
    return match[1] if match[1] is not None and match[1] == match[2] else element


def _over_the_end(values: list[int], index: int, step: int, dialect: Dialect) -> str:
    first, last = values
    if dialect.to_sunday and index == 4 and last == 0:
        return f"{first}-7/{step}"
    if not dialect.backwards or not step:
        raise ValueError(": the range runs backwards, so the line would never fire; write the values one by one")
    start, end = _FIRSTS[index], 6 if index == 4 else _LASTS[index]
    count = end - start + 1
    return ",".join(str((each - start) % count + start) for each in range(first, last + count + 1, step))


def _value(text: str, index: int) -> int:
    if text.isdecimal():
        return int(text)
    names = _MONTHS if index == 3 else _DAYS if index == 4 else []
    if text.lower() not in names:
        raise ValueError
    return names.index(text.lower()) + _FIRSTS[index]


def _check(field: str, index: int, text: str, dialect: Dialect) -> None:
    """Raise ValueError if cron refuses `field`."""
    from cronsim import CronSim, CronSimError

    alone = ["*"] * 5
    alone[index] = field
    try:
        CronSim(" ".join(alone), _ANY_TIME)
    except CronSimError:
        raise ValueError(f"{text!r} is not a valid {NAMES[index]} for {dialect.title}") from None
