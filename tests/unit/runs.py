"""Runs, and what the rules answer, for tests of the rules by themselves."""

from __future__ import annotations

from cronlock.lease.vocabulary import Conflict, Run

NOW = 1.7e9


def a_run(owner: str, fence: int, **others: object) -> Run:
    """Return a run of that owner."""
    run = Run(owner=owner, host="h", pid=1, program="p", started_at=NOW - 100, ttl=60.0, fence=fence)
    return run.but(**others)


def why(answer: Conflict | None) -> str | None:
    """Return why a claim was refused, None if it was not."""
    return None if answer is None else answer.why
