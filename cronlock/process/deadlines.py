"""When a command is stopped, and when what is left of it is killed; seconds on the boot clock.

The wrapper says by when everything must be dead, and moves that on; the guard asks `decide` each time that it wakes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Clock(Protocol):
        """What deadlines are measured on."""

        def now(self) -> float:
            """Seconds on a clock that never goes back and counts suspension."""


#: Why the guard stops a command.
BY_DEADLINE = "deadline"  # nobody moved it on in time
BY_LOSS = "lost"  # the wrapper said that the command may not go on
BY_TIMEOUT = "timeout"
BY_WRAPPER = "wrapper"  # the wrapper died
BY_SIGNAL = "signal"  # the command died of a forwarded signal and left processes behind

#: What to do next.
WAIT = "wait"
TERMINATE = "terminate"
KILL = "kill"


class Plan:
    """What the guard keeps to; the wrapper moves `deadline`, the guard notes `stop`."""

    __slots__ = ("deadline", "grace", "kill_after", "kill_lead", "limit", "stop", "stopped_at")

    def __init__(
        self,
        *,
        deadline: float | None,
        grace: float,
        kill_after: float,
        kill_lead: float = 0.0,
        limit: float | None = None,
    ) -> None:
        #: By when all must be dead, or None when nothing but the command's own end or `limit` ends it.
        self.deadline = deadline
        self.grace = grace
        self.kill_after = kill_after
        self.kill_lead = kill_lead
        #: When --timeout is over, or None.
        self.limit = limit
        #: Why and since when the command is being stopped.
        self.stop: str | None = None
        self.stopped_at = 0.0

    def begin_stop(self, why: str, now: float) -> None:
        """Note that TERM goes out now; the first reason stays."""
        if self.stop is None:
            self.stop = why
            self.stopped_at = now

    def last_kill(self) -> float | None:
        """Return when KILL must go out for the deadline's sake."""
        return None if self.deadline is None else self.deadline - self.kill_lead


def decide(now: float, plan: Plan) -> tuple[str, str | None, float | None]:
    """Return (what to do, why, when to look again at the latest; None: no time is set)."""
    last_kill = plan.last_kill()
    if plan.stop is not None:
        kill_at = plan.stopped_at + (plan.kill_after if plan.stop == BY_TIMEOUT else plan.grace)
        if last_kill is not None:
            kill_at = min(kill_at, last_kill)
        return (KILL, plan.stop, None) if now >= kill_at else (WAIT, plan.stop, kill_at)
    wake = plan.limit
    if last_kill is not None:
        term_at = last_kill - plan.grace
        if now >= term_at:
            return TERMINATE, BY_DEADLINE, None
        wake = term_at if wake is None else min(wake, term_at)
    if plan.limit is not None and now >= plan.limit:
        return TERMINATE, BY_TIMEOUT, None
    return WAIT, None, wake
