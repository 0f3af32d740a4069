"""Records of a fleet as the board shows them: every state, every end, and names that would break a careless page."""

from __future__ import annotations

import random

from cronlock.commands import board as command
from cronlock.commands.check import Limits
from cronlock.lease.vocabulary import (
    DIED,
    EXITED,
    HISTORY,
    LOST,
    NOT_STARTED,
    RELEASED,
    STOPPED,
    TIMED_OUT,
    Pause,
    Record,
    Run,
)

NOW = 1_795_453_200.0
HOSTILE = (
    "<script>document.title='HACKED'</script>",
    "<img src=x onerror=\"document.title='HACKED'\">",
    "' onmouseover='document.title=\"HACKED\"' x='",
    '"></title></svg></style></li></ul><style>body{display:none}</style>',
    "</main><!-- <h1>",
    "&lt;b&gt;&#x3C;script&#x3E;",
    "x" * 200,
    "\u65e5\u672c" * 60,
    "\u202eright to left\u202d and \x1b[2J",
    "javascript:alert(1)//%00{{7*7}}${7*7}",
)
_NAMES = ("billing", "backup", "report", "mirror", "cleanup", "invoices", "index", "mail", "stats", "sync")
_ENDS: tuple[tuple[str, int | None], ...] = ((EXITED, 0),) * 20 + (
    (EXITED, 3),
    (TIMED_OUT, 124),
    (LOST, 75),
    (NOT_STARTED, 127),
    (DIED, None),
)
_ENDS += ((RELEASED, None), (STOPPED, 75))
FINDINGS = [
    ("OK", "reachable", "redis.internal:6379", ""),
    ("WARNING", "persistence", "snapshots only (save 3600 1): a crash loses leases", "set appendonly yes"),
    ("BAD", "clock", "12 s ahead of the server's", "set it, as by NTP"),
    ("NOTE", "replicas", "none: while this server is down nothing runs", ""),
]


def records(count: int, seed: int = 7) -> list[tuple[str, Record]]:
    """Return `count` keys with 20 runs each."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        name = HOSTILE[number] if number < len(HOSTILE) else f"{_NAMES[number % 10]}.{number // 10:02d}"
        host = name if number < len(HOSTILE) else f"web-{draw.randrange(1, 9)}"
        period = draw.choice((300, 900, 1800))
        runs: list[Run] = []
        at = NOW - draw.random() * period
        for place in range(HISTORY):
            outcome, status = draw.choice(_ENDS)
            took = draw.lognormvariate(0, 0.6) * period / 8
            runs.append(
                Run(
                    owner=f"{host}:{place}:a",
                    host=host if draw.random() < 0.5 else f"web-{draw.randrange(1, 9)}",
                    pid=4000 + place,
                    program=name[:60],
                    started_at=at,
                    ttl=60.0,
                    fence=10**15 + HISTORY - place,
                    ended_at=None if outcome in (DIED, RELEASED) else at + took,
                    outcome=outcome,
                    status=status,
                    stands_for="tick" if draw.random() < 0.04 else None,
                )
            )
            at -= period
        run, remaining, kind = None, 0.0, number % 9
        if kind in (0, 1):
            run = runs.pop(0).but(ended_at=None, outcome=None, status=None)
            remaining = 50.0 if kind else 0.0
        pause = None
        if kind == 4:
            reason = name if number < len(HOSTILE) else "the migration of tonight"
            pause = Pause("alice", "desk", reason, NOW - 600, NOW + 3600 if number % 2 else None)
        success = next((one for one in runs if one.succeeded), None)
        record = Record(
            run=run,
            remaining=remaining,
            hold_remaining=120.0 if kind == 3 else 0.0,
            history=runs,
            success=success,
            pause=pause,
        )
        found.append((name, record))
    return found


def page(count: int, *, hostile: bool = True) -> str:
    """Return the board of so many keys, the first of them with hostile names unless told otherwise."""
    shown = records(count) if hostile else records(count + len(HOSTILE))[len(HOSTILE) :]
    ages = [("b*", Limits(1200.0)), ("*", Limits(7200.0))]
    return command.draw(shown, ages, FINDINGS, "redis://redis.internal", NOW, 6 * 3600.0)
