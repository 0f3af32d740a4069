"""One run: acquire the lease, start the command, renew while it runs, release, log the outcome."""

from __future__ import annotations

from .. import durations, errors
from ..errors import BackendError, CronlockError, LeaseOver
from ..lease import timing
from ..lease.vocabulary import EXITED, LOST, NOT_STARTED, STATE_LOST, STOPPED, TIMED_OUT, Conflict
from ..process import signals
from ..system import os
from .acquisition import Acquisition
from .holding import Access
from .log import NOTICE, WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..lease.clock import Clock
    from ..process import protocol
    from ..process.terminal import Terminal
    from .holding import Holding
    from .log import Log
    from .supervisor import Supervisor


class _Interrupted(Exception):
    """A signal asked cronlock to end before the command started."""


class Job:
    """A run of `settings.command` under a lease on `settings.key`."""

    def __init__(self, settings: Settings, clock: Clock, log: Log) -> None:
        """Raises CronlockError for settings or a machine that cannot do it. Sends no request."""
        self._settings = settings
        self._clock = clock
        self._log = log
        self._access = Access(settings, clock, log)
        self._acquisition = Acquisition(self._access)
        self._signals = signals.Signals()
        self._terminal = _terminal()
        self._supervisor: Supervisor | None = None
        self._null = _null()
        #: Boot times at which cronlock started, and at which the command was about to start.
        self._began = self._running_since = clock.now()
        #: The signal by which Ctrl-C ended the command: cronlock dies of it as well.
        self._die_of: int | None = None

    def run(self) -> int:
        """Return the exit status. Raises CronlockError if the command could not run."""
        status = self._run()
        if self._die_of is not None:
            signals.die_of(self._die_of)
        return status

    def _run(self) -> int:
        try:
            if self._settings.jitter:
                self._pause(self._settings.jitter * timing.jitter())
            answer = self._acquisition.acquire(self._pause)
            if isinstance(answer, Conflict) and self._settings.standby:
                answer = self._stand_by(answer)
            if isinstance(answer, Conflict):
                return self._skip(answer)
            return self._run_under(answer)
        except _Interrupted:
            return self._interrupted()
        except BackendError as error:
            return self._without_lease(error)
        finally:
            if self._supervisor is not None:
                self._supervisor.close()
            self._access.backend.close()

    def _pause(self, seconds: float, wake: int | None = None) -> None:
        self._signals.sleep(seconds, wake)
        if self._signals.caught is not None:
            raise _Interrupted

    def _interrupted(self) -> int:
        return errors.SIGNAL_BASE + (self._signals.caught or 0)

    def _stand_by(self, conflict: Conflict) -> Holding | Conflict:
        from .standby import Standby

        standby = Standby(self._acquisition, self._settings.standby, self._pause)
        answer = standby.wait(conflict)
        if standby.failure is not None:
            self._log.warning(f"standby ended without an answer of the backend; nothing was run: {standby.failure}")
        return answer

    # Running nothing, or without a lease.

    def _skip(self, conflict: Conflict) -> int:
        # State loss is no ordinary skip: somebody should know.
        level = WARNING if conflict.why == STATE_LOST else NOTICE
        if self._log.logs_outcomes or self._log.shows(level):
            from . import outcome

            self._log.outcome(*outcome.of_skip(self._settings, conflict, self._waited()), level=level)
        return self._settings.skip_status

    def _waited(self) -> float:
        return self._clock.now() - self._began

    def _without_lease(self, error: BackendError) -> int:
        # LeaseOver means that the backend answered: --on-error run must not start a second run then.
        over = self._settings.on_error == "run" and isinstance(error, LeaseOver)
        if over or self._settings.on_error == "fail":
            raise error
        if self._settings.on_error == "skip":
            from . import outcome

            self._log.outcome(*outcome.of_error(self._settings, error, self._waited()))
            return self._settings.skip_status
        self._log.warning(f"running without a lease (--on-error run): {error}")
        try:
            return self._run_under(None)
        except _Interrupted:
            return self._interrupted()

    # Running.

    def _run_under(self, holding: Holding | None) -> int:
        """Run the command, with or without a lease, and return the exit status."""
        # Imported late: most runs of a fleet are skips, which need no process code.
        from ..process import guard, protocol
        from .supervisor import Supervisor

        self._running_since = self._clock.now()
        try:
            # From here on the guard forwards signals, including those still in the pipe.
            if not self._signals.transfer_to_guard(self._on_continue):
                raise _Interrupted
            owner = self._acquisition.owner
            supervisor = Supervisor(self._access, self._signals, self._terminal, holding, owner=owner, null=self._null)
        except (_Interrupted, CronlockError):
            if holding is not None:
                holding.give_back()
            raise
        self._supervisor = supervisor
        try:
            report = supervisor.watch()
        except guard.GuardDied:
            clean = supervisor.end_all()
            if clean and holding is not None and not holding.lost:
                holding.release(LOST, errors.FAULT, self._clock.now())
            raise CronlockError("the guard process died; the command was killed") from None
        if isinstance(report, protocol.Ended):
            self._die_of = supervisor.leave_terminal(report)
            return self._finish(report, holding)
        return self._not_started(report.error, holding)

    def _on_continue(self) -> None:
        if self._supervisor is not None:
            self._supervisor.go_on()

    # Ending.

    def _not_started(self, number: int | None, holding: Holding | None) -> int:
        """Report why the command could not be executed, by errno `number`, and return the exit status."""
        if number is None:
            if holding is not None:
                holding.give_back()
            raise LeaseOver("the lease expired before the command started")
        if holding is not None:
            holding.not_started()
        from ..process import command as process

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
        self._log_outcome(holding, NOT_STARTED, status)
        return status

    def _finish(self, ended: protocol.Ended, holding: Holding | None) -> int:
        """Report how the command ended, release, and return the exit status."""
        status, outcome = _status(ended)
        ran_for = ended.at - self._running_since
        leftover = "" if ended.clean else ", but processes that it started remain; the lease lapses by itself"
        if outcome == TIMED_OUT:
            after = durations.show(self._settings.timeout or 0.0)
            self._log.error(f"the command was stopped after --timeout {after}" + leftover)
        if holding is not None:
            if outcome == STOPPED and holding.grant.stop is not None:
                by = holding.grant.stop
                self._log.error(f"the command was stopped by {by.user} on {by.host}" + leftover)
            if outcome == LOST:
                self._log.error(f"lease lost ({holding.reason()}); the command was stopped" + leftover)
            # After --on-lost continue, too: the run has done its tick if nobody else began it.
            if (not holding.lost or outcome == EXITED) and (ended.clean or ended.why is None):
                holding.release(outcome, status, ended.at)
        self._log_outcome(holding, outcome, status, ran_for)
        return status

    def _log_outcome(self, holding: Holding | None, outcome: str, status: int, ran_for: float = 0.0) -> None:
        """Write the run's line of the outcome log, if enabled."""
        if self._log.logs_outcomes:
            from . import outcome as outcomes

            waited = self._running_since - self._began
            grant = None if holding is None else holding.grant
            line = outcomes.of_run(self._settings, grant, outcome, status, waited=waited, ran_for=ran_for)
            self._log.outcome(*line)


def _null() -> int:
    """Return a descriptor of /dev/null. Raises CronlockError."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError as error:
        raise CronlockError(f"{errors.cannot_open_null(error)}; nothing was run") from error


def _terminal() -> Terminal | None:
    """Return the controlling terminal, None without one, as under cron."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return None
    from ..process.terminal import Terminal

    return Terminal(descriptor)


def _status(ended: protocol.Ended) -> tuple[int, str]:
    """Return (exit status, outcome for the record)."""
    from ..process import command as process
    from ..process import protocol

    if ended.why == protocol.BY_TIMEOUT:
        return errors.TIMEOUT, TIMED_OUT
    if ended.why == protocol.BY_REQUEST:
        return errors.LOST, STOPPED
    if ended.why in (None, protocol.BY_SIGNAL) and ended.wait_status is not None:
        return process.exit_status(ended.wait_status), EXITED
    return errors.LOST, LOST
