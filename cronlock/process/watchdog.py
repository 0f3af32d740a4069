"""The guard's loop: watch the command and the deadline until the command has ended."""

from __future__ import annotations

import errno
import select

from ..system import os
from . import command as process
from . import linux, protocol, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .protocol import GuardConfig, Message


class Watchdog:
    """The guard, in a process of its own."""

    def __init__(self, config: GuardConfig, control: int, reports: int) -> None:
        self._config = config
        self._control = protocol.Pipe(control)
        self._reports = reports
        # A group of its own: signals to the wrapper's group are not for the guard.
        os.setpgid(0, 0)
        linux.set_name("cronlock-guard")
        self._children = signals.watch_children()
        signals.unblock_all()
        self._adopts = linux.become_subreaper()
        # A stopped wrapper reads nothing, which must not block the guard.
        os.set_blocking(reports, False)
        self._alarm = linux.Alarm()
        self._poll = select.poll()
        for descriptor in (control, self._children, self._alarm.descriptor):
            if descriptor >= 0:
                self._poll.register(descriptor, select.POLLIN)
        #: The command's pid and process group; None if it was not started.
        self._pid: int | None = None
        #: The descriptor that reports an exec failure.
        self._exec = -1
        self._wait_status: int | None = None
        self._forwarded: set[int] = set()
        self._plan = config.plan
        self._over = False

    def run(self) -> None:
        """Start the command, and watch it until it has ended."""
        self._start()
        while not self._over:
            now = self._config.clock.now()
            # First test the deadline: this may be a late wake-up.
            action, why, wake = protocol.decide(now, self._plan)
            if action == protocol.TERMINATE and why is not None:
                self._terminate(why)
            elif action == protocol.KILL:
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
        if self._control.descriptor in ready and not self._over:
            self._handle_control()
        if self._config.signals in ready and not self._over:
            self._forward()

    def _handle_control(self) -> None:
        messages = self._control.read()
        if messages is None:
            self._poll.unregister(self._control.descriptor)
            if self._config.stop_on_loss:
                self._terminate(protocol.BY_WRAPPER)
            return
        for message in messages:
            if isinstance(message, protocol.Deadline):
                if self._plan.deadline is not None:
                    self._plan.deadline = message.moment
            elif isinstance(message, protocol.Stop):
                self._terminate(message.why)
            else:
                self._signal_group(signals.SIGCONT)

    def _start(self) -> None:
        now = self._config.clock.now()
        if protocol.decide(now, self._plan)[0] != protocol.WAIT:
            self._report_not_started(None)
            return
        try:
            self._pid, self._exec = self._config.command.start()
        except OSError as error:
            self._report_not_started(error.errno or errno.EAGAIN)
            return
        self._report(protocol.Forked(self._pid, os.getpid()))
        if self._config.timeout is not None:
            self._plan.limit = now + self._config.timeout
        self._poll.register(self._exec, select.POLLIN)
        self._poll.register(self._config.signals, select.POLLIN)

    def _executed(self) -> None:
        self._poll.unregister(self._exec)
        failure = process.exec_failure(self._exec)
        if failure:
            self._report_not_started(failure)
            return
        self._report(protocol.Started())
        # Readers of the command's output must see the end of file when the command closes it.
        process.silence_standard_streams(self._config.null)

    def _report_not_started(self, error: int | None) -> None:
        self._report(protocol.NotStarted(error))
        self._over = True

    def _forward(self) -> None:
        for number in signals.drain(self._config.signals):
            # `_signal_group` skips a reaped command, whose pid may belong to somebody else by now.
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
            self._report(protocol.Stopped(stopped[self._pid]))
        if self._pid in ended:
            self._wait_status = ended[self._pid]
            if self._plan.stop is None:
                if not (children_left and self._died_of_forwarded()):
                    # The run is over; a daemon that it left on purpose continues.
                    self._finish(clean=not children_left)
                    return
                self._terminate(protocol.BY_SIGNAL)
        stopping = self._plan.stop is not None and self._wait_status is not None
        if stopping and process.none_left(children_left, self._pid, adopts=self._adopts):
            self._finish(clean=True)

    def _died_of_forwarded(self) -> bool:
        assert self._wait_status is not None
        return os.WIFSIGNALED(self._wait_status) and os.WTERMSIG(self._wait_status) in self._forwarded

    def _terminate(self, why: str) -> None:
        if self._plan.stop is None and self._pid is not None:
            self._plan.begin_stop(why, self._config.clock.now())
            process.signal_all(signals.SIGTERM, self._group())
            # A stopped process handles TERM only after CONT.
            process.signal_all(signals.SIGCONT, self._group())

    def _finish(self, *, clean: bool) -> None:
        why = self._plan.stop
        descriptor = self._config.command.descriptor
        if clean and why is not None and descriptor is not None:
            # A stopped wrapper shares this lock, and must not keep the key for ever.
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._report(protocol.Ended(why, self._wait_status, clean, self._config.clock.now()))
        if why == protocol.BY_WRAPPER:
            if self._config.terminal is not None and self._pid is not None:
                self._config.terminal.take_back(self._pid)
            self._config.say(
                "the cronlock process was killed; the command was stopped"
                + ("" if clean else ", but not all that it started could be")
            )
        self._over = True

    def _group(self) -> int | None:
        """Return the command's process group; None once its number may belong to somebody else."""
        if self._wait_status is None or not (self._adopts and linux.has_proc()):
            # If descendants cannot be found, only the group reaches them, and its number is not reused while it has a
            # member.
            return self._pid
        return None

    def _report(self, message: Message) -> None:
        try:
            os.write(self._reports, message.line())
        except BrokenPipeError:
            pass  # The wrapper died: the end of the control pipe shows that.
        except BlockingIOError:
            pass  # The wrapper has thousands of reports to read, and sees the end of the pipe after them.
