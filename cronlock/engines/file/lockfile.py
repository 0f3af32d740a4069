"""A key's file, a plain file with two locks on it, and its directory.

One lock is the lease: flock(2), shared with every process that inherits the open file. The other is the turn to write
the record, for an instant: fcntl(2)'s lock of an open file. The two do not affect each other.
"""

from __future__ import annotations

import errno
import fcntl
import stat
import sys
import time

from ...errors import BackendError, BackendUnavailable, ForeignValue
from ...system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_REMEDIES = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space or raise the quota",
    errno.EROFS: "make its file system writable, or name another directory (--backend file:///DIR)",
    errno.EACCES: "run as the directory's owner, or name another one (--backend file:///DIR)",
    errno.EPERM: "run as the directory's owner, or name another one (--backend file:///DIR)",
    errno.ENOTDIR: "name a directory (--backend file:///DIR)",
    errno.ENOENT: "it cannot be made there, or someone removes it: name another directory",
}
# NONBLOCK: a pipe that lies in the file's place must not make us wait for its other end.
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Long enough for another process to go the few steps from its lock to its record.
_PAUSE = 0.001
_TURN: int | None = getattr(fcntl, "F_OFD_SETLK", None)
# Of a struct flock the first field is the kind, on each system that has such locks; zeros mean the whole file.
_TAKE = fcntl.F_WRLCK.to_bytes(2, sys.byteorder) + bytes(30)
_GIVE = fcntl.F_UNLCK.to_bytes(2, sys.byteorder) + bytes(30)


def pwrite(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a disk that is almost full takes a part without a word."""
    while data:
        done = os.pwrite(descriptor, data, offset)
        data, offset = data[done:], offset + done


def open_plain(path: str, flags: int) -> int:
    """Open the file of a key; raise ForeignValue when what is there cannot be one, OSError otherwise."""
    try:
        descriptor = os.open(path, flags | _OPEN, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ForeignValue(f"{path}: not a plain file; remove it, or name another directory in the URL") from None
        raise
    found = os.fstat(descriptor)
    if found.st_uid not in (0, os.geteuid()) and (flags & os.O_RDWR or found.st_uid != _owner_of_directory(path)):
        os.close(descriptor)
        raise ForeignValue(f"{path}: belongs to another user; remove it, or name another directory in the URL")
    # A second name of some other file would have us write into that one.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise ForeignValue(f"{path}: not a plain file with one name; remove it, or name another directory in the URL")
    return descriptor


def _owner_of_directory(path: str) -> int:
    # Root looks into a user's directory; what one user put into a place for all is not what others go by.
    return os.stat(os.path.dirname(path)).st_uid


def lock(descriptor: int, how: int) -> bool:
    """Take the lock as `how` says (LOCK_EX or LOCK_SH) without waiting; False if another has it."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(descriptor: int) -> bool:
    """Whether another open file has the lock for itself; readers do not count."""
    if not lock(descriptor, fcntl.LOCK_SH):
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def take_turn(descriptor: int, path: str) -> int | None:
    """Take the turn to write the record of the key's file, open to be written; None if another has it.

    What is returned is for `end_turn`. Also the end of all processes that have the open file ends it.
    """
    if _TURN is None:
        # Systems on which the two kinds of lock are one: the directory's lock stands in, for all of its files.
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
        if lock(directory, fcntl.LOCK_EX):
            return directory
        os.close(directory)
        return None
    try:
        fcntl.fcntl(descriptor, _TURN, _TAKE)
    except BlockingIOError:
        return None
    return descriptor


def end_turn(descriptor: int, turn: int) -> None:
    """Let others write the record."""
    if _TURN is None:
        os.close(turn)
    else:
        fcntl.fcntl(descriptor, _TURN, _GIVE)


def is_at(descriptor: int, path: str) -> bool:
    """Whether `path` still names the open file: if not, someone removed or replaced it."""
    ours = os.fstat(descriptor)
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def pause(path: str, deadline: float) -> None:
    """Let others go on, a while that is another each time. Raises BackendUnavailable behind the deadline."""
    if time.monotonic() >= deadline:
        raise BackendUnavailable(f"{path}: locked by a process that left no record; see lslocks(8)")
    time.sleep(_PAUSE * (1 + os.urandom(1)[0] / 64))


class OpenLeases:
    """The open files of this process whose locks are leases. Each lease has a number, from the record in its file.

    The lock lasts as long as any process has the file open: the command and the guard do.
    """

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}

    def find(self, key: str, path: str, number: int | None = None) -> int | None:
        """Return the file of our lease on `key`, if it is the one at `path`, and the lease is the one of `number`."""
        descriptor, ours = self._files.get(key, (-1, 0))
        return descriptor if descriptor >= 0 and number in (None, ours) and is_at(descriptor, path) else None

    def add(self, key: str, descriptor: int, number: int) -> None:
        """Have a lease, in the place of one that is no more."""
        self.let_go(key, unlock=False)
        self._files[key] = descriptor, number

    def let_go(self, key: str, *, unlock: bool) -> None:
        """Close the file, and `unlock` it for every process that has it open.

        Without `unlock` our command may still run: if it unlocked the file itself, the lock is taken again.
        """
        descriptor, _ = self._files.pop(key, (-1, 0))
        if descriptor >= 0:
            try:
                lock(descriptor, fcntl.LOCK_UN if unlock else fcntl.LOCK_EX)
            finally:
                os.close(descriptor)


def prepare_directory(directory: str) -> list[str]:
    """Make the directory if it is not there, and those above; return which were made, it last.

    Raises BackendError when others could meddle in it.
    """
    made = []
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        made = _make_directory(directory)
        found = os.lstat(directory)
    if stat.S_ISLNK(found.st_mode):
        raise BackendError(f"{directory} is a symbolic link; name the directory that it leads to in the URL")
    if found.st_uid not in (0, os.geteuid()):
        raise BackendError(f"{directory} belongs to another user; chown it, or name another directory in the URL")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise BackendError(f"{directory} can be written by everyone: chmod o-w {directory}")
    return made


def _make_directory(directory: str) -> list[str]:
    parent = os.path.dirname(directory)
    made = [] if os.path.exists(parent) else _make_directory(parent)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return made  # Another run made it just now.
    return [*made, directory]


def failure(error: OSError, path: str) -> BackendUnavailable:
    """Return what is raised for an error of the file system at `path`."""
    remedy = _REMEDIES.get(error.errno or 0, "")
    return BackendUnavailable(f"{path}: {error.strerror or error}" + (f"; {remedy}" if remedy else ""))


def remove(path: str, is_same: Callable[[int], bool], made: list[str], deadline: float) -> bool:
    """Remove a key's file if `is_same` confirms it and no process has it locked, and the directories `made` for it.

    Directories in use stay. False if the file is another than expected, or locked.
    """
    try:
        descriptor = open_plain(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = -1
    if descriptor >= 0:
        try:
            while (turn := take_turn(descriptor, path)) is None:
                pause(path, deadline)
            try:
                if not (is_at(descriptor, path) and is_same(descriptor) and lock(descriptor, fcntl.LOCK_EX)):
                    return False
                os.unlink(path)
            finally:
                end_turn(descriptor, turn)
        finally:
            os.close(descriptor)
    try:
        while made:
            os.rmdir(made.pop())
    except OSError:
        made.clear()
    return True
