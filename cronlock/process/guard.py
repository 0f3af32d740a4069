"""The guard: a process that watches the command and the deadline, and does nothing else.

The wrapper talks to the backend, and any request may hang; the guard does no I/O but two pipes, so
nothing keeps it from ending the command in time. It is a child subreaper: every process that the
command leaves behind becomes its child, so "no child is left" means that all of them are dead.

Behind it may stand the rear guard, which is its parent and the wrapper's child, and does nothing
until the guard is killed: then it ends what the guard left. While the wrapper lives, that could do
so as well; but once both are killed, the kernel would end the command alone, not what that has
started. What ends over living processes needs it; a lock that they keep does not.

Lines on the pipes, each written at once and shorter than PIPE_BUF:

    wrapper -> guard  deadline DEADLINE
                      stop WHY
                      continue
    guard -> wrapper  forked PID GUARDS-PID
                      started               (the command was executed)
                      failed ERRNO          (it could not be)
                      late                  (the deadline had passed before)
                      stopped SIGNAL
                      ended WHY WAIT-STATUS CLEAN   (WHY: - for by itself)
"""

from __future__ import annotations

import errno
import os
import select

from . import command as process
from . import deadlines, linux, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .command import Command
    from .deadlines import Clock, Plan
    from .terminal import Terminal


class Orders:
    """What the guard is told at its birth; what changes comes through the pipe."""

    __slots__ = ("clock", "command", "plan", "rear", "say", "signals", "stop_on_loss", "terminal", "timeout")

    def __init__(
        self,
        *,
        command: Command,
        plan: Plan,
        timeout: float | None,
        stop_on_loss: bool,
        rear: bool,
        signals: int,
        terminal: Terminal | None,
        clock: Clock,
        say: Callable[[str], None],
    ) -> None:
        self.command = command
        #: Deadline and graces, as of now.
        self.plan = plan
        #: The command's longest run time, from its start.
        self.timeout = timeout
        #: Whether the command is stopped when the wrapper is gone.
        self.stop_on_loss = stop_on_loss
        #: Whether a rear guard ends what a killed guard leaves when the wrapper cannot.
        self.rear = rear
        #: Descriptor from which the numbers of signals for the command are read.
        self.signals = signals
        #: To be given back for a wrapper that died.
        self.terminal = terminal
        self.clock = clock
        #: Tells a person what the wrapper no longer can.
        self.say = say


class Ended:
    """The guard's last word."""

    __slots__ = ("clean", "wait_status", "why")

    def __init__(self, why: str | None, wait_status: int | None, clean: bool) -> None:
        #: One of timing.BY_..., or None when the command ended by itself.
        self.why = why
        self.wait_status = wait_status
        #: Whether every process of the command is known dead.
        self.clean = clean

    @classmethod
    def from_report(cls, words: list[str]) -> Ended:
        """Return what an ``ended`` line says."""
        _, why, wait_status, clean = words
        return cls(None if why == "-" else why, None if wait_status == "-" else int(wait_status), clean == "1")


class GuardDied(Exception):
    """The guard is gone without a last word."""


class Guard:
    """The wrapper's hold on its guard."""

    __slots__ = ("_buffer", "_control", "_rear", "child", "command_pid", "forked_at", "pid", "reports")

    def __init__(self, orders: Orders) -> None:
        """Fork the guard, which starts the command. There may be no other thread. Raises OSError."""
        theirs, self._control = os.pipe()
        self.reports, reports = os.pipe()
        self._buffer = b""
        self.command_pid: int | None = None
        self._rear = orders.rear
        #: The guard's own, once it has forked the command.
        self.pid: int | None = None
        # No signal may find the child with the wrapper's handlers.
        signals.block_all()
        try:
            #: From before the fork, by boot time.
            self.forked_at = orders.clock.now()
            #: The rear guard, where there is one, else the guard.
            self.child = os.fork()
            if self.child == 0:
                os.close(self._control)
                os.close(self.reports)
                _live(orders, theirs, reports)
        finally:
            signals.unblock_all()
        os.close(theirs)
        os.close(reports)

    def renewed(self, deadline: float) -> None:
        """Move the deadline."""
        self._tell("deadline", repr(deadline))

    def stop(self, why: str) -> None:
        """Let the command be stopped, because of timing.BY_..."""
        self._tell("stop", why)

    def let_continue(self) -> None:
        """Send CONT to the command."""
        self._tell("continue")

    def read_reports(self) -> list[list[str]]:
        """Return the words of each report that is there; raise GuardDied when there will be none."""
        data = os.read(self.reports, 4096)
        if not data:
            raise GuardDied
        *complete, self._buffer = (self._buffer + data).split(b"\n")
        return [line.decode().split(" ") for line in complete]

    def dismiss(self) -> None:
        """Let a guard go that has no command: it ends at the end of file."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def wait(self) -> None:
        """Wait for the guard's end, which it comes to when it has no more wrapper."""
        self.dismiss()
        self.wake()
        try:
            os.waitpid(self.child, 0)
        except ChildProcessError:
            pass  # Collected already.

    def wake(self) -> None:
        """Continue a guard that somebody stopped; it has a deadline to watch."""
        for pid in self.pids():
            try:
                os.kill(pid, signals.SIGCONT)
            except ProcessLookupError:
                pass  # Its reports' end says so.

    def pids(self) -> frozenset[int]:
        """Return the pids of rear guard and guard."""
        if self.pid is not None:
            return frozenset((self.child, self.pid))
        return frozenset((self.child, *(linux.children(self.child) if self._rear else ())))

    def _tell(self, *words: str) -> None:
        if self._control < 0:
            return  # A CONT that comes while its end is waited for.
        try:
            os.write(self._control, (" ".join(words) + "\n").encode())
        except BrokenPipeError:
            pass  # Its reports' end says so.


def _live(orders: Orders, control: int, reports: int) -> None:
    """Be the guard, and never return."""
    try:
        if orders.rear:
            _leave_rear_guard(control, reports)
        _Watch(orders, control, reports).live()
    except BaseException as error:
        # Only a fault of ours gets here. The wrapper sees the pipe's end and ends the command.
        orders.say(f"the guard failed: {type(error).__name__}: {error}")
        os._exit(70)
    os._exit(0)


def _leave_rear_guard(control: int, reports: int) -> None:
    """Return as the guard, a child of this process, which stays to end what a killed guard leaves behind."""
    if not (linux.has_proc() and linux.become_subreaper()):
        return  # It would not find what is left.
    os.setpgid(0, 0)
    linux.set_name("cronlock-rear")
    try:
        guard = os.fork()
    except OSError:
        return  # The command needs a process as well, and says so if there is none.
    if guard == 0:
        return
    # Every signal but KILL and STOP is and stays blocked.
    for descriptor in (control, reports):
        os.close(descriptor)
    silence_standard_streams()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == guard:
            break
    # A guard that did its work leaves behind only what may live on.
    if status != 0:
        process.kill_all(None, adopts=True)
    os._exit(0)


class _Watch:
    """The guard's own side."""

    def __init__(self, orders: Orders, control: int, reports: int) -> None:
        self._orders = orders
        self._control = control
        self._reports = reports
        self._buffer = b""
        # A group of its own: what a terminal or a caller sends to the wrapper's is not for us.
        os.setpgid(0, 0)
        linux.set_name("cronlock-guard")
        self._children = signals.watch_children()
        signals.unblock_all()
        self._adopts = linux.become_subreaper()
        # A wrapper that is stopped reads nothing; that must not stop the guard as well.
        os.set_blocking(reports, False)
        self._alarm = linux.Alarm()
        self._poll = select.poll()
        for descriptor in (control, self._children, self._alarm.descriptor):
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)
        #: The command's, which is its group's too; None if it was not started.
        self._pid: int | None = None
        #: Where to read whether it could be executed.
        self._exec = -1
        self._wait_status: int | None = None
        self._forwarded: set[int] = set()
        self._plan = orders.plan
        self._over = False

    def live(self) -> None:
        """Start the command, and watch until there is nothing left to watch."""
        self._start()
        while not self._over:
            now = self._orders.clock.now()
            # Before anything else: whatever woke us, it may be late.
            action, why, wake = deadlines.decide(now, self._plan)
            if action == deadlines.TERMINATE and why is not None:
                self._terminate(why)
            elif action == deadlines.KILL:
                self._finish(clean=process.kill_all(self._group(), adopts=self._adopts))
            else:
                self._alarm.set(wake)
                self._wait(self._alarm.poll_limit(now))

    def _wait(self, limit: float | None) -> None:
        ready = {descriptor for descriptor, _ in self._poll.poll(None if limit is None else limit * 1000 + 1)}
        if self._exec in ready:
            self._executed()
        if self._children in ready and not self._over:
            signals.drain(self._children)
            self._collect()
        if self._control in ready and not self._over:
            self._obey()
        if self._orders.signals in ready and not self._over:
            self._forward()

    def _obey(self) -> None:
        data = os.read(self._control, 4096)
        if not data:
            self._poll.unregister(self._control)
            if self._orders.stop_on_loss:
                self._terminate(deadlines.BY_WRAPPER)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            words = line.decode().split(" ")
            if words[0] == "deadline":
                if self._plan.deadline is not None:
                    self._plan.deadline = float(words[1])
            elif words[0] == "stop":
                self._terminate(words[1])
            elif words[0] == "continue":
                self._signal_group(signals.SIGCONT)

    def _start(self) -> None:
        orders, now = self._orders, self._orders.clock.now()
        if deadlines.decide(now, self._plan)[0] != deadlines.WAIT:
            self._report("late")
            self._over = True
            return
        try:
            self._pid, self._exec = orders.command.start()
        except OSError as error:
            self._fail(error.errno or errno.EAGAIN)
            return
        self._report("forked", self._pid, os.getpid())
        if orders.timeout is not None:
            self._plan.limit = now + orders.timeout
        self._poll.register(self._exec, select.POLLIN)
        self._poll.register(orders.signals, select.POLLIN)

    def _executed(self) -> None:
        self._poll.unregister(self._exec)
        failure = process.exec_failure(self._exec)
        if failure:
            self._fail(failure)
            return
        self._report("started")
        # Whoever reads what the command writes must see its end when the command closes it.
        silence_standard_streams()

    def _fail(self, number: int) -> None:
        self._report("failed", number)
        self._over = True

    def _forward(self) -> None:
        for number in signals.drain(self._orders.signals):
            # Reaped: its pid may belong to somebody else by now.
            if number in signals.FORWARDED:
                self._forwarded.add(number)
                self._signal_group(number)

    def _signal_group(self, number: int) -> None:
        group = self._group()
        if group is not None:
            process.signal_group(group, number)

    def _collect(self) -> None:
        ended: dict[int, int] = {}
        stopped: dict[int, int] = {}
        children_left = process.reap(ended, stopped)
        if self._pid is None:
            return
        if self._pid in stopped and self._pid not in ended:
            self._report("stopped", stopped[self._pid])
        if self._pid in ended:
            self._wait_status = ended[self._pid]
            if self._plan.stop is None:
                if not (children_left and self._died_of_forwarded()):
                    # The run is over; a daemon that it left on purpose lives on.
                    self._finish(clean=not children_left)
                    return
                self._terminate(deadlines.BY_SIGNAL)
        stopping = self._plan.stop is not None and self._wait_status is not None
        if stopping and process.none_left(children_left, self._pid, adopts=self._adopts):
            self._finish(clean=True)

    def _died_of_forwarded(self) -> bool:
        assert self._wait_status is not None
        return os.WIFSIGNALED(self._wait_status) and os.WTERMSIG(self._wait_status) in self._forwarded

    def _terminate(self, why: str) -> None:
        if self._plan.stop is None and self._pid is not None:
            self._plan.begin_stop(why, self._orders.clock.now())
            process.signal_all(signals.SIGTERM, self._group())
            # A stopped process takes notice only when it goes on.
            process.signal_all(signals.SIGCONT, self._group())

    def _finish(self, *, clean: bool) -> None:
        why = self._plan.stop
        descriptor = self._orders.command.descriptor
        if clean and why is not None and descriptor is not None:
            # A wrapper that stays stopped shares this lock; it must not keep the key for ever.
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_UN)
        status = "-" if self._wait_status is None else self._wait_status
        self._report("ended", why or "-", status, int(clean))
        if why == deadlines.BY_WRAPPER:
            if self._orders.terminal is not None and self._pid is not None:
                self._orders.terminal.take_back(self._pid)
            self._orders.say(
                "the cronlock process was killed; the command was stopped"
                + ("" if clean else ", but not all that it started could be")
            )
        self._over = True

    def _group(self) -> int | None:
        """Return the command's process group, None once its number may be somebody else's."""
        if self._wait_status is None or not (self._adopts and linux.has_proc()):
            # Where descendants cannot be found, it is the only way to what is left of the group;
            # and as long as anything is, nobody else gets the number.
            return self._pid
        return None

    def _report(self, *words: object) -> None:
        try:
            os.write(self._reports, (" ".join(map(str, words)) + "\n").encode())
        except BrokenPipeError:
            pass  # The wrapper died; its pipe's end says the same.
        except BlockingIOError:
            pass  # It has thousands to read before, and sees the pipe's end behind them.


def silence_standard_streams() -> None:
    """Put /dev/null in place of standard input and output."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        if null != descriptor:
            os.dup2(null, descriptor, inheritable=False)
    if null > 1:
        os.close(null)
