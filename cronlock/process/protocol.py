"""What a guard is told and keeps to, and what it says; times are seconds on the boot clock.

The wrapper says by when everything must be dead, and moves that on; the guard asks `decide` each time that it wakes.

Each message on the pipes between them is a line, written at once and shorter than PIPE_BUF.
"""

from __future__ import annotations

import os

from ..value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from .command import Command
    from .terminal import Terminal

    class Clock(Protocol):
        """What deadlines are measured on."""

        def now(self) -> float:
            """Seconds on a clock that never goes back and counts suspension."""


#: Why the guard stops a command.
BY_DEADLINE = "deadline"  # nobody moved it on in time
BY_LOSS = "lost"  # the wrapper said that the command may not go on
BY_TIMEOUT = "timeout"
BY_REQUEST = "request"  # the wrapper was asked to, and keeps the deadline away meanwhile
BY_WRAPPER = "wrapper"  # the wrapper died
BY_SIGNAL = "signal"  # the command died of a forwarded signal and left processes behind

#: What to do next.
WAIT = "wait"
TERMINATE = "terminate"
KILL = "kill"


class Plan(Value):
    """What the guard keeps to; the wrapper moves `deadline`, the guard notes `stop`."""

    #: By when all must be dead, or None when nothing but the command's own end or `limit` ends it.
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
    """What the guard is told at its birth; what changes comes through the pipe."""

    command: Command
    #: Deadline and graces, as of now.
    plan: Plan
    #: The command's longest run time, from its start.
    timeout: float | None
    #: Whether the command is stopped when the wrapper is gone.
    stop_on_loss: bool
    #: Whether a backup guard ends what a killed guard leaves when the wrapper cannot.
    backup: bool
    #: Descriptor from which the numbers of signals for the command are read.
    signals: int
    #: Descriptor of /dev/null, from before anything was started: it may be missing, or no descriptor be left.
    null: int
    #: To be given back for a wrapper that died.
    terminal: Terminal | None
    clock: Clock
    #: Tells a person what the wrapper no longer can.
    say: Callable[[str], None]


class Message(Value):
    """One line on a pipe: its class's name, and its fields as `_READERS` reads them."""

    def line(self) -> bytes:
        """Return the line to be written."""
        fields = (_written(getattr(self, name)) for name in type(self)._fields)
        return " ".join([type(self).__name__, *fields]).encode() + b"\n"


def _written(value: object) -> str:
    if value is None:
        return "-"
    return str(int(value)) if isinstance(value, bool) else str(value)


class Deadline(Message):
    """To the guard: everything must be dead by then."""

    moment: float


class Stop(Message):
    """To the guard: stop the command, because of BY_..."""

    why: str


class Continue(Message):
    """To the guard: send CONT to the command."""


class Forked(Message):
    """From the guard: the command is a process, which is to be executed."""

    pid: int
    #: The guard's own.
    guard: int


class Started(Message):
    """From the guard: the command was executed."""


class NotStarted(Message):
    """From the guard, as its last word: the command could not be executed, or the deadline had passed before."""

    #: errno; None for the deadline.
    error: int | None


class Stopped(Message):
    """From the guard: a signal stopped the command."""

    signal: int


class Ended(Message):
    """From the guard, as its last word."""

    #: One of BY_..., or None when the command ended by itself.
    why: str | None
    wait_status: int | None
    #: Whether every process of the command is known dead.
    clean: bool
    #: When that was, by boot time.
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
    """Return the message that a line is, without its end."""
    word, *fields = line.decode().split(" ")
    kind: Any = _KINDS[word]
    return kind(*(read(field) for read, field in zip(_READERS[kind], fields)))  # type: ignore[no-any-return]


class Pipe:
    """The end of a pipe at which messages arrive, cut anywhere."""

    __slots__ = ("_rest", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    def read(self) -> list[Message] | None:
        """Return the messages that are complete, None when there will be no more."""
        data = os.read(self.descriptor, 4096)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [read_line(line) for line in lines]
