"""One run: acquire the lease, start the command, renew while it runs, release, say how it ended."""

from __future__ import annotations

import os
import select

from .. import durations, errors
from ..config.options import COMMAND_VARIABLES
from ..errors import BackendError, CronlockError, LeaseOver
from ..lease.vocabulary import EXITED, FORGOTTEN, LOST, NOT_STARTED, TIMED_OUT, Conflict
from ..process import command as process
from ..process import guard, linux, orders, signals
from .holder import Holder, Holding, noise
from .log import NOTICE, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..lease.clock import Clock
    from ..process.orders import Message
    from ..process.terminal import Terminal
    from .log import Log

# How soon to look again after the deadline, when the guard has not spoken.
_SILENCE = 0.2
# How long a guard that was forked behind the deadline, and so starts nothing, may take to say so.
_LATE_SILENCE = 5.0


class _Interrupted(Exception):
    """A signal asked to end before the command was started."""


class Job:
    """A run of `settings.command` under a lease on `settings.key`."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Raises ConfigError or UsageError for settings that cannot be served; asks nothing yet."""
        self._settings = settings
        self._clock = clock
        self._log = log
        self._holder = Holder(settings, clock, log)
        self._signals = signals.Signals()
        self._terminal = _terminal()
        self._guard: guard.Guard | None = None
        self._loss_said = False
        #: Children from before this program was executed: not ours to end.
        self._spared: frozenset[int] = frozenset()
        #: Whether orphans of the guard's become ours.
        self._adopts = False
        #: By boot time: when cronlock started, and when the command was about to.
        self._began = self._running_since = clock.now()
        #: The signal that Ctrl-C ended the command with, for cronlock to end by it as well.
        self._die_of: int | None = None

    def run(self) -> int:
        """Return the exit status. Raises CronlockError for what kept the command from running."""
        status = self._run()
        if self._die_of is not None:
            signals.die_of(self._die_of)
        return status

    def _run(self) -> int:
        try:
            if self._settings.jitter:
                self._pause(self._settings.jitter * noise())
            answer = self._holder.acquire(self._pause)
            if isinstance(answer, Conflict) and self._settings.standby:
                answer = self._stand_by(answer)
            if isinstance(answer, Conflict):
                return self._skip(answer)
            return self._run_under(answer)
        except _Interrupted:
            return errors.SIGNAL_BASE + (self._signals.caught or 0)
        except BackendError as error:
            return self._without_lease(error)
        finally:
            if self._guard is not None:
                self._guard.wait()
            self._holder.close()

    def _pause(self, seconds: float, wake: int | None = None) -> None:
        self._signals.sleep(seconds, wake)
        if self._signals.caught is not None:
            raise _Interrupted

    def _stand_by(self, conflict: Conflict) -> Holding | Conflict:
        from .standby import Standby

        standby = Standby(self._holder, self._clock, self._log, self._settings.standby, self._pause)
        answer = standby.wait(conflict)
        if standby.failure is not None:
            self._log.warning(f"standing by, the backend could not be asked, and nothing was run: {standby.failure}")
        return answer

    def _skip(self, conflict: Conflict) -> int:
        # Not another run's doing: somebody should know.
        level = WARNING if conflict.why == FORGOTTEN else NOTICE
        if self._log.tells_outcomes:
            from . import outcome

            self._log.outcome(*outcome.of_skip(self._settings, conflict, self._waited()), level=level)
        elif self._log.shows(level):
            from ..lease.describe import describe

            say = self._log.warning if level == WARNING else self._log.notice
            say(f"skipped: {describe(conflict)}")
        return self._settings.skip_status

    def _waited(self) -> float:
        return self._clock.now() - self._began

    def _without_lease(self, error: BackendError) -> int:
        # That the backend could be asked is known then: who asks to run without it does not mean beside another.
        over = self._settings.on_error == "run" and isinstance(error, LeaseOver)
        if over or self._settings.on_error == "fail":
            raise error
        if self._settings.on_error == "skip":
            if self._log.tells_outcomes:
                from . import outcome

                self._log.outcome(*outcome.of_error(self._settings, error, self._waited()))
            else:
                self._log.notice(f"skipped, as --on-error says: {error}")
            return self._settings.skip_status
        self._log.warning(f"running without a lease, as --on-error says: {error}")
        try:
            return self._run_under(None)
        except _Interrupted:
            return errors.SIGNAL_BASE + (self._signals.caught or 0)

    # Running.

    def _run_under(self, holding: Holding | None) -> int:
        """Run the command, under `holding` if there is one, and return the exit status."""
        self._running_since = self._clock.now()
        try:
            # From here on the guard passes signals on, the ones still in the pipe included.
            if not self._signals.hand_over(self._on_continue):
                raise _Interrupted
            watcher = self._guard = self._fork_guard(holding)
        except (_Interrupted, CronlockError):
            if holding is not None:
                self._holder.give_back(holding)
            raise
        try:
            report = self._watch(watcher, holding)
        except guard.GuardDied:
            return self._after_guards_death(watcher, holding)
        if not isinstance(report, orders.Ended):
            if holding is not None:
                self._holder.give_back(holding)
            assert isinstance(report, orders.NotStarted)
            status = self._not_started(report)
            self._tell(holding, NOT_STARTED, status)
            return status
        self._leave_terminal(watcher, report)
        return self._finish(report, holding)

    def _fork_guard(self, holding: Holding | None) -> guard.Guard:
        """Return the guard, which starts the command. Raises CronlockError when there can be no process."""
        settings = self._settings
        stop_on_loss = settings.on_lost == "stop"
        variables = {"CRONLOCK_KEY": settings.key, "CRONLOCK_OWNER": self._holder.owner}
        if holding is not None:
            variables.update(holding.variables())
        foreground = self._terminal is not None and self._terminal.is_ours_to_give()
        command = process.Command(
            settings.command,
            process.environment(variables, without=[name for name, _ in COMMAND_VARIABLES]),
            ignored=self._signals.ignored,
            terminal=self._terminal.descriptor if self._terminal is not None and foreground else None,
            descriptor=None if holding is None else holding.grant.descriptor,
            die_with_guard=stop_on_loss,
        )
        plan = orders.Plan(deadline=None, grace=settings.kill_after, kill_after=settings.kill_after)
        if holding is not None and stop_on_loss:
            plan = self._holder.plan(holding)
        told = orders.Orders(
            command=command,
            plan=plan,
            timeout=settings.timeout,
            stop_on_loss=stop_on_loss,
            # A lock lasts as long as any process of the command; a lease lapses over them.
            rear=stop_on_loss and holding is not None and holding.grant.descriptor is None,
            signals=self._signals.reader,
            terminal=self._terminal,
            clock=self._clock,
            say=self._log.error,
        )
        # If the guard dies before the command, what that started must become ours to end; but not
        # what a shell had started before it became cronlock by exec.
        self._adopts = linux.become_subreaper()
        self._spared = frozenset(linux.children(os.getpid()))
        try:
            return guard.Guard(told)
        except OSError as error:
            raise CronlockError(f"cannot start a process: {error.strerror}; nothing was run") from error

    def _not_started(self, report: orders.NotStarted) -> int:
        if report.error is None:
            raise LeaseOver("the lease was over before the command could be started")
        number = report.error
        status = process.start_failure(number)
        name = self._settings.command[0]
        if not name:
            why = "the command is empty"
        elif status == errors.NOT_FOUND:
            interpreter = "/" in name and os.path.exists(name)
            why = (
                f"{name}: its interpreter (the #! line) was not found" if interpreter else f"{name}: command not found"
            )
        else:
            why = f"{name}: cannot be executed: {'Is a directory' if os.path.isdir(name) else os.strerror(number)}"
        self._log.error(f"{why}; nothing was run")
        return status

    def _watch(self, watcher: guard.Guard, holding: Holding | None) -> Message:
        """Renew until the guard says how it ended, and return its words. Raises GuardDied."""
        alarm = linux.Alarm()
        poll = select.poll()
        for descriptor in (watcher.reports.descriptor, alarm.descriptor):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while True:
            now = self._clock.now()
            alarm.set(None if holding is None else self._next_moment(watcher, holding, now))
            limit = alarm.poll_limit(now)
            ready = [descriptor for descriptor, _ in poll.poll(None if limit is None else limit * 1000 + 1)]
            if watcher.reports.descriptor in ready:
                for report in watcher.read_reports():
                    if isinstance(report, (orders.Ended, orders.NotStarted)):
                        return report
                    self._heed(watcher, report)
            elif holding is not None:
                self._act(watcher, holding)

    def _heed(self, watcher: guard.Guard, report: Message) -> None:
        if isinstance(report, orders.Forked):
            watcher.command_pid, watcher.pid = report.pid, report.guard
        elif isinstance(report, orders.Started):
            process.silence_standard_streams()
        elif isinstance(report, orders.Stopped):
            self._on_stopped(watcher, report.signal)

    def _next_moment(self, watcher: guard.Guard, holding: Holding, now: float) -> float | None:
        """Return when the wrapper has something to do even if nothing happens."""
        moments = [] if holding.next_renewal is None else [holding.next_renewal]
        if self._settings.on_lost == "stop":
            due = _guards_work_is_due(watcher, holding)
            moments.append(due if now < due else now + _SILENCE)
        return min(moments) if moments else None

    def _act(self, watcher: guard.Guard, holding: Holding) -> None:
        now = self._clock.now()
        if now >= holding.deadline and self._settings.on_lost == "stop":
            holding.next_renewal = None
            if now < _guards_work_is_due(watcher, holding):
                return
            # The guard has ended everything by now. If somebody stopped it, do its work and wake it.
            # The guard may have reaped the command: its group's number is a last resort.
            group = None if linux.has_proc() else watcher.command_pid
            process.signal_all(signals.SIGKILL, group, spared=self._spared, but=watcher.pids())
            watcher.wake()
        elif holding.next_renewal is not None and now >= holding.next_renewal:
            watcher.wake()
            if self._holder.renew(holding):
                watcher.renewed(holding.deadline)
            elif self._settings.on_lost == "continue":
                self._say_lost_once(holding)
            elif holding.lost:
                watcher.stop(orders.BY_LOSS)

    def _say_lost_once(self, holding: Holding) -> None:
        if not self._loss_said and (holding.lost or self._clock.now() >= holding.deadline):
            self._loss_said = True
            self._log.warning(f"lease lost ({holding.reason()}); the command goes on, as --on-lost says")

    # Stops and the terminal.

    def _on_stopped(self, watcher: guard.Guard, number: int) -> None:
        """Stop with the command, as a shell expects of its job."""
        wants_terminal = number in (signals.SIGTTIN, signals.SIGTTOU)
        if wants_terminal and self._terminal is not None and self._terminal.lend(watcher.command_pid or 0):
            watcher.let_continue()
            return
        by_terminal = self._terminal is not None and (
            self._terminal.take_back(watcher.command_pid or 0)
            or number in (signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU)
        )
        asked = self._signals.stop_asked and number == signals.SIGTSTP
        self._signals.stop_asked = False
        if not by_terminal and not asked:
            return  # Somebody stopped just the command; the lease is kept meanwhile.
        self._signals.continued = False
        if asked:
            os.kill(os.getpid(), signals.SIGSTOP)
        else:
            # The whole group is what the shell knows as the job.
            signals.set_default(signals.SIGTSTP)
            os.killpg(0, signals.SIGTSTP)
            self._signals.handle(signals.SIGTSTP)
        if not self._signals.continued:
            # The kernel does not stop an orphaned group, since nobody could continue it.
            self._on_continue()

    def _on_continue(self) -> None:
        if self._guard is not None and self._guard.command_pid is not None:
            if self._terminal is not None:
                self._terminal.give(self._guard.command_pid)
            self._guard.let_continue()

    def _leave_terminal(self, watcher: guard.Guard, ended: orders.Ended) -> None:
        """Leave the terminal as it was; what Ctrl-C ended, ends the rest of a pipeline or script too."""
        if self._terminal is None or not self._terminal.take_back(watcher.command_pid or 0):
            return
        if ended.why is None and ended.wait_status is not None and os.WIFSIGNALED(ended.wait_status):
            number = os.WTERMSIG(ended.wait_status)
            if number in (signals.SIGINT, signals.SIGQUIT):
                signals.set_ignored(number)
                os.killpg(0, number)
            if number == signals.SIGINT:
                # A shell ends its script only for a child that died of it.
                self._die_of = number

    # Ending.

    def _finish(self, ended: orders.Ended, holding: Holding | None) -> int:
        """Say how it ended, release, and return the exit status."""
        status, outcome = _status(ended)
        ran_for = self._clock.now() - self._running_since
        leftover = "" if ended.clean else ", but not all that it started could be; the lease is left to lapse"
        if outcome == TIMED_OUT:
            after = durations.show(self._settings.timeout or 0.0)
            self._log.error(f"the command was stopped after --timeout {after}" + leftover)
        if holding is None:
            self._tell(None, outcome, status, ran_for)
            return status
        if outcome == LOST:
            self._log.error(f"lease lost ({holding.reason()}); the command was stopped" + leftover)
        if not holding.lost and (ended.clean or ended.why is None):
            self._holder.release(holding, outcome, status)
        self._tell(holding, outcome, status, ran_for)
        return status

    def _tell(self, holding: Holding | None, outcome: str, status: int, ran_for: float = 0.0) -> None:
        """Write the run's line of the outcome log, where one is asked for."""
        if self._log.tells_outcomes:
            from . import outcome as outcomes

            waited = self._running_since - self._began
            grant = None if holding is None else holding.grant
            told = outcomes.of_run(self._settings, grant, outcome, status, waited=waited, ran_for=ran_for)
            self._log.outcome(*told)

    def _after_guards_death(self, watcher: guard.Guard, holding: Holding | None) -> int:
        clean = process.kill_all(watcher.command_pid, adopts=self._adopts, spared=self._spared)
        if self._terminal is not None:
            self._terminal.take_back(watcher.command_pid or 0)
        if clean and holding is not None and not holding.lost:
            self._holder.release(holding, LOST, errors.FAULT)
        raise CronlockError("the guard process is gone; the command was ended, too")


def _guards_work_is_due(watcher: guard.Guard, holding: Holding) -> float:
    """Return when the guard must have ended everything: at the deadline, unless it was forked behind that."""
    return holding.deadline if watcher.forked_at < holding.deadline else watcher.forked_at + _LATE_SILENCE


def _terminal() -> Terminal | None:
    """Return the controlling terminal, or None without one, as under cron."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None
    from ..process.terminal import Terminal

    return Terminal(descriptor)


def _status(ended: orders.Ended) -> tuple[int, str]:
    """Return (exit status, outcome for the record)."""
    if ended.why == orders.BY_TIMEOUT:
        return errors.TIMEOUT, TIMED_OUT
    if ended.why in (None, orders.BY_SIGNAL) and ended.wait_status is not None:
        return process.exit_status(ended.wait_status), EXITED
    return errors.LOST, LOST
