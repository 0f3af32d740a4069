"""Leases in files of one machine: ``file:///DIRECTORY``.

One file per key, never renamed or unlinked, locked with flock(2) for the life of the run. The
lock belongs to the open file, which the command inherits: the kernel frees it when the last
process of the job is gone, so a ttl is never waited for, and what is called the remaining time
of a live lease is its whole ttl. All else about the key is a record in the file:

- two slots, written by turns by whoever has the lock. Each has a number and a checksum; the
  newest whole one counts, so that a write cut short leaves the one before it. Nothing is
  synced: after a crash of the machine no hold is left anyway, and fences go by the time.
- a third slot for the owner that `force_release` took the lease from, written without the lock
  by whoever asks, since the lock of a living process cannot be taken. Its next renewal is
  answered "no longer ours", its run stops, and then the key is free.

The runs before lie in a file of their own beside it, see `runsfile`.

A reader tests the lock by taking it shared for an instant. So whoever fails to take it for
himself tests again, shared: only if that fails too, someone holds the key.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ...errors import BackendUnavailable, ConfigError, ForeignValue
from ...keys import bounded
from ...lease import record
from ...lease.clock import SystemClock, boot_id
from ...lease.vocabulary import CANCELLED, ENDED, HELD, Conflict, Grant, Record, Traits
from ..url import URL
from . import runsfile
from .lockfile import failure, is_at, is_locked, lock, open_plain, prepare_directory
from .mounts import refuse_network
from .state import State, load, revoke, save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...lease.clock import Clock
    from ...lease.vocabulary import Claim, Ending, Run

_DAY = 86400.0
_SUFFIX = ".lock"
# A file name has at most 255 bytes.
_LONGEST_NAME = 255 - max(len(_SUFFIX), len(runsfile.SUFFIX))
# Long enough for another process to go the few steps from its lock to its record.
_PAUSE = 0.001


def open_backend(url: URL, timeout: float) -> FileBackend:
    """Return the backend of the URL's directory, which is made when a key is taken first.

    Raises ConfigError when the URL names more than a directory, or one on a network file system.
    """
    if url.hosts or url.user or url.password:
        raise ConfigError("file:// takes no host; write three slashes, such as file:///var/lib/cronlock")
    url.take_params(())
    if not url.path.strip("/"):
        raise ConfigError("file:// names no directory; write one such as file:///var/lib/cronlock")
    if "\0" in url.path:
        raise ConfigError("file:// has a NUL in its path; name a directory")
    # One slash at the beginning: two are not the same to normpath.
    return FileBackend(os.path.normpath("/" + url.path.lstrip("/")), timeout)


class FileBackend:
    """Leases of this machine's processes, kept by the kernel as locks on the files of `directory`."""

    traits = Traits(fencing=True, shortest_ttl=1.0, longest_ttl=365 * _DAY, local=True)

    def __init__(
        self, directory: str, timeout: float, clock: Clock | None = None, mountinfo: str = "/proc/self/mountinfo"
    ) -> None:
        """Raise ConfigError when `mountinfo` shows that `directory` is on a network file system."""
        refuse_network(directory, mountinfo)
        self.notices: list[str] = []
        self._directory = directory
        self._timeout = timeout
        self._clock: Clock = clock or SystemClock()
        self._boot = boot_id()
        #: (key, owner) -> our lease.
        self._held: dict[tuple[str, str], Grant] = {}
        #: (key, owner) of runs that released or gave up. Only this process asks in their names,
        #: so that owners that gave up need not be in the file.
        self._finished: set[tuple[str, str]] = set()
        #: (key, owner) -> the end of the hold that our lease ignores, and the run that it replaced, if that died.
        self._kept: dict[tuple[str, str], tuple[float, Run | None]] = {}

    def acquire(self, claim: Claim) -> Grant | Conflict:
        """Lock the key's file and write the record of the run."""
        if (claim.key, claim.owner) in self._finished:
            return Conflict(CANCELLED, remaining=0.0)
        path = self._path(claim.key)
        try:
            held = self._held.get((claim.key, claim.owner))
            if held is not None:
                if self._check(held) is not None:
                    return held
                self._drop(held)
            prepare_directory(self._directory)
            return self._take(claim, path)
        except OSError as error:
            raise failure(error, path) from error

    def renew(self, grant: Grant) -> bool:
        """Look whether the lock is still ours, and still the one of the key's file."""
        try:
            return self._check(grant) is not None
        except OSError as error:
            raise failure(error, self._path(grant.claim.key)) from error

    def release(self, grant: Grant, ending: Ending, *, keep_hold: bool) -> bool:
        """Write how the run ended and unlock, for the command's descendants too.

        The key is unlocked even if the record cannot be written: its hold stays as it was.
        """
        self._finished.add((grant.claim.key, grant.claim.owner))
        path = self._path(grant.claim.key)
        try:
            state = self._check(grant)
            if state is None:
                return False
            assert state.run is not None
            assert grant.descriptor is not None
            state.last, state.run = state.run, None
            state.last.ended_at, state.last.outcome, state.last.status = ending.ended_at, ending.outcome, ending.status
            if not keep_hold:
                state.hold_until = self._kept[grant.claim.key, grant.claim.owner][0]
            self._write(grant.descriptor, grant.claim.key, state)
            return True
        except OSError as error:
            raise failure(error, path) from error
        finally:
            self._drop(grant)

    def abandon(self, claim: Claim) -> None:
        """Unlock the key if it is ours, as if its run had never been."""
        self._finished.add((claim.key, claim.owner))
        grant = self._held.get((claim.key, claim.owner))
        if grant is None:
            return
        try:
            state = self._check(grant)
            if state is not None:
                assert grant.descriptor is not None
                state.hold_until, state.run = self._kept[claim.key, claim.owner]
                self._write(grant.descriptor, claim.key, state)
        except OSError as error:
            raise failure(error, self._path(claim.key)) from error
        finally:
            self._drop(grant)

    def read(self, key: str) -> Record | None:
        """Read the record and test the lock."""
        path = self._path(key)
        try:
            descriptor = open_plain(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure(error, path) from error
        try:
            # The lock first: a run that ends in between has then written its record already.
            locked = is_locked(descriptor)
            state = load(descriptor, path)
        except OSError as error:
            raise failure(error, path) from error
        finally:
            os.close(descriptor)
        if state.number == 0:
            return None
        history, success = record.put_together(runsfile.read(_beside(path)), run=state.run, last=state.last)
        return Record(
            run=record.released(state.run, by_force=state.forced_out),
            remaining=state.run.ttl if locked and state.run is not None else 0.0,
            hold_remaining=self._hold_left(state),
            last=state.last,
            history=history,
            success=success,
        )

    def watch(self, key: str) -> None:
        """Return None: the end of a lock wakes only who waits in flock(2)."""

    def keys(self) -> Iterator[str]:
        """List the keys that the records in the directory name."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return
        except OSError as error:
            raise failure(error, self._directory) from error
        for name in names:
            if name.endswith(_SUFFIX):
                key = self._key_of(os.path.join(self._directory, name))
                if key is not None:
                    yield key

    def force_release(self, key: str, owner: str) -> bool:
        """End the hold of `owner`, or let its run stop when it renews the next time.

        The kernel's lock of a living process cannot be taken: the key is free when it stopped.
        """
        path = self._path(key)
        try:
            descriptor = open_plain(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise failure(error, path) from error
        try:
            locked = is_locked(descriptor)
            state = load(descriptor, path)
            if state.latest is None or state.latest.owner != owner:
                return False
            if not (locked and state.run is not None) and not self._hold_left(state):
                return False
            revoke(descriptor, owner)
            return True
        except OSError as error:
            raise failure(error, path) from error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Do nothing: open files are the leases, and they end with the process or by `release`."""

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, bounded(key, _LONGEST_NAME) + _SUFFIX)

    def _take(self, claim: Claim, path: str) -> Grant | Conflict:
        deadline = time.monotonic() + self._timeout
        while True:
            descriptor = open_plain(path, os.O_RDWR | os.O_CREAT)
            try:
                answer = self._try_once(claim, path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if isinstance(answer, Grant):
                self._held[claim.key, claim.owner] = answer
                return answer
            os.close(descriptor)
            if answer is not None:
                return answer
            if time.monotonic() > deadline:
                raise BackendUnavailable(f"{path}: others keep it locked without a word why; see lslocks(8)")
            # Not all at the same moment again.
            time.sleep(_PAUSE * (1 + os.urandom(1)[0] / 64))

    def _try_once(self, claim: Claim, path: str, descriptor: int) -> Grant | Conflict | None:
        """Return the lease, the reason against it, or None if it takes another look."""
        state = load(descriptor, path)
        # Before the lock is taken, so that who will not get the key does not stand in the way.
        refusal = self._refusal(claim, state)
        if refusal is None and lock(descriptor, fcntl.LOCK_EX):
            state = load(descriptor, path)
            refusal = self._refusal(claim, state)
            if refusal is None and is_at(descriptor, path):
                return self._grant(claim, descriptor, state, path)
            # The open file's end unlocks it. Without a refusal, the file was replaced just now.
            return refusal
        if (refusal is not None and refusal.why == ENDED) or not is_locked(descriptor):
            return refusal  # None: only readers were in the way.
        state = load(descriptor, path)
        if state.run is None or (claim.standby_for is not None and not state.awaits(claim.standby_for)):
            return None  # Between its lock and its record, between the end's record and unlocking, or just changed.
        return Conflict(HELD, remaining=state.run.ttl, run=state.run, fence=state.fence or None)

    def _refusal(self, claim: Claim, state: State) -> Conflict | None:
        return state.refusal(claim, self._boot, self._clock.now())

    def _grant(self, claim: Claim, descriptor: int, state: State, path: str) -> Grant:
        again, previous = state.is_run_of(claim.owner), state.latest
        kept = self._to_keep(claim, state)
        if previous is not None and not again:
            self._keep_history(path, state.past())
        state.begin(claim, self._boot, self._clock.wall())
        assert state.run is not None
        own = state.hold_until if again else 0.0
        state.hold_until = max(self._clock.now() + claim.hold if claim.hold else 0.0, kept[0], own)
        self._write(descriptor, claim.key, state)
        self._kept[claim.key, claim.owner] = kept
        return Grant(
            claim,
            fence=state.fence,
            ttl=claim.ttl,
            descriptor=descriptor,
            previous=None if again else previous,
            took_over=state.run.took_over,
        )

    def _to_keep(self, claim: Claim, state: State) -> tuple[float, Run | None]:
        """Return the end of the hold that `claim` ignores, 0 if there is none, and the run that it replaces for now."""
        if state.is_run_of(claim.owner):
            return self._kept.get((claim.key, claim.owner), (0.0, None))
        hold = self._hold_left(state)
        return (state.hold_until if hold else 0.0, state.run if hold or claim.standby_for is not None else None)

    def _check(self, grant: Grant) -> State | None:
        """Return the key's record if the lease is still ours."""
        if grant.descriptor is None or not self._has(grant):
            return None
        path = self._path(grant.claim.key)
        try:
            # Takes nothing that we have; what the command unlocked meanwhile, only if it is free.
            if not is_at(grant.descriptor, path) or not lock(grant.descriptor, fcntl.LOCK_EX):
                return None
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return None
        # Where the record says otherwise we keep the lock all the same: our command still runs.
        state = load(grant.descriptor, path)
        owner = grant.claim.owner
        return state if state.run is not None and state.run.owner == owner != state.revoked else None

    def _has(self, grant: Grant) -> bool:
        return self._held.get((grant.claim.key, grant.claim.owner)) is grant

    def _drop(self, grant: Grant) -> None:
        """Unlock for everybody who has the descriptor, and forget it."""
        if not self._has(grant):
            return
        del self._held[grant.claim.key, grant.claim.owner]
        assert grant.descriptor is not None
        try:
            fcntl.flock(grant.descriptor, fcntl.LOCK_UN)
        finally:
            os.close(grant.descriptor)

    def _write(self, descriptor: int, key: str, state: State) -> None:
        save(descriptor, state, key, self._clock.wall() + state.hold_until - self._clock.now())

    def _keep_history(self, path: str, runs: list[Run]) -> None:
        """Keep past runs; that it cannot be done keeps no run from starting."""
        try:
            runsfile.keep(_beside(path), runs)
        except OSError as error:
            self.notices.append(f"no history is kept: {failure(error, _beside(path))}")
        except ForeignValue as error:
            self.notices.append(f"no history is kept: {error}")

    def _hold_left(self, state: State) -> float:
        return state.hold_left(self._boot, self._clock.now())

    def _key_of(self, path: str) -> str | None:
        try:
            descriptor = open_plain(path, os.O_RDONLY)
            try:
                return load(descriptor, path).key or None
            finally:
                os.close(descriptor)
        except (OSError, ForeignValue):
            return None  # Not ours, or not for us to read: not in the list.


def _beside(path: str) -> str:
    """Return the path of the history beside a key's file."""
    return path[: -len(_SUFFIX)] + runsfile.SUFFIX
