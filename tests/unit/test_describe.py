"""Refusals, pauses and times for people: who, until when, and why."""

from __future__ import annotations

import time

import pytest

from cronlock.lease.describe import describe, describe_drift, describe_pause, moment
from cronlock.lease.vocabulary import DEFERRED, ENDED, EXITED, HELD, HOLD, PAUSED, STATE_LOST, Conflict, Pause, Run

#: Noon, so that the minutes around it are of the same day in each time zone that a test machine may have.
NOW = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
RUN = Run(owner="x", host="web-1", pid=7, program="billing", started_at=NOW, ttl=60.0, fence=1)
DONE = RUN.but(outcome=EXITED, status=3)
PAUSE = Pause(user="ann", host="desk", at=NOW, until=None, reason="")


def _conflict(why: str, run: Run | None = None, pause: Pause | None = None) -> Conflict:
    return Conflict(why, remaining=41.0, run=run, pause=pause)


@pytest.mark.parametrize(
    ("conflict", "parts"),
    [
        (_conflict(HELD, run=RUN), ("held by web-1 (pid 7) since ", moment(NOW))),
        (_conflict(HELD), ("held by another run",)),
        (_conflict(HOLD, run=DONE), ("web-1 (pid 7)", "41s")),
        (_conflict(HOLD), ("another run", "41s")),
        (_conflict(ENDED, run=DONE), ("web-1 (pid 7)", "exited with status 3")),
        (_conflict(ENDED), ("run",)),
        (_conflict(DEFERRED, run=DONE), ("web-1 (pid 7)", "exited with status 3", "other hosts")),
        (_conflict(PAUSED, pause=PAUSE), ("paused by ann on desk",)),
        (_conflict(STATE_LOST), ("server", "lost", "41s")),
        (_conflict(STATE_LOST, run=DONE), ("server", "lost", "41s")),
        # A field that is missing in the record is left out.
        (_conflict(HOLD, run=DONE, pause=PAUSE), ("web-1 (pid 7)", "41s")),
    ],
)
def test_a_refusal_names_its_reason(conflict: Conflict, parts: tuple[str, ...]) -> None:
    """A refusal names the current or last holder, and how long to wait."""
    text = describe(conflict)
    assert [part for part in parts if part not in text] == []
    assert ("other hosts" in text) == (conflict.why == DEFERRED)


@pytest.mark.parametrize(
    ("pause", "expected"),
    [
        (PAUSE, "paused by ann on desk until it is resumed"),
        (PAUSE.but(reason="moving"), "paused by ann on desk until it is resumed: moving"),
        (PAUSE.but(until=NOW + 60.0), "paused by ann on desk until 12:01:00"),
    ],
)
def test_a_pause_names_who_until_when_and_why(pause: Pause, expected: str) -> None:
    """A pause without an end lasts until the key is resumed."""
    assert describe_pause(pause, NOW) == expected


@pytest.mark.parametrize(
    ("days", "expected"), [(0, "12:00:00"), (1, "2026-11-27 12:00:00"), (30, "2026-12-26 12:00:00")]
)
def test_a_time_of_another_day_has_its_date(days: int, expected: str) -> None:
    """The hour alone would mislead."""
    assert moment(NOW + days * 86400.0, NOW) == expected
    assert moment(NOW + 3600.0, NOW) == "13:00:00"


@pytest.mark.parametrize(
    ("ttl", "program", "part"),
    [
        (60.0004, "billing", None),
        (60.5, "billing", "ttl"),
        (60.0, "report", "program"),
        (60.0, "billing" + "x" * 200, "program"),
    ],
)
def test_drift_is_what_a_record_can_tell_apart(ttl: float, program: str, part: str | None) -> None:
    """A record has milliseconds, and the beginning of a program's name."""
    text = describe_drift(RUN, program, ttl)
    assert text is None if part is None else part in (text or "")


def test_programs_that_differ_behind_what_is_recorded_are_the_same() -> None:
    """A record has the first hundred characters."""
    assert describe_drift(RUN.but(program="p" * 100), "p" * 101, 60.0) is None
