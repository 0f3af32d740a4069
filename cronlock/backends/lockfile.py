"""The file of one key: two slots for the record, one for a forced release, and a lock on the whole."""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import stat

from .. import record
from ..errors import ForeignValue

SLOT = 4096
REVOKED_AT = 2 * SLOT
SIZE = 3 * SLOT
# NONBLOCK: a pipe that lies in the file's place must not make us wait for its other end.
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class State:
    """What a key's file says."""

    __slots__ = ("boot", "fence", "hold_until", "key", "last", "new", "number", "revoked", "run")

    def __init__(self, fields: dict[str, str], revoked: str, *, new: bool) -> None:
        #: How often the record was written; 0 if there is none.
        self.number = int(fields.get("number", "0"))
        self.key = fields.get("key", "")
        self.fence = int(fields.get("fence", "0"))
        #: The hold's end on the boot clock of the boot of this id.
        self.boot = fields.get("boot", "")
        self.hold_until = float(fields.get("hold_until", "0"))
        self.run = record.run_from_fields(fields, "run.")
        self.last = record.run_from_fields(fields, "last.")
        #: The owner that the lease or the hold was taken from.
        self.revoked = revoked
        #: Nothing of the file was ever written.
        self.new = new


def load(descriptor: int, path: str) -> State:
    """Return what the file says; raise ForeignValue when another program wrote it."""
    data = os.pread(descriptor, SIZE + 1, 0)
    slots = [data[:SLOT], data[SLOT:REVOKED_AT], data[REVOKED_AT:SIZE]]
    blank = not data.strip(b"\0 ")
    try:
        # A file without any slot of ours, whole or torn, is somebody else's.
        if len(data) > SIZE or not (blank or any(slot.startswith(record.MAGIC.encode()) for slot in slots)):
            raise ForeignValue("")
        first, second, taken = (_decode_slot(slot) for slot in slots)
        newest = max((first, second), key=lambda fields: int(fields.get("number", "0")))
        return State(newest, taken.get("revoked", ""), new=len(data) < SIZE)
    except (ForeignValue, ValueError):
        raise ForeignValue(f"{path}: not a file of cronlock; remove it, or name another directory in the URL") from None


def encode_slot(fields: dict[str, str]) -> bytes:
    """Return the text of one slot, whole and with its checksum."""
    body = record.encode(fields)
    slot = body + b"crc=%08x\n" % binascii.crc32(body)
    assert len(slot) <= SLOT, "a record is too long for its slot"
    return slot.ljust(SLOT)


def _decode_slot(slot: bytes) -> dict[str, str]:
    """Return a slot's fields; none if it was not written as a whole."""
    body, _, checksum = slot.rpartition(b"crc=")
    if checksum[:8] != b"%08x" % binascii.crc32(body) or not body:
        return {}
    return record.decode(body)


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
