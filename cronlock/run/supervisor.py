"""The wrapper while the command runs: renew, act for an overdue guard, stop and continue with the shell's job."""

from __future__ import annotations

import gc
import select

from ..config.options import COMMAND_VARIABLES
from ..errors import CronlockError
from ..lease import timing
from ..process import command as process
from ..process import guard, linux, protocol, signals
from ..system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..process.protocol import Ended, Message, NotStarted
    from ..process.signals import Signals
    from ..process.terminal import Terminal
    from .holding import Access, Holding

# Seconds between checks after the deadline while the guard has not reported.
_GUARD_CHECK_PERIOD = 0.2
# The least ttl with which a run listens for notifications: below, a renewal comes about as soon.
_LISTENING_TTL = 6 * timing.LISTEN_AFTER
# Seconds for a guard that was forked after the deadline to report that it starts nothing.
_LATE_GUARD_LIMIT = 5.0


class Supervisor:
    """The wrapper's side of a running command, with or without a lease."""

    def __init__(
        self,
        access: Access,
        signals: Signals,
        terminal: Terminal | None,
        holding: Holding | None,
        *,
        owner: str,
        null: int,
    ) -> None:
        """Fork the guard, which starts the command. Raises CronlockError. `null` is a descriptor of /dev/null."""
        self._settings = access.settings
        self._clock = access.clock
        self._log = access.log
        self._signals = signals
        self._terminal = terminal
        self._holding = holding
        self._loss_reported = False
        self._null = null
        self._poll = (
            timing.LOCAL_POLL if self._settings.poll is None and access.backend.traits.local else self._settings.poll
        )
        #: When to poll next for others' writes; None: only renewals find them.
        self._next_poll = self._clock.now() + self._poll if holding is not None and self._poll else None
        #: When to start listening for notifications; None: never, or started. Then their descriptor.
        self._listen_at: float | None = None
        if holding is not None and access.backend.traits.notifies and holding.grant.ttl > _LISTENING_TTL:
            self._listen_at = self._clock.now() + timing.LISTEN_AFTER
        self._listens = False
        self._notified: int | None = None
        config = self._guard_config(owner)
        #: True if this process adopts the guard's orphans, which it must kill if the guard dies before the command.
        self._adopts = linux.become_subreaper()
        #: Children that a shell left to cronlock by exec: not ours to kill.
        self._spared = frozenset(linux.children(os.getpid()))
        try:
            self._guard = guard.Guard(config)
        except OSError as error:
            raise CronlockError(f"cannot start a process: {error.strerror}; nothing was run") from error

    def _guard_config(self, owner: str) -> protocol.GuardConfig:
        settings, holding, terminal = self._settings, self._holding, self._terminal
        stop_on_loss = settings.on_lost == "stop"
        variables = {"CRONLOCK_KEY": settings.key, "CRONLOCK_OWNER": owner}
        if holding is not None:
            variables.update(holding.variables())
        foreground = terminal is not None and terminal.is_ours_to_give()
        descriptor = None if holding is None else holding.grant.descriptor
        plan = protocol.Plan(deadline=None, grace=settings.kill_after, kill_after=settings.kill_after)
        if holding is not None and stop_on_loss:
            plan = holding.plan()
        return protocol.GuardConfig(
            command=process.Command(
                settings.command,
                process.environment(variables, without=[name for name, _ in COMMAND_VARIABLES]),
                ignored=self._signals.ignored,
                terminal=terminal.descriptor if terminal is not None and foreground else None,
                descriptor=descriptor,
                die_with_guard=stop_on_loss,
            ),
            plan=plan,
            timeout=settings.timeout,
            stop_on_loss=stop_on_loss,
            # A file lock lasts as long as any process of the command; a lease lapses under them.
            backup=stop_on_loss and holding is not None and descriptor is None,
            signals=self._signals.reader,
            null=self._null,
            terminal=terminal,
            clock=self._clock,
            say=self._log.error,
        )

    def watch(self) -> Ended | NotStarted:
        """Renew until the guard's final report, and return it. Raises GuardDied."""
        alarm = linux.Alarm()
        self._poller = poll = select.poll()
        reports = self._guard.reports.descriptor
        for descriptor in (reports, alarm.descriptor):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while True:
            now = self._clock.now()
            alarm.set(None if self._holding is None else self._next_moment(self._holding, now))
            limit = alarm.poll_limit(now)
            ready = [descriptor for descriptor, _ in poll.poll(None if limit is None else limit * 1000 + 1)]
            if reports in ready:
                for report in self._guard.read_reports():
                    if isinstance(report, (protocol.Ended, protocol.NotStarted)):
                        return report
                    self._handle_report(report)
            elif self._holding is not None:
                if self._notified in ready and not self._holding.hear():
                    self._listen(None)
                self._act(self._holding)

    def _handle_report(self, report: Message) -> None:
        if isinstance(report, protocol.Forked):
            self._guard.command_pid, self._guard.pid = report.pid, report.guard
        elif isinstance(report, protocol.Started):
            process.silence_standard_streams(self._null)
        elif isinstance(report, protocol.Stopped):
            self._stop_with_the_command(report.signal)

    def _next_moment(self, holding: Holding, now: float) -> float | None:
        """Return when to wake up at the latest."""
        moments: list[float] = []
        if holding.next_renewal is not None:
            due_at = (holding.next_renewal, self._next_poll, self._listen_at)
            moments = [moment for moment in due_at if moment is not None]
        if self._settings.on_lost == "stop":
            due = self._guard_overdue_at(holding)
            moments.append(due if now < due else now + _GUARD_CHECK_PERIOD)
        return min(moments) if moments else None

    def _guard_overdue_at(self, holding: Holding) -> float:
        """Return by when the guard must have ended everything: the deadline, unless it was forked after that."""
        forked_at = self._guard.forked_at
        return holding.deadline if forked_at < holding.deadline else forked_at + _LATE_GUARD_LIMIT

    def _act(self, holding: Holding) -> None:
        now = self._clock.now()
        if now >= holding.deadline and self._settings.on_lost == "stop":
            holding.next_renewal = None
            if now >= self._guard_overdue_at(holding):
                self._act_for_guard()
        elif holding.next_renewal is not None and now >= holding.next_renewal:
            self._guard.wake()
            if not gc.isenabled():
                # Errors form reference cycles, so there may be garbage from here on. What the start made stays: looking
                # through it would copy pages that the guard shares.
                gc.freeze()
                gc.enable()
            if holding.renew():
                self._guard.renewed(holding.deadline)
                if holding.grant.stop is not None:
                    self._next_poll = self._listen_at = None
                    self._listen(None)
                    self._guard.stop(protocol.BY_REQUEST)
                elif self._listens:
                    self._listen(holding)
            elif self._settings.on_lost == "continue":
                self._warn_lost_once(holding)
            elif holding.lost:
                self._guard.stop(protocol.BY_LOSS)
        elif self._listen_at is not None and now >= self._listen_at:
            self._listen_at, self._listens = None, True
            self._listen(holding)
        elif self._next_poll is not None and now >= self._next_poll:
            self._next_poll = now + (self._poll or 0.0)
            if holding.stop_requested() and holding.next_renewal is not None:
                holding.next_renewal = now  # The renewal reads what was written.

    def _listen(self, holding: Holding | None) -> None:
        """Listen for notifications of the key of `holding`; None: stop listening."""
        if self._notified is not None:
            self._poller.unregister(self._notified)
        self._notified = None if holding is None else holding.listen()
        if self._notified is not None:
            self._poller.register(self._notified, select.POLLIN)

    def _act_for_guard(self) -> None:
        """Kill the command and wake the guard, which is overdue, probably because somebody stopped it."""
        # The guard may have reaped the command and freed its group's number, so use that only as a last resort.
        group = None if linux.has_proc() else self._guard.command_pid
        process.signal_all(signals.SIGKILL, group, spared=self._spared, but=self._guard.pids())
        self._guard.wake()

    def _warn_lost_once(self, holding: Holding) -> None:
        if not self._loss_reported and (holding.lost or self._clock.now() >= holding.deadline):
            self._loss_reported = True
            self._log.warning(f"lease lost ({holding.reason()}); the command continues (--on-lost continue)")

    def _stop_with_the_command(self, number: int) -> None:
        """Stop like the command, by signal `number`, as a shell expects of its job."""
        group, terminal = self._guard.command_pid or 0, self._terminal
        wants_terminal = number in (signals.SIGTTIN, signals.SIGTTOU)
        if wants_terminal and terminal is not None and terminal.lend(group):
            self._guard.send_continue()
            return
        by_terminal = terminal is not None and terminal.stopped_by(number, group)
        asked = self._signals.was_stop_asked(number)
        # Otherwise somebody stopped only the command: keep the lease meanwhile.
        if (by_terminal or asked) and not self._signals.stop(whole_group=not asked):
            self.go_on()

    def go_on(self) -> None:
        """Continue the command with the wrapper, in the foreground if that is ours."""
        if self._guard.command_pid is not None:
            if self._terminal is not None:
                self._terminal.give(self._guard.command_pid)
            self._guard.send_continue()

    def leave_terminal(self, ended: Ended) -> int | None:
        """Restore the terminal; return the signal of which cronlock must die like the command, or None."""
        if self._terminal is None:
            return None
        return self._terminal.leave(self._guard.command_pid or 0, ended.wait_status if ended.why is None else None)

    def end_all(self) -> bool:
        """Kill what a dead guard left behind; return True if all of it is known dead."""
        clean = process.kill_all(self._guard.command_pid, adopts=self._adopts, spared=self._spared)
        if self._terminal is not None:
            self._terminal.take_back(self._guard.command_pid or 0)
        return clean

    def close(self) -> None:
        """Wait for the guard's end."""
        self._guard.wait()
