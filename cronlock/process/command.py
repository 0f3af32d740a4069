"""The command's processes: started, signalled as a group, ended as a whole."""

from __future__ import annotations

import errno
import os
import time

from .. import errors
from ..value import Value
from . import linux, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: How long processes that even KILL does not end are waited for.
UNKILLABLE_AFTER = 60.0

_SHELL = "/bin/sh"
_NONE: frozenset[int] = frozenset()


def environment(extra: dict[str, str], without: Iterable[str] = ()) -> dict[str, str]:
    """Return what the command finds: cronlock's own environment, `without` these names, and `extra`.

    In a POSIX locale, as cron's, the interpreter sets LC_CTYPE for itself and its children (PEP
    538); the command must not see that.
    """
    result = dict(os.environ)
    for name in without:
        result.pop(name, None)
    if "LC_CTYPE" in result:
        initial = linux.initial_environment()
        if initial is not None:
            del result["LC_CTYPE"]
            if b"LC_CTYPE" in initial:
                result["LC_CTYPE"] = os.fsdecode(initial[b"LC_CTYPE"])
    result.update(extra)
    return result


class Command(Value):
    """What to start, and what it is to find. Made before any fork; see `start`."""

    argv: list[str]
    env: dict[str, str]
    #: Signals that were ignored when cronlock was started.
    ignored: frozenset[int]
    #: The terminal that the command gets into its foreground, or None.
    terminal: int | None
    #: A descriptor that the command inherits, since a lock lives in it, or None.
    descriptor: int | None
    #: Whether the kernel ends the command with the process that started it.
    die_with_guard: bool

    def start(self) -> tuple[int, int]:
        """Fork the command into a process group of its own; return its pid and a descriptor. Raises OSError.

        What can be read from the descriptor says whether it could be executed: see `exec_failure`. That
        may take as long as the file system wants.
        """
        reader, writer = os.pipe()
        parent = os.getpid()
        # What comes for the command before it has its own dispositions waits until it has.
        signals.block_all()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            signals.unblock_all()
            raise
        if pid == 0:
            try:
                self._become(parent)
            except OSError as error:
                os.write(writer, str(error.errno or errno.ENOEXEC).encode())
            except BaseException:
                os.write(writer, str(errno.EINVAL).encode())
            finally:
                os._exit(errors.FAULT)
        signals.unblock_all()
        try:
            os.setpgid(pid, pid)  # Both sides do it, so that neither finds it undone.
        except OSError:
            pass  # It did, and is past exec already.
        os.close(writer)
        return pid, reader

    def _become(self, parent: int) -> None:
        os.setpgid(0, 0)
        if self.terminal is not None:
            try:
                # TTOU is ignored up to here: a background process may do this then.
                os.tcsetpgrp(self.terminal, os.getpid())
            except OSError:
                pass  # The terminal went away meanwhile.
        if self.die_with_guard:
            linux.die_with_parent(signals.SIGKILL)
            if os.getppid() != parent:
                os._exit(errors.FAULT)  # It ended before we asked to be told.
        if self.descriptor is not None:
            os.set_inheritable(self.descriptor, True)
        signals.reset_for_exec(self.ignored)
        _exec(self.argv, self.env)


def exec_failure(descriptor: int) -> int:
    """Return errno of the exec behind a descriptor from `Command.start`, 0 if there was none, and close it."""
    # Closed by exec, so that this is the end of file or the reason why there was no exec.
    report = os.read(descriptor, 16)
    os.close(descriptor)
    return int(report or b"0")


def _exec(argv: list[str], env: dict[str, str]) -> None:
    """Run `argv` as execvp(3) does: by PATH, and by the shell if it is a script without ``#!``."""
    name = argv[0]
    if not name:
        raise FileNotFoundError(errno.ENOENT, "empty name")
    if "/" in name:
        _exec_file(name, argv, env)
        return
    found: OSError | None = None
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder or ".", name)
        try:
            _exec_file(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except PermissionError as error:
            # Another one further on may do; if none does, this is the reason to give. Where the folder may not be
            # searched, it is as for a shell: not found there.
            if os.path.exists(path):
                found = error
    raise found or FileNotFoundError(errno.ENOENT, "not found")


def _exec_file(path: str, argv: list[str], env: dict[str, str]) -> None:
    try:
        os.execve(path, argv, env)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve(_SHELL, [_SHELL, path, *argv[1:]], env)


def start_failure(number: int) -> int:
    """Return the exit status for a command that could not be started because of errno `number`."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return errors.NOT_FOUND
    return errors.CANNOT_EXECUTE


def silence_standard_streams(null: int) -> None:
    """Put `null`, a descriptor of /dev/null, in place of standard input and output."""
    for descriptor in (0, 1):
        os.dup2(null, descriptor, inheritable=False)


def signal_group(group: int, number: int) -> None:
    """Send signal `number` to process group `group`, if there still is one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # All gone, or all of another user by now.


def signal_all(number: int, group: int | None, *, spared: frozenset[int] = _NONE, but: frozenset[int] = _NONE) -> None:
    """Send signal `number` to all that descends from this process, and to process group `group`.

    Left alone are the processes `spared` with their descendants, and `but` without their own. The
    group is all that can be reached without /proc; it must be None once its leader was reaped,
    since its number may be another's by then.
    """
    if group is not None:
        signal_group(group, number)
    if not linux.has_proc():
        return
    for pid in linux.descendants(os.getpid(), spared):
        if pid in but:
            continue
        try:
            # Once each: a second TERM may mean something else to a program.
            if group is None or os.getpgid(pid) != group:
                os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # Ended meanwhile, or of another user: UNKILLABLE_AFTER is for those.


def reap(on_ended: dict[int, int], on_stopped: dict[int, int] | None = None) -> bool:
    """Collect the ends of children, by pid, into `on_ended` (wait status), and stops likewise.

    Returns whether there are children left.
    """
    flags = os.WNOHANG | (0 if on_stopped is None else os.WUNTRACED)
    while True:
        try:
            pid, status = os.waitpid(-1, flags)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if os.WIFSTOPPED(status):
            if on_stopped is not None:
                on_stopped[pid] = os.WSTOPSIG(status)
        else:
            on_ended[pid] = status


def group_is_gone(group: int) -> bool:
    """Return whether process group `group` has no member left that could be signalled."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def kill_all(group: int | None, *, adopts: bool, spared: frozenset[int] = frozenset()) -> bool:
    """KILL all descendants of this process but `spared`, again and again; True when none is left.

    `adopts` says whether this process is a subreaper: only then is the lack of children a proof.
    Gives up after UNKILLABLE_AFTER: such are stuck in the kernel, or another user's.
    """
    give_up = time.monotonic() + UNKILLABLE_AFTER
    pause = 0.002
    while True:
        signal_all(signals.SIGKILL, group, spared=spared)
        ended: dict[int, int] = {}
        if none_left(reap(ended), group, adopts=adopts, spared=spared):
            return True
        if adopts and group in ended and linux.has_proc():
            group = None  # What is left of it is among the descendants.
        if time.monotonic() >= give_up:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.5)


def none_left(children: bool, group: int | None, *, adopts: bool, spared: frozenset[int] = frozenset()) -> bool:
    """Return whether every process of the command is known dead, when `reap` left `children` or not."""
    if group is not None and not adopts and not group_is_gone(group):
        return False
    if spared and linux.has_proc():
        return not linux.descendants(os.getpid(), spared)
    return not children


def exit_status(wait_status: int) -> int:
    """Return what a shell would show: the command's status, or 128 + N for signal N."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else errors.SIGNAL_BASE - code
