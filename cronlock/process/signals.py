"""Signals of the wrapper: caught before the command runs, forwarded to it afterwards.

Uses the interpreter's ``_signal``: ``signal`` builds enums at import, which takes a third of an interpreter's start.
"""

from __future__ import annotations

import select

from ..system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import FrameType
else:
    import _signal

SIGALRM = int(_signal.SIGALRM)
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

#: Forwarded to the command's process group. CONT is too, but only after the terminal is set.
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
#: End cronlock while no command runs.
ENDING = (SIGTERM, SIGINT, SIGHUP, SIGQUIT)
#: The interpreter ignores these from its start, so their earlier dispositions are unknown.
_INTERPRETERS_OWN = (int(_signal.SIGPIPE), int(getattr(_signal, "SIGXFSZ", _signal.SIGPIPE)))
#: Every signal whose disposition can be set.
ALL = tuple(int(number) for number in _signal.valid_signals() if number not in (SIGKILL, SIGSTOP))


def ignored() -> frozenset[int]:
    """Return the signals that were ignored when cronlock started, and must be for the command."""
    return frozenset(
        number for number in ALL if _signal.getsignal(number) == _signal.SIG_IGN and number not in _INTERPRETERS_OWN
    )


def block_all() -> None:
    """Block all signals."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ALL)


def unblock_all() -> None:
    """Unblock all signals."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


class blocked:
    """A context in which signals are blocked, and delivered afterwards."""

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
    """End this process by signal `number`, as a shell script expects after Ctrl-C."""
    set_default(number)
    unblock_all()
    os.kill(os.getpid(), number)


def set_ignored(number: int) -> None:
    """Ignore signal `number`."""
    _signal.signal(number, _signal.SIG_IGN)


def reset_for_exec(ignored_at_start: frozenset[int]) -> None:
    """Set default dispositions, except for what was ignored at the start, and unblock all signals."""
    for number in ALL:
        disposition = _signal.SIG_IGN if number in ignored_at_start else _signal.SIG_DFL
        if _signal.getsignal(number) == disposition:
            continue
        try:
            _signal.signal(number, disposition)
        except OSError:
            pass  # The C library reserves some real-time signals.
    _signal.set_wakeup_fd(-1)
    unblock_all()


def wakeup_pipe() -> tuple[int, int]:
    """Return both ends of a non-blocking pipe for `_signal.set_wakeup_fd`."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def watch_children() -> int:
    """Return a descriptor that becomes readable when a child changes state; ignore signals from people.

    For the guard: a signal to its group, or to all processes named cronlock, must not end it before the command.
    """
    reader, writer = wakeup_pipe()
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*FORWARDED, SIGCONT, SIGTTIN, SIGTTOU, *_INTERPRETERS_OWN):
        set_ignored(number)
    _signal.signal(SIGCHLD, _do_nothing)
    return reader


def keep_awake(pid: int, parent: int) -> None:
    """Continue process `pid` ten times a second, should somebody stop it, from the first HUP after `parent` ended.

    For the backup guard, which has blocked all signals.
    """

    def wake(_number: int, _frame: FrameType | None) -> None:
        if os.getppid() == parent:
            return
        _signal.setitimer(_signal.ITIMER_REAL, 0.1)
        try:
            os.kill(pid, SIGCONT)
        except ProcessLookupError:
            pass  # Its end is about to be seen.

    # What the interpreter writes there, the guard would send on to the command.
    _signal.set_wakeup_fd(-1)
    for number in (SIGHUP, SIGALRM):
        _signal.signal(number, wake)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (SIGHUP, SIGALRM))


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """With a handler installed, the interpreter writes to the wakeup pipe."""


def drain(reader: int) -> bytes:
    """Return the content of a wakeup pipe: one byte for each signal, its number."""
    try:
        return os.read(reader, 4096)
    except BlockingIOError:
        return b""


class Signals:
    """The wrapper's signal handlers.

    The interpreter's C-level handler writes each signal's number into a pipe, even while a library keeps the
    interpreter busy. The wrapper reads this pipe before the command starts; afterwards the guard does, so that
    forwarding never waits for the wrapper.
    """

    __slots__ = ("_continued", "_on_continue", "_stop_asked", "_writer", "caught", "ignored", "reader", "started")

    def __init__(self) -> None:
        self.ignored = ignored()
        self.reader, self._writer = wakeup_pipe()
        #: The first of `ENDING` that arrived before the command started.
        self.caught: int | None = None
        #: True once signals are for the command.
        self.started = False
        #: True if somebody sent TSTP to the wrapper itself.
        self._stop_asked = False
        #: True if a CONT arrived since this was last cleared.
        self._continued = False
        self._on_continue: Callable[[], None] | None = None
        _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*FORWARDED, SIGCONT):
            self.handle(number)
        # If the caller ignored CHLD, the kernel would reap the guard itself.
        set_default(SIGCHLD)
        # The caller may have blocked signals.
        unblock_all()

    def sleep(self, seconds: float, wake: int | None = None) -> None:
        """Sleep, but return early on a signal of `ENDING` or when the descriptor `wake` becomes readable."""
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
        """From now on the guard reads the pipe, and each CONT calls `on_continue`.

        Returns False if a signal of `ENDING` arrived before: then nothing may start.
        """
        self._on_continue = on_continue
        self.started = True
        # Signals before the drain are for cronlock, later ones for the command.
        for number in drain(self.reader):
            if number in ENDING and self.caught is None:
                self.caught = number
        return self.caught is None

    def handle(self, number: int) -> None:
        """Install the handler for signal `number`, unless it was ignored at the start."""
        if number not in self.ignored:
            _signal.signal(number, self._note)

    def was_stop_asked(self, number: int) -> bool:
        """Return True once if the command's stop by `number` follows a TSTP to the wrapper itself."""
        asked, self._stop_asked = self._stop_asked, False
        return asked and number == SIGTSTP

    def stop(self, *, whole_group: bool) -> bool:
        """Stop this process, or its whole group, which is the shell's job; return True after a CONT.

        Returns False if it did not stop: the kernel does not stop an orphaned group, which nobody could continue.
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
                # A second signal means hurry: leave a lease to lapse.
                os._exit(128 + number)
            self.caught = number
