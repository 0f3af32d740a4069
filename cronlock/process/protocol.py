"""The protocol between wrapper and guard. Times are seconds on the boot clock.

The wrapper sets the deadline by which everything must be dead, and extends it after each renewal. The guard calls
`decide` each time it wakes up. Each message on the two pipes is a line, written at once and shorter than PIPE_BUF.
"""

from __future__ import annotations

from ..system import os
from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .command import Command
    from .terminal import Terminal

    class Clock(Protocol):
        """The clock of all deadlines."""

        def now(self) -> float:
            """Seconds on a clock that never goes back and counts suspension."""


#: Why the guard stops a command.
BY_DEADLINE = "deadline"  # no renewal extended it in time
BY_LOSS = "lost"  # the wrapper reported that the lease is lost
BY_TIMEOUT = "timeout"
BY_REQUEST = "request"  # of `cronlock stop`; the wrapper keeps extending the deadline meanwhile
BY_WRAPPER = "wrapper"  # the wrapper died
BY_SIGNAL = "signal"  # the command died of a forwarded signal and left processes behind

#: What to do next.
WAIT = "wait"
TERMINATE = "terminate"
KILL = "kill"


class Plan(Value):
    """When the guard stops the command. The wrapper extends `deadline`, the guard sets `stop`."""

    #: When all must be dead; None: only the command's own end or `limit` ends it.
    deadline: float | None
    grace: float
    kill_after: float
    kill_lead: float = 0.0
    #: When --timeout is over, or None.
    limit: float | None = None
    #: Why and since when the command is being stopped.
    stop: str | None = None
    stopped_at: float = 0.0

    def begin_stop(self, why: str, now: float) -> None:
        """Record that TERM is sent now. The first reason stays."""
        if self.stop is None:
            self.stop = why
            self.stopped_at = now

    def last_kill(self) -> float | None:
        """Return when the deadline requires KILL."""
        return None if self.deadline is None else self.deadline - self.kill_lead


def decide(now: float, plan: Plan) -> tuple[str, str | None, float | None]:
    """Return (WAIT, TERMINATE or KILL; why; when to decide again at the latest, None: without limit)."""
    last_kill = plan.last_kill()
    if plan.stop is not None:
        kill_at = plan.stopped_at + (plan.kill_after if plan.stop in (BY_TIMEOUT, BY_REQUEST) else plan.grace)
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


class GuardConfig(Value):
    """The guard's configuration at the fork. Changes come through the pipe."""

    command: Command
    #: Deadline and graces, as of now.
    plan: Plan
    #: The command's longest run time, from its start.
    timeout: float | None
    #: True: stop the command if the wrapper dies.
    stop_on_loss: bool
    #: True: fork a backup guard.
    backup: bool
    #: Descriptor that yields the numbers of signals for the command.
    signals: int
    #: Descriptor of /dev/null, opened early, since that may fail later.
    null: int
    #: The terminal to restore if the wrapper dies.
    terminal: Terminal | None
    clock: Clock
    #: Logs an error if the wrapper is dead.
    say: Callable[[str], None]


class Message(Value):
    """One line on a pipe: the class's name and its fields, which `_READERS` reads."""

    def line(self) -> bytes:
        """Return the line."""
        fields = (_to_text(getattr(self, name)) for name in type(self)._fields)
        return " ".join([type(self).__name__, *fields]).encode() + b"\n"


def _to_text(value: object) -> str:
    if value is None:
        return "-"
    return str(int(value)) if isinstance(value, bool) else str(value)


class Deadline(Message):
    """To the guard: everything must be dead by `moment`."""

    moment: float


class Stop(Message):
    """To the guard: stop the command, for the reason BY_..."""

    why: str


class Continue(Message):
    """To the guard: send CONT to the command."""


class Forked(Message):
    """From the guard: the command's process exists, and calls exec next."""

    pid: int
    #: The guard's pid.
    guard: int


class Started(Message):
    """From the guard: the command was executed."""


class NotStarted(Message):
    """The guard's final report: exec failed, or the deadline had passed before."""

    #: errno; None for the deadline.
    error: int | None


class Stopped(Message):
    """From the guard: a signal stopped the command."""

    signal: int


class Ended(Message):
    """The guard's final report."""

    #: One of BY_..., or None if the command ended by itself.
    why: str | None
    wait_status: int | None
    #: True if every process of the command is known dead.
    clean: bool
    #: Boot time of the end.
    at: float


def _or_none(text: str) -> str | None:
    return None if text == "-" else text


def _number_or_none(text: str) -> int | None:
    return None if text == "-" else int(text)


_READERS: dict[type[Message], tuple[Callable[[str], Any], ...]] = {
    Deadline: (float,),
    Stop: (str,),
    Continue: (),
    Forked: (int, int),
    Started: (),
    NotStarted: (_number_or_none,),
    Stopped: (int,),
    Ended: (_or_none, _number_or_none, "1".__eq__, float),
}
_KINDS = {kind.__name__: kind for kind in _READERS}


def read_line(line: bytes) -> Message:
    """Return the message of a line without its line end."""
    word, *fields = line.decode().split(" ")
    kind: Any = _KINDS[word]
    return kind(*(read(field) for read, field in zip(_READERS[kind], fields)))  # type: ignore[no-any-return]


class Pipe:
    """The reading end of a pipe. Messages may arrive in pieces."""

    __slots__ = ("_rest", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    def read(self) -> list[Message] | None:
        """Return the complete messages; None at the end of the pipe."""
        data = os.read(self.descriptor, 4096)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [read_line(line) for line in lines]
