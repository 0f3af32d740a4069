"""The past runs of one key, in a file beside the key's: a ring of entries, and the last success.

Who is granted the key writes here which runs are past now, before the record in which his own
takes their place; until then that has them. So a crash loses none, and a run may stand in both:
readers know it by its owner. All of the file's space is taken at the first time, so that a disk
that fills up later costs no history either.

It is a file of its own since programs before it take a key's file that is longer for foreign.
"""

from __future__ import annotations

import os

from ...errors import ForeignValue
from ...lease import record
from ...lease.vocabulary import HISTORY
from .lockfile import open_plain, pwrite
from .state import decode_slot, encode_slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.vocabulary import Run

SUFFIX = ".runs"
#: Bytes of one entry: as much as the longest texts can take.
ENTRY = 1536
# Some more than are shown: a run may be here that the key's record says is not over.
_ENTRIES = HISTORY + 3
_SUCCESS = _ENTRIES * ENTRY
SIZE = _SUCCESS + ENTRY
# Of a fence, so that the beginnings of entries sort as their fences do, and blanks before them.
_DIGITS = 20
_HEAD = len(record.MAGIC) + len("\nfence=") + _DIGITS


def read(path: str) -> list[Run]:
    """Return the runs that `path` has, in no order; none where it is missing or cannot be read."""
    try:
        descriptor = open_plain(path, os.O_RDONLY)
        try:
            data = _load(descriptor, path)
        finally:
            os.close(descriptor)
    except (OSError, ForeignValue):
        return []
    found = [_decode(data[place : place + ENTRY]) for place in range(0, len(data), ENTRY)]
    return [run for run in found if run is not None]


def keep(path: str, runs: list[Run]) -> None:
    """Keep `runs`, each in its own place or that of the oldest.

    Raises OSError or ForeignValue when that cannot be. Only who has the key's lock may call this.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
    try:
        data = _load(descriptor, path)
        if len(data) < SIZE:
            data = _grow(descriptor, data)
        heads = [data[place : place + _HEAD] for place in range(0, _SUCCESS, ENTRY)]
        for run in runs:
            entry = _encode(run)
            head = entry[:_HEAD]
            number = heads.index(head if head in heads else min(heads))
            heads[number] = head
            for place in (number * ENTRY, _SUCCESS) if run.succeeded else (number * ENTRY,):
                if data[place : place + ENTRY] != entry:
                    pwrite(descriptor, entry, place)
    finally:
        os.close(descriptor)


def _load(descriptor: int, path: str) -> bytes:
    data = os.pread(descriptor, SIZE + 1, 0)
    heads = [data[place : place + _HEAD].strip(b"\0 ") for place in range(0, len(data), ENTRY)]
    if len(data) > SIZE or not all(head.startswith(record.MAGIC.encode()) for head in heads if head):
        raise ForeignValue(f"{path}: not a file of cronlock; remove it")
    return data


def _grow(descriptor: int, data: bytes) -> bytes:
    data = data.ljust(SIZE)
    try:
        pwrite(descriptor, data, 0)
    except OSError:
        # What was taken of a full disk is of more use to others.
        os.ftruncate(descriptor, 0)
        raise
    return data


def _encode(run: Run) -> bytes:
    fields = {"fence": "", **record.run_to_fields(run)}
    fields["fence"] = f"{run.fence or 0:0{_DIGITS}d}"
    return encode_slot(fields, ENTRY)


def _decode(entry: bytes) -> Run | None:
    try:
        return record.run_from_fields(decode_slot(entry))
    except ForeignValue:
        return None
