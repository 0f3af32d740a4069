"""Parse and format durations."""

from __future__ import annotations

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_ORDER = "dhms"
#: Longer than any schedule, and short enough for every clock and server.
LONGEST = 10 * 366 * 86400.0


def parse(text: str) -> float:
    """Return `text` in seconds: ``300``, ``300s``, ``5m``, ``1h30m``, ``0.5``, ``1d``.

    A bare number is seconds; units go from large to small, each once. Raises ValueError, with a message for users,
    for anything else and for more than ten years.
    """
    total, number, last = 0.0, "", -1
    for character in text:
        if character in "0123456789.":
            number += character
        elif character in _UNITS and _ORDER.index(character) > last:
            total += _number(number, text) * _UNITS[character]
            number, last = "", _ORDER.index(character)
        else:
            raise _invalid(text)
    if number:
        if last >= 0:
            raise _invalid(text)
        total = _number(number, text)
    elif last < 0:
        raise _invalid(text)
    if total > LONGEST:
        raise ValueError(f"{text[:40]!r} is too long; the limit is ten years")
    return total


def show(seconds: float) -> str:
    """Return `seconds` in two units at most: ``0.5s``, ``42s``, ``4m10s``, ``2h05m``, ``3d04h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def brief(seconds: float) -> str:
    """Return `seconds` in one unit, for columns: ``42s``, ``4m``, ``47h``, ``3d``."""
    whole = max(0, int(seconds))
    for size, unit in ((120, "s"), (7200, "m"), (172800, "h")):
        if whole < size:
            return f"{whole // int(_UNITS[unit])}{unit}"
    return f"{whole // 86400}d"


def _number(digits: str, text: str) -> float:
    try:
        return float(digits)
    except ValueError:
        raise _invalid(text) from None


def _invalid(text: str) -> ValueError:
    return ValueError(f"{text[:40]!r} is not a duration; write 300, 90s, 5m, 1h30m, 0.5 or 1d")
