"""Signals of the wrapper: noted before the command runs, passed on to it afterwards.

The interpreter's own ``_signal`` is used, since ``signal`` builds enums at import, which takes a
third of an interpreter's start.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import FrameType
else:
    import _signal

SIGCHLD = int(_signal.SIGCHLD)
SIGCONT = int(_signal.SIGCONT)
SIGHUP = int(_signal.SIGHUP)
SIGINT = int(_signal.SIGINT)
SIGKILL = int(_signal.SIGKILL)
SIGQUIT = int(_signal.SIGQUIT)
SIGSTOP = int(_signal.SIGSTOP)
SIGTERM = int(_signal.SIGTERM)
SIGTSTP = int(_signal.SIGTSTP)
SIGTTIN = int(_signal.SIGTTIN)
SIGTTOU = int(_signal.SIGTTOU)

#: Passed on to the command's process group. CONT is too, but only once the terminal is right.
FORWARDED = (
    SIGTERM,
    SIGINT,
    SIGHUP,
    SIGQUIT,
    int(_signal.SIGUSR1),
    int(_signal.SIGUSR2),
    int(_signal.SIGWINCH),
    SIGTSTP,
)
#: End cronlock itself as long as no command runs.
ENDING = (SIGTERM, SIGINT, SIGHUP, SIGQUIT)
#: Set to be ignored by the interpreter at its start; what they were before cannot be known.
_INTERPRETERS_OWN = (int(_signal.SIGPIPE), int(getattr(_signal, "SIGXFSZ", _signal.SIGPIPE)))


def all_signals() -> list[int]:
    """Return every signal whose disposition can be set."""
    return [int(number) for number in _signal.valid_signals() if number not in (SIGKILL, SIGSTOP)]


def ignored() -> frozenset[int]:
    """Return the signals that were ignored when cronlock was started, as the command must find them."""
    return frozenset(
        number
        for number in all_signals()
        if _signal.getsignal(number) == _signal.SIG_IGN and number not in _INTERPRETERS_OWN
    )


def block_all() -> None:
    """Let no signal in until `unblock_all`."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, all_signals())


def unblock_all() -> None:
    """Let every signal in."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


class blocked:
    """A context in which one signal is held back; what came in the meantime is delivered after it."""

    __slots__ = ("_numbers",)

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def __enter__(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, self._numbers)

    def __exit__(self, *_: object) -> None:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, self._numbers)


def set_default(number: int) -> None:
    """Give signal `number` its default action."""
    _signal.signal(number, _signal.SIG_DFL)


def die_of(number: int) -> None:
    """End this process by signal `number`, as a shell's script expects of what Ctrl-C ended."""
    set_default(number)
    unblock_all()
    os.kill(os.getpid(), number)


def set_ignored(number: int) -> None:
    """Let signal `number` be ignored."""
    _signal.signal(number, _signal.SIG_IGN)


def reset_for_exec(ignored_at_start: frozenset[int]) -> None:
    """Set what a command expects at exec: defaults, but for what was ignored, and nothing blocked."""
    for number in all_signals():
        try:
            _signal.signal(number, _signal.SIG_IGN if number in ignored_at_start else _signal.SIG_DFL)
        except OSError:
            pass  # The C library keeps some real-time signals for itself.
    _signal.set_wakeup_fd(-1)
    unblock_all()


def wakeup_pipe() -> tuple[int, int]:
    """Return both ends of a pipe fit for `_signal.set_wakeup_fd`: neither end ever blocks."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def watch_children() -> int:
    """Return a descriptor that becomes readable when a child changes, and ignore all that people send.

    For the guard: a signal to the whole process group or to all that is called cronlock must not
    end it before the command.
    """
    reader, writer = wakeup_pipe()
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*FORWARDED, SIGCONT, SIGTTIN, SIGTTOU, *_INTERPRETERS_OWN):
        set_ignored(number)
    _signal.signal(SIGCHLD, _do_nothing)
    return reader


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Be a handler, so that the interpreter writes to the wakeup pipe."""


def drain(reader: int) -> bytes:
    """Return what lies in a wakeup pipe: one byte a signal, its number."""
    try:
        return os.read(reader, 4096)
    except BlockingIOError:
        return b""


class Signals:
    """The wrapper's handlers.

    The C-level handler of the interpreter writes each signal's number into a pipe, even while the
    interpreter waits in a library that holds on to it. Before the command is started the wrapper
    reads that pipe, from then on the guard does: forwarding does not wait for the wrapper.
    """

    __slots__ = ("_continued", "_on_continue", "_stop_asked", "_writer", "caught", "ignored", "reader", "started")

    def __init__(self) -> None:
        self.ignored = ignored()
        self.reader, self._writer = wakeup_pipe()
        #: The first signal that asked to end before the command was started.
        self.caught: int | None = None
        #: Whether the command runs, so that signals are for it.
        self.started = False
        #: Whether somebody sent TSTP to the wrapper itself.
        self._stop_asked = False
        #: Whether a CONT came since this was last set to False.
        self._continued = False
        self._on_continue: Callable[[], None] | None = None
        _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*FORWARDED, SIGCONT):
            self.handle(number)
        # A CHLD that was ignored by the caller would let the kernel reap the guard unseen.
        set_default(SIGCHLD)
        # What the caller had blocked would not be heard.
        unblock_all()

    def sleep(self, seconds: float, wake: int | None = None) -> None:
        """Sleep so long, or until a signal asks to end or the descriptor `wake` can be read."""
        import time

        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.reader, select.POLLIN)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        while self.caught is None and (left := until - time.monotonic()) > 0:
            # poll(2) takes at most 24 days.
            for descriptor, _ in poll.poll(min(left, 86400.0) * 1000 + 1):
                if descriptor == wake:
                    return
                drain(self.reader)

    def transfer_to_guard(self, on_continue: Callable[[], None]) -> bool:
        """Leave the pipe to the guard from now on, and call `on_continue` after each CONT.

        Returns False when a signal asked to end before: then nothing is to be started.
        """
        self._on_continue = on_continue
        self.started = True
        # What came before was for cronlock; what comes after the drain is for the command.
        for number in drain(self.reader):
            if number in ENDING and self.caught is None:
                self.caught = number
        return self.caught is None

    def handle(self, number: int) -> None:
        """Take signal `number` again, after `set_default`, unless it was ignored from the start."""
        if number not in self.ignored:
            _signal.signal(number, self._note)

    def was_stop_asked(self, number: int) -> bool:
        """Whether the command's stop by signal `number` is what somebody asked the wrapper itself for, not told yet."""
        asked, self._stop_asked = self._stop_asked, False
        return asked and number == SIGTSTP

    def stop(self, *, whole_group: bool) -> bool:
        """Stop this process, or the whole group, which is what a shell knows as the job; return after a CONT.

        Returns False where nothing stopped it: the kernel does not stop an orphaned group, since nobody could
        continue it.
        """
        self._continued = False
        if whole_group:
            set_default(SIGTSTP)
            os.killpg(0, SIGTSTP)
            self.handle(SIGTSTP)
        else:
            os.kill(os.getpid(), SIGSTOP)
        return self._continued

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == SIGCONT:
            self._continued = True
            if self._on_continue is not None:
                self._on_continue()
        elif number == SIGTSTP:
            self._stop_asked = True
            if not self.started:
                os.kill(os.getpid(), SIGSTOP)
        elif number in ENDING and not self.started:
            if self.caught is not None:
                # The second time somebody is in a hurry: what we may hold is left to lapse.
                os._exit(128 + number)
            self.caught = number
