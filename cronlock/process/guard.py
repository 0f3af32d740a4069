"""The wrapper's hold on its guard: a process that watches the command and the deadline, and does nothing else.

The wrapper talks to the backend, and any request may hang; the guard does no I/O but two pipes, so
nothing keeps it from ending the command in time. It is a child subreaper: every process that the
command leaves behind becomes its child, so "no child is left" means that all of them are dead.

Behind it may stand the backup guard, which is its parent and the wrapper's child, and does nothing
until the guard is killed: then it ends what the guard left. While the wrapper lives, that could do
so as well; but once both are killed, the kernel would end the command alone, not what that has
started. What ends over living processes needs it; a lock that they keep does not.
"""

from __future__ import annotations

import os

from . import command as process
from . import linux, protocol, signals, watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .protocol import GuardConfig, Message


class GuardDied(Exception):
    """The guard is gone without a last word."""


class Guard:
    """The wrapper's hold on its guard."""

    __slots__ = ("_backup", "_control", "child", "command_pid", "forked_at", "pid", "reports")

    def __init__(self, config: GuardConfig) -> None:
        """Fork the guard, which starts the command. There may be no other thread. Raises OSError."""
        theirs, self._control = os.pipe()
        mine, reports = os.pipe()
        self.reports = protocol.Pipe(mine)
        self.command_pid: int | None = None
        self._backup = config.backup
        #: The guard's own, once it has forked the command.
        self.pid: int | None = None
        # No signal may find the child with the wrapper's handlers.
        signals.block_all()
        try:
            #: From before the fork, by boot time.
            self.forked_at = config.clock.now()
            #: The backup guard, where there is one, else the guard.
            self.child = os.fork()
            if self.child == 0:
                os.close(self._control)
                os.close(mine)
                _run_guard(config, theirs, reports)
        finally:
            signals.unblock_all()
        os.close(theirs)
        os.close(reports)

    def renewed(self, deadline: float) -> None:
        """Move the deadline."""
        self._tell(protocol.Deadline(deadline))

    def stop(self, why: str) -> None:
        """Let the command be stopped, because of BY_..."""
        self._tell(protocol.Stop(why))

    def send_continue(self) -> None:
        """Send CONT to the command."""
        self._tell(protocol.Continue())

    def read_reports(self) -> list[Message]:
        """Return the reports that are there; raise GuardDied when there will be none."""
        reports = self.reports.read()
        if reports is None:
            raise GuardDied
        return reports

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
        """Return the pids of backup guard and guard."""
        if self.pid is not None:
            return frozenset((self.child, self.pid))
        return frozenset((self.child, *(linux.children(self.child) if self._backup else ())))

    def _tell(self, message: Message) -> None:
        if self._control < 0:
            return  # A CONT that comes while its end is waited for.
        try:
            os.write(self._control, message.line())
        except BrokenPipeError:
            pass  # Its reports' end says so.


def _run_guard(config: GuardConfig, control: int, reports: int) -> None:
    """Be the guard, and never return."""
    try:
        if config.backup:
            _fork_backup_guard(control, reports, config.null)
        watchdog.Watchdog(config, control, reports).run()
    except BaseException as error:
        # Only a fault of ours gets here. The wrapper sees the pipe's end and ends the command.
        config.say(f"the guard failed: {type(error).__name__}: {error}")
        os._exit(70)
    os._exit(0)


def _fork_backup_guard(control: int, reports: int, null: int) -> None:
    """Return as the guard, a child of this process, which stays to end what a killed guard leaves behind."""
    if not (linux.has_proc() and linux.become_subreaper()):
        return  # It would not find what is left.
    os.setpgid(0, 0)
    linux.set_name("cronlock-backup")
    try:
        guard = os.fork()
    except OSError:
        return  # The command needs a process as well, and says so if there is none.
    if guard == 0:
        return
    # Every signal but KILL and STOP is and stays blocked.
    for descriptor in (control, reports):
        os.close(descriptor)
    process.silence_standard_streams(null)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == guard:
            break
    # A guard that did its work leaves behind only what may live on.
    if status != 0:
        process.kill_all(None, adopts=True)
    os._exit(0)
