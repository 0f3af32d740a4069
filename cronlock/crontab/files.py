"""Read a crontab's file, and replace it so that cron never sees half of it."""

from __future__ import annotations

import os
import shutil
import sys

from ..errors import ConfigError


def read(file: str | None) -> str:
    """Return the text of `file` or of standard input, with surrogates for bytes that are not UTF-8.

    Raises ConfigError.
    """
    try:
        if file is None:
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:
                data = opened.read()
    except OSError as error:
        raise ConfigError(f"cannot read {file or 'standard input'}: {error.strerror}") from None
    return data.decode("utf-8", "surrogateescape")


def replace(file: str, text: str) -> str:
    """Replace the content of `file` by `text`; return the name of the backup. Raises ConfigError."""
    target = os.path.realpath(file)
    # cron ignores files in /etc/cron.d that begin with a dot or end in ~.
    fresh = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}~")
    try:
        backup = _back_up(target)
        before = os.stat(target).st_mtime
        _write(fresh, text.encode("utf-8", "surrogateescape"), target)
        # cron and `crontab -e` compare modification times, in whole seconds.
        status = os.stat(fresh)
        if int(status.st_mtime) <= int(before):
            os.utime(fresh, (status.st_atime, int(before) + 1))
        os.rename(fresh, target)
    except OSError as error:
        if os.path.lexists(fresh):
            os.unlink(fresh)
        raise ConfigError(f"cannot change {file}: {error.strerror}") from None
    return backup


def _back_up(target: str) -> str:
    """Copy `target` to an unused name that ends in ``~``, and return the name."""
    with open(target, "rb") as opened:
        data = opened.read()
    backup, count = f"{target}~", 1
    while True:
        try:
            _write(backup, data, target)
        except FileExistsError:
            count += 1
            backup = f"{target}.~{count}~"
        else:
            shutil.copystat(target, backup)
            return backup


def _write(path: str, data: bytes, like: str) -> None:
    """Create and sync the file `path` with `data` and the owner and mode of the file `like`."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:
        status = os.stat(like)
        try:
            os.fchown(opened.fileno(), status.st_uid, status.st_gid)
        except PermissionError:
            pass  # The file's group is not one of this user's, who becomes the owner anyway.
        os.fchmod(opened.fileno(), status.st_mode & 0o7777)
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
