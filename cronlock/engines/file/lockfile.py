"""The file of one key as a plain file with a lock on it, and the directory that it lies in."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ...errors import BackendError, BackendUnavailable, ForeignValue

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
    if flags & os.O_RDWR and found.st_uid not in (0, os.geteuid()):
        os.close(descriptor)
        raise ForeignValue(f"{path}: belongs to another user; remove it, or name another directory in the URL")
    # A second name of some other file would have us write into that one.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise ForeignValue(f"{path}: not a plain file with one name; remove it, or name another directory in the URL")
    return descriptor


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


def is_at(descriptor: int, path: str) -> bool:
    """Whether `path` still names the open file: if not, someone removed or replaced it."""
    ours = os.fstat(descriptor)
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def prepare_directory(directory: str) -> None:
    """Make the directory if it is not there; raise BackendError when others could meddle in it."""
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        _make_directory(directory)
        found = os.lstat(directory)
    if stat.S_ISLNK(found.st_mode):
        raise BackendError(f"{directory} is a symbolic link; name the directory that it leads to in the URL")
    if found.st_uid not in (0, os.geteuid()):
        raise BackendError(f"{directory} belongs to another user; chown it, or name another directory in the URL")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise BackendError(f"{directory} can be written by everyone: chmod o-w {directory}")


def _make_directory(directory: str) -> None:
    parent = os.path.dirname(directory)
    if not os.path.exists(parent):
        _make_directory(parent)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass  # Another run made it just now.


def failure(error: OSError, path: str) -> BackendUnavailable:
    """Return what is raised for an error of the file system at `path`."""
    remedy = _REMEDIES.get(error.errno or 0, "")
    return BackendUnavailable(f"{path}: {error.strerror or error}" + (f"; {remedy}" if remedy else ""))
