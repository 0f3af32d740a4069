"""The record in a key's file: two slots that are written by turns, each with a number and a checksum.

The newest whole one counts, so that a write cut short leaves the one before it. Nothing is synced: after a crash of
the machine no lock is left anyway, no hold counts, and fences go by the time. A slot is one line, fields between
tabs, and the cell's data behind it:

    cronlock=2<TAB>slot<TAB>CHECKSUM<TAB>number, length of the data, ttl, since, boot, hold_until, key
"""

from __future__ import annotations

import binascii

from ...errors import ConfigError, ForeignValue
from ...keys import escape, unescape
from ...lease.store import Cell
from ...system import os
from ...value import Value, digits
from .lockfile import open_plain, pwrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.clock import Clock
    from ...lease.store import Hold

_OTHERWISE = "name another directory in the URL"
_MAGIC = b"cronlock=2\tslot\t"
_OLDER = b"cronlock=1"
_CRC = 8
#: Bytes. The longest record that the rules can make takes 31,000, with the longest key.
SLOT = 32768
SIZE = 2 * SLOT
#: Of the names of keys' files.
SUFFIX = ".lock"


class FileCell(Cell):
    """A key's file and its lock, as seen at one moment."""

    #: The hold's end by the boot clock; 0.0 for no hold.
    hold_until: float = 0.0


class Slot(Value):
    """The content of a key's file."""

    #: The number of writes of the record; 0 for no record.
    number: int = 0
    #: The ttl of the last lease, in seconds; 0.0 once it was ended.
    ttl: float = 0.0
    #: The number of the swap that took the lock for it; 0 once it was ended, be its lock still there.
    since: int = 0
    #: The boot that it was written in.
    boot: str = ""
    #: The hold's end on the clock of that boot; 0.0 for no hold.
    hold_until: float = 0.0
    key: str = ""
    data: bytes | None = None

    def version(self) -> tuple[int, bytes | None]:
        """Return what never comes twice: a crash may repeat the number, and the data has a random part."""
        return self.number, self.data

    def show(self, clock: Clock, locked: bool, descriptor: int | None = None) -> FileCell:
        """Return the cell as it is now; `descriptor` is of our own lease, if it is that."""
        wall = clock.wall()
        return FileCell(
            data=self.data,
            version=self.version(),
            lease=self.ttl if locked else 0.0,
            hold=max(0.0, self.hold_until - clock.now()),
            floor=int(wall * 1e6),
            time=wall,
            descriptor=descriptor,
            hold_until=self.hold_until,
        )

    def held_until(self, hold: Hold, clock: Clock) -> float:
        """Return the end of the hold once a swap asks for `hold`."""
        if isinstance(hold, Cell):
            return hold.hold_until if isinstance(hold, FileCell) else 0.0
        return max(self.hold_until, clock.now() + hold if hold else 0.0)


def load(descriptor: int, path: str, boot: str) -> Slot:
    """Return what the file says in the boot of this id: a hold of another one is over.

    Raises ForeignValue when another program wrote it.
    """
    slot = _load(descriptor, path)
    return slot if slot.boot == boot else slot.but(boot=boot, hold_until=0.0)


def list_keys(directory: str) -> Iterator[str]:
    """List the keys that the records in the directory name, but those of others, and what is not for us to read."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if name.endswith(SUFFIX):
            path = os.path.join(directory, name)
            try:
                descriptor = open_plain(path, os.O_RDONLY)
                try:
                    key = _load(descriptor, path).key
                finally:
                    os.close(descriptor)
            except (OSError, ForeignValue):
                continue
            if key:
                yield key


def _load(descriptor: int, path: str) -> Slot:
    try:
        return _read(descriptor, path)
    except ValueError:
        pass
    # A concurrent read may see a torn first record, but not twice.
    try:
        return _read(descriptor, path)
    except ValueError:
        raise ForeignValue.at(path, "not a file of cronlock", _OTHERWISE) from None


def _read(descriptor: int, path: str) -> Slot:
    data = os.pread(descriptor, SIZE + 1, 0)
    texts = (data[:SLOT], data[SLOT:SIZE])
    start = data.lstrip(b"\0 ")[: len(_OLDER)]
    if start == _OLDER:
        raise ForeignValue.at(path, "a file of an older, unreleased layout of cronlock", _OTHERWISE)
    # A file without any slot of ours, whole or torn, is foreign.
    if len(data) > SIZE or (start and not any(text.startswith(_MAGIC) for text in texts)):
        raise ValueError
    return max((decode_slot(text) for text in texts), key=lambda slot: slot.number)


def save(descriptor: int, slot: Slot, path: str) -> None:
    """Write the record over the older one; raise OSError, and ConfigError for one that is too long."""
    text = encode_slot(slot)
    if len(text) > SLOT:
        raise ConfigError(
            f"{path}: a record of {len(text)} bytes has no room; shorten the names of key, host and program, "
            "or remove the file"
        )
    size = os.fstat(descriptor).st_size
    if size < SIZE:
        # All of the file's space now, so that a disk that fills up later stops no release.
        try:
            pwrite(descriptor, bytes(SIZE - size), size)
        except OSError:
            # Gives a full disk its space back.
            os.ftruncate(descriptor, size)
            raise
    pwrite(descriptor, text, slot.number % 2 * SLOT)


def encode_slot(slot: Slot) -> bytes:
    """Return the text of one slot, with its checksum."""
    data = slot.data or b""
    words = (slot.number, len(data), repr(slot.ttl), slot.since, slot.boot, repr(slot.hold_until), escape(slot.key))
    body = "\t".join(map(str, words)).encode("ascii") + b"\n" + data
    return b"%b%08x\t%b" % (_MAGIC, binascii.crc32(body), body)


def decode_slot(text: bytes) -> Slot:
    """Undo `encode_slot`, whatever follows; return a blank slot for a torn write.

    Raises ValueError for a whole but malformed one.
    """
    start = len(_MAGIC) + _CRC + 1
    end = text.find(b"\n", start)
    words = text[start:end].split(b"\t")
    if end < 0 or not text.startswith(_MAGIC) or len(words) < 7 or not words[1][:6].isdigit():
        return Slot()
    body = text[start : end + 1 + int(words[1][:6])]
    if text[len(_MAGIC) : start] != b"%08x\t" % binascii.crc32(body):
        return Slot()
    number, _, ttl, since, boot, hold_until, key = (word.decode("ascii") for word in words[:7])
    count, began = digits(number), digits(since)
    if count is None or began is None or not (0 <= float(ttl) < 1e15 and abs(float(hold_until)) < 1e15):
        raise ValueError
    return Slot(
        number=count,
        ttl=float(ttl),
        since=began,
        boot=boot,
        hold_until=float(hold_until),
        key=unescape(key),
        data=body[end + 1 - start :],
    )
