"""The wrapper's handle on the guard, a process that only watches the command and the deadline.

The wrapper talks to the backend, where any request may hang. The guard does no I/O that can block, so nothing
delays it when it must stop the command. It is a child subreaper: whatever the command leaves behind becomes its
child, so once it has no child, all of these are dead.

A backup guard may sit above the guard, as its parent and the wrapper's child. If wrapper and guard are both killed,
the kernel kills only the command (PR_SET_PDEATHSIG); the backup guard kills its descendants. If the wrapper dies and
somebody has stopped the guard, or does so later, the backup guard continues it. The file backend needs none: its lock
lives as long as any descendant.
"""

from __future__ import annotations

from ..system import os
from . import command as process
from . import linux, protocol, signals, watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .protocol import GuardConfig, Message


class GuardDied(Exception):
    """The guard died without a final report."""


class Guard:
    """The wrapper's handle on its guard."""

    __slots__ = ("_backup", "_control", "child", "command_pid", "forked_at", "pid", "reports")

    def __init__(self, config: GuardConfig) -> None:
        """Fork the guard, which starts the command. The process must have no other thread. Raises OSError."""
        theirs, self._control = os.pipe()
        mine, reports = os.pipe()
        self.reports = protocol.Pipe(mine)
        self.command_pid: int | None = None
        self._backup = config.backup
        #: The guard's pid, once it has forked the command.
        self.pid: int | None = None
        # No signal may reach the child while it has the wrapper's handlers.
        signals.block_all()
        wrapper = os.getpid()
        try:
            #: Boot time before the fork.
            self.forked_at = config.clock.now()
            #: The pid of the backup guard, or of the guard without one.
            self.child = os.fork()
            if self.child == 0:
                os.close(self._control)
                os.close(mine)
                _run_guard(config, wrapper, theirs, reports)
        finally:
            signals.unblock_all()
        os.close(theirs)
        os.close(reports)

    def renewed(self, deadline: float) -> None:
        """Move the deadline."""
        self._send(protocol.Deadline(deadline))

    def stop(self, why: str) -> None:
        """Stop the command, for the reason BY_..."""
        self._send(protocol.Stop(why))

    def send_continue(self) -> None:
        """Send CONT to the command."""
        self._send(protocol.Continue())

    def read_reports(self) -> list[Message]:
        """Return the reports so far. Raises GuardDied if there can be no more."""
        reports = self.reports.read()
        if reports is None:
            raise GuardDied
        return reports

    def dismiss(self) -> None:
        """Close the control pipe, so that a guard without a command ends."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def wait(self) -> None:
        """Close the control pipe, and wait for the guard's end."""
        self.dismiss()
        self.wake()
        try:
            os.waitpid(self.child, 0)
        except ChildProcessError:
            pass  # Reaped already.

    def wake(self) -> None:
        """Continue a guard that somebody stopped, since it has a deadline to watch."""
        for pid in self.pids():
            try:
                os.kill(pid, signals.SIGCONT)
            except ProcessLookupError:
                pass  # Dead: the end of its reports shows that.

    def pids(self) -> frozenset[int]:
        """Return the pids of guard and backup guard."""
        if self.pid is not None:
            return frozenset((self.child, self.pid))
        return frozenset((self.child, *(linux.children(self.child) if self._backup else ())))

    def _send(self, message: Message) -> None:
        if self._control < 0:
            return  # A CONT arrived during `wait`.
        try:
            os.write(self._control, message.line())
        except BrokenPipeError:
            pass  # Dead: the end of its reports shows that.


def _run_guard(config: GuardConfig, wrapper: int, control: int, reports: int) -> None:
    """Run the guard, and exit."""
    try:
        if config.backup:
            _fork_backup_guard(wrapper, control, reports, config.null)
        watchdog.Watchdog(config, control, reports).run()
    except BaseException as error:
        # A bug in cronlock. The wrapper sees the end of the pipe, and kills the command.
        config.say(f"the guard failed: {type(error).__name__}: {error}")
        os._exit(70)
    os._exit(0)


def _fork_backup_guard(wrapper: int, control: int, reports: int, null: int) -> None:
    """Fork, and return as the guard. The parent becomes the backup guard, which kills what a killed guard leaves."""
    if not (linux.has_proc() and linux.become_subreaper()):
        return  # A backup guard could not find the descendants.
    os.setpgid(0, 0)
    linux.set_name("cronlock-backup")
    try:
        guard = os.fork()
    except OSError:
        return  # The command needs a process as well, and reports that it cannot have one.
    if guard == 0:
        return
    # Every signal except KILL, STOP and those of `keep_awake` stays blocked.
    signals.keep_awake(guard, wrapper)
    linux.signal_at_parents_end(signals.SIGHUP)
    os.kill(os.getpid(), signals.SIGHUP)  # Should the wrapper have ended before the call.
    for descriptor in (control, reports):
        os.close(descriptor)
    process.silence_standard_streams(null)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == guard:
            break
    signals.block_all()
    # A guard that exited by itself leaves only daemons, which may continue.
    if status != 0:
        process.kill_all(None, adopts=True)
    os._exit(0)
