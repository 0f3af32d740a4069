"""Durations as people write them."""

from __future__ import annotations

import pytest

from cronlock import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("300s", 300), ("5m", 300), ("1h30m", 5400), ("0.5", 0.5), ("1d", 86400), ("0", 0), ("1.5h", 5400)],
)
def test_what_the_manual_shows_is_read(text: str, seconds: float) -> None:
    """Every form of the manual page."""
    assert durations.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "abc", "-1", "+1", "1e5", "inf", "nan", "1h30", "30m1h", "1m1m", "s", ".", "1..2", " 5", "5 s"),
        *("٣", "11y", "99999999d", "9" * 400, "0x10", "1_000", "5M"),
    ],
)
def test_nonsense_is_refused_with_a_reason(text: str) -> None:
    """Never a guess, and never something negative or not finite."""
    with pytest.raises(ValueError, match=r"is not a duration|the limit is ten years"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "0.5s"), (3.04, "3s"), (44.6, "45s"), (250, "4m10s"), (7500, "2h05m"), (273600, "3d04h")],
)
def test_shown_short(seconds: float, text: str) -> None:
    """As messages show them."""
    assert durations.show(seconds) == text
