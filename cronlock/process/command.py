"""The command's processes: start them, signal them as a group, kill all of them."""

from __future__ import annotations

import errno
import time

from .. import errors
from ..system import os
from ..value import Value
from . import linux, signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds to wait for processes that KILL does not end.
UNKILLABLE_AFTER = 60.0

_SHELL = "/bin/sh"
_NONE: frozenset[int] = frozenset()


def environment(extra: dict[str, str], without: Iterable[str] = ()) -> dict[str, str]:
    """Return the command's environment: cronlock's own without the names `without`, plus `extra`.

    In a POSIX locale, such as cron's, the interpreter sets LC_CTYPE for itself and its children (PEP 538), which the
    command must not see.
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
    """The command and its process attributes."""

    argv: list[str]
    env: dict[str, str]
    #: Signals that were ignored when cronlock was started.
    ignored: frozenset[int]
    #: The terminal whose foreground the command becomes, or None.
    terminal: int | None
    #: A descriptor that the command inherits because a lock lives in it, or None.
    descriptor: int | None
    #: True: the kernel kills the command when the process that started it ends.
    die_with_guard: bool

    def start(self) -> tuple[int, int]:
        """Fork the command into its own process group; return its pid and a descriptor for `exec_failure`.

        The descriptor becomes readable after exec, which may take as long as the file system. Raises OSError.
        """
        reader, writer = os.pipe()
        parent = os.getpid()
        # Signals for the command wait until it has its own dispositions.
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
            os.setpgid(pid, pid)  # Parent and child both do it, whichever runs first.
        except OSError:
            pass  # The child did it, and has called exec.
        os.close(writer)
        return pid, reader

    def _become(self, parent: int) -> None:
        os.setpgid(0, 0)
        if self.terminal is not None:
            try:
                # The guard ignores TTOU, so a background process may do this.
                os.tcsetpgrp(self.terminal, os.getpid())
            except OSError:
                pass  # The terminal hung up.
        if self.die_with_guard:
            linux.signal_at_parents_end(signals.SIGKILL)
            if os.getppid() != parent:
                os._exit(errors.FAULT)  # The guard ended before the call.
        if self.descriptor is not None:
            os.set_inheritable(self.descriptor, True)
        signals.reset_for_exec(self.ignored)
        _exec(self.argv, self.env)


def exec_failure(descriptor: int) -> int:
    """Return errno of a failed exec, 0 after exec; close `descriptor`, which `Command.start` returned."""
    # A successful exec closes the pipe.
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
        path = f"{folder or '.'}/{name}"
        try:
            _exec_file(path, argv, env)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except PermissionError as error:
            # A later directory may have a usable one; otherwise report this error. As in a shell, a directory without
            # search permission counts as not found.
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
    """Return the exit status for a command that failed to start with errno `number`."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return errors.NOT_FOUND
    return errors.CANNOT_EXECUTE


def silence_standard_streams(null: int) -> None:
    """Replace standard input and output by `null`, a descriptor of /dev/null."""
    for descriptor in (0, 1):
        os.dup2(null, descriptor, inheritable=False)


def signal_group(group: int, number: int) -> None:
    """Send signal `number` to process group `group`, if it still exists."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass  # All dead, or all of another user.


def signal_all(number: int, group: int | None, *, spared: frozenset[int] = _NONE, but: frozenset[int] = _NONE) -> None:
    """Send signal `number` to all descendants of this process, and to process group `group`.

    Skip the processes `spared` with their descendants, and the processes `but` without theirs. Without /proc only the
    group can be reached. It must be None once its leader was reaped, since its number may belong to somebody else.
    """
    if group is not None:
        signal_group(group, number)
    if not linux.has_proc():
        return
    for pid in linux.descendants(os.getpid(), spared):
        if pid in but:
            continue
        try:
            # Once each: a second TERM may mean something else to the program.
            if group is None or os.getpgid(pid) != group:
                os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # Dead by now, or of another user: see UNKILLABLE_AFTER.


def reap(on_ended: dict[int, int], on_stopped: dict[int, int] | None = None) -> bool:
    """Reap children into `on_ended` (pid: wait status), note stops in `on_stopped` (pid: signal).

    Returns True if children are left.
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


def group_is_empty(group: int) -> bool:
    """Return True if process group `group` has no member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def kill_all(group: int | None, *, adopts: bool, spared: frozenset[int] = frozenset()) -> bool:
    """Send KILL to all descendants of this process except `spared` until none is left; True if so.

    Only for a subreaper (`adopts`) does the lack of children prove that. Gives up after UNKILLABLE_AFTER seconds on
    processes that are stuck in the kernel or of another user.
    """
    give_up = time.monotonic() + UNKILLABLE_AFTER
    pause = 0.002
    while True:
        signal_all(signals.SIGKILL, group, spared=spared)
        ended: dict[int, int] = {}
        if none_left(reap(ended), group, adopts=adopts, spared=spared):
            return True
        if adopts and group in ended and linux.has_proc():
            group = None  # Its other members are among the descendants.
        if time.monotonic() >= give_up:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.5)


def none_left(children: bool, group: int | None, *, adopts: bool, spared: frozenset[int] = frozenset()) -> bool:
    """Return True if every process of the command is known to be dead. `children` is the result of `reap`."""
    if group is not None and not adopts and not group_is_empty(group):
        return False
    if spared and linux.has_proc():
        return not linux.descendants(os.getpid(), spared)
    return not children


def exit_status(wait_status: int) -> int:
    """Return the status as a shell shows it: the command's own, or 128 + N after signal N."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else errors.SIGNAL_BASE - code
