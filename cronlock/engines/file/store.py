"""Cells in files of one machine: ``file:///DIRECTORY``.

Each key has one file, never renamed or unlinked. The lease is the kernel's lock on it (flock(2)), which the command
inherits with the open file: it lasts as long as any process of the job, whatever its ttl, so the remaining time is
always the whole ttl. The file also holds the record (see `slots`). A second lock, held for an instant, orders the
writers. So a forced release of another's lease is a write as well: it marks the lease as ended in the record, but
cannot take the lock of a living process. That process's next swap is refused, and then it closes the file.

A reader tests the lock by taking it shared for an instant. So an exclusive attempt that fails is repeated.
"""

from __future__ import annotations

import fcntl
import time

from ...errors import CronlockError, ForeignValue
from ...keys import bounded
from ...lease.clock import SystemClock, boot_id
from ...lease.store import Cell
from ...lease.vocabulary import Traits
from ...system import os
from . import lockfile
from .lockfile import failure, open_plain
from .mounts import directory_of, refuse_network
from .slots import SUFFIX, FileCell, Slot, list_keys, load, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.clock import Clock
    from ...lease.store import Hold
    from ..url import URL

# A file name has at most 255 bytes.
_LONGEST_NAME = 255 - len(SUFFIX)


def open_store(url: URL, timeout: float) -> FileStore:
    """Return the store of the URL's directory; raise ConfigError for another URL, or a network file system."""
    return FileStore(directory_of(url), timeout)


class FileStore:
    """The `Store` protocol on the files of `directory`."""

    traits = Traits(shortest_ttl=1.0, longest_ttl=365 * 86400.0, local=True)

    def __init__(
        self, directory: str, timeout: float, clock: Clock | None = None, mountinfo: str = "/proc/self/mountinfo"
    ) -> None:
        """Raise ConfigError when `mountinfo` shows that `directory` is on a network file system."""
        refuse_network(directory, mountinfo)
        self.timeout = timeout
        self.notices: list[str] = []
        self.directory = directory
        #: It and those above it, as far as they were made here.
        self.made: list[str] = []
        self._clock: Clock = clock or SystemClock()
        self._boot = boot_id()
        self._leases = lockfile.OpenLeases()

    def read(self, key: str, deadline: float, *, exact: bool = False) -> FileCell:  # noqa: ARG002 - it always is
        """Read the record and test the lock."""
        path = self.location(key)
        try:
            descriptor = open_plain(path, os.O_RDONLY)
            try:
                while True:
                    slot, locked = load(descriptor, path, self._boot), lockfile.is_locked(descriptor)
                    # A lock without a lease in the record is just being taken or given up. A lease without a lock is
                    # of a dead run, unless the run ended between the two reads.
                    if locked == bool(slot.ttl) or (not locked and load(descriptor, path, self._boot) == slot):
                        return slot.show(self._clock, locked, self._leases.find(key, path, slot.since))
                    lockfile.pause(path, deadline)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return Slot().show(self._clock, locked=False)
        except OSError as error:
            raise failure(error, path) from error

    def swap(
        self, key: str, seen: Cell, data: bytes, *, lease: float | None, hold: Hold, deadline: float
    ) -> tuple[bool, FileCell]:
        """Write the record in its turn; before that lock for a lease that is to be, after it unlock one that ends.

        A lease of ours is unlocked even if the record of its end cannot be written: its hold stays as it was.
        """
        path = self.location(key)
        try:
            while True:
                done, cell = self._try(key, path, seen, data, lease, hold)
                if done is None:
                    cell = self.read(key, deadline)
                if lease is not None and cell.descriptor is None:
                    self._leases.let_go(key, unlock=lease == 0.0)
                if done is not None:
                    return done, cell
                held = lease and cell.lease and cell.descriptor is None
                if cell.version != seen.version or (held and time.monotonic() >= deadline):
                    return False, cell
                lockfile.pause(path, deadline)
        except (OSError, CronlockError) as error:
            if lease == 0.0 and seen.descriptor is not None:
                self._leases.let_go(key, unlock=True)
            if isinstance(error, OSError):
                raise failure(error, path) from error
            raise

    def remove(self, key: str, seen: Cell, deadline: float) -> bool:
        """Remove the key's file in its turn, and the directories that were made here unless they are in use."""
        path = self.location(key)
        try:
            is_same = lambda file: load(file, path, self._boot).version() == seen.version  # noqa: E731
            return lockfile.remove(path, is_same, self.made, deadline)
        except OSError as error:
            raise failure(error, self.directory) from error

    def location(self, key: str) -> str:
        """Return the path of the key's file."""
        return f"{self.directory}/{bounded(key, _LONGEST_NAME)}{SUFFIX}"

    def keys(self) -> Iterator[str]:
        """List the keys that the records in the directory name."""
        try:
            yield from list_keys(self.directory)
        except OSError as error:
            raise failure(error, self.directory) from error

    def watch(self, key: str) -> None:
        """Return None: the end of a lock wakes only processes that wait in flock(2)."""

    def uptime(self, key: str, deadline: float) -> None:
        """Return None: a machine that starts has no lock left of before."""

    def close(self) -> None:
        """Do nothing: open files are the leases, and they end with the process or by a swap."""

    def _try(
        self, key: str, path: str, seen: Cell, data: bytes, lease: float | None, hold: Hold
    ) -> tuple[bool | None, FileCell]:
        """Return whether it was done, and the cell; None and no cell if it takes another look."""
        # An open file of our lease serves all requests, even on a disk that turned read-only.
        keep = mine = self._leases.find(key, path) if lease is not None else None
        descriptor = self._open(path, seen) if mine is None else mine
        if descriptor is None:
            return None, _NOTHING
        turn = None
        try:
            turn = lockfile.take_turn(descriptor, path)
            if turn is None or not lockfile.is_at(descriptor, path):
                return None, _NOTHING
            slot = load(descriptor, path, self._boot)
            ours = self._leases.find(key, path, slot.since) if mine is not None else None
            if slot.version() != seen.version and mine is not None:
                return False, slot.show(self._clock, locked=True, descriptor=ours)
            if slot.version() != seen.version or ours != mine:
                return None, _NOTHING
            if lease and ours is None and seen.descriptor is not None:
                raise ForeignValue(f"{path}: a copy is in the place of the file that this run has locked")
            after = slot.but(number=slot.number + 1, key=key, data=data)
            after.hold_until = slot.held_until(hold, self._clock)
            if lease:
                if not lockfile.lock(descriptor, fcntl.LOCK_EX):
                    return None, _NOTHING
                after.ttl, after.since, locked = lease, after.number if ours is None else slot.since, True
            else:
                # If our command unlocked the file, another run may have locked it.
                lost = ours is None or not lockfile.lock(descriptor, fcntl.LOCK_EX)
                locked = lost and lockfile.is_locked(descriptor)
                if lease is not None:
                    after.ttl, after.since = slot.ttl if locked else 0.0, 0
            save(descriptor, after, path)
            if lease and ours is None:
                keep = descriptor
                self._leases.add(key, descriptor, after.since)
            kept = descriptor if lease else self._leases.find(key, path, after.since)
            return True, after.show(self._clock, locked, kept)
        finally:
            if turn is not None:
                lockfile.end_turn(descriptor, turn)
            if descriptor != keep:
                os.close(descriptor)

    def _open(self, path: str, seen: Cell) -> int | None:
        """Open the key's file to be written, new if nothing was seen; None if what was seen is gone."""
        if seen.descriptor is None:
            self.made += lockfile.prepare_directory(self.directory)
        try:
            return open_plain(path, os.O_RDWR | (os.O_CREAT if seen.data is None else 0))
        except FileNotFoundError:
            if seen.data is None:
                raise
            return None


#: The unused cell of an attempt that must be repeated.
_NOTHING = FileCell()
