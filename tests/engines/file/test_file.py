"""The file backend on the real file system."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cronlock import keys
from cronlock.engines.file import runsfile
from cronlock.engines.file import state as filestate
from cronlock.engines.file.backend import FileBackend
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.clock import SystemClock
from cronlock.lease.vocabulary import (
    CANCELLED,
    DIED,
    ENDED,
    EXITED,
    HELD,
    HISTORY,
    HOLD,
    NOT_STARTED,
    Conflict,
    Grant,
    Sight,
)
from cronlock.testing import LONG, BackendContract, Hooks, fresh_key, granted, make_claim, make_ending, refused
from labs.servers.process import eventually

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk or gives files away: run as root")


class LateClock(SystemClock):
    """The real clock, ahead by what a test adds."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since boot, and more."""
        return super().now() + self.ahead


class FileHooks(Hooks):
    """Nodes are processes of one machine: here, backends with tables of their own."""

    forces_time = True
    force_waits = "the kernel's lock of a living process cannot be taken: its next renewal stops its run"
    never_forgets = "the lock is the kernel's, so that a vanished record says nothing"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = LateClock()

    def open(self) -> FileBackend:
        """Return another process's backend."""
        return FileBackend(str(self.directory), 20.0, self.clock)

    def lapse(self, node: Backend, grant: Grant) -> None:
        """Close the open file, as the holder's death does; its number stays taken."""
        assert grant.descriptor is not None
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, grant.descriptor)
        os.close(nothing)

    def end_hold(self, node: Backend, key: str) -> None:
        """Let the boot clock go on beyond the hold."""
        self.clock.ahead += 2 * LONG


class TestFile(BackendContract):
    """All of the contract."""

    @pytest.fixture
    def hooks(self, tmp_path: Path) -> FileHooks:
        """A directory of its own, made by the first run."""
        return FileHooks(tmp_path / "state" / "cronlock")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "locks"


@pytest.fixture
def backend(directory: Path) -> FileBackend:
    """A backend on it, which waits shortly."""
    return FileBackend(str(directory), 1.0)


def _file(directory: Path) -> Path:
    """Return the only key's file of the directory."""
    (path,) = directory.glob("*.lock")
    return path


def _beside(directory: Path) -> Path:
    """Return where the history of the only key lies."""
    return _file(directory).with_suffix(".runs")


def _python(program: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """Start a Python program that talks over its pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    )


_HOLDER = """
import os, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from cronlock.engines.file.backend import FileBackend
from cronlock.testing import make_claim
grant = FileBackend(sys.argv[2], 5.0).acquire(make_claim(sys.argv[3], ttl=60.0, hold=0.0))
child = subprocess.Popen(["sleep", "1000"], pass_fds=[grant.descriptor], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(1000)
"""

_RACER = """
import sys
sys.path.insert(0, sys.argv[1])
from cronlock.engines.file.backend import FileBackend
from cronlock.lease.vocabulary import Grant
from cronlock.testing import make_claim, make_ending
backend = FileBackend(sys.argv[2], 60.0)
for line in sys.stdin:
    key = line.strip()
    answer = backend.acquire(make_claim(key, hold=60.0))
    if isinstance(answer, Grant):
        print("ran", flush=True)
        backend.release(answer, make_ending(), keep_hold=True)
    else:
        print(answer.why, flush=True)
"""

_ROOT = Path(__file__).resolve().parents[3]


# What lies on the disk


def test_directory_and_file_are_private(directory: Path) -> None:
    """What is made is for its owner alone, and parents too."""
    deep = FileBackend(str(directory / "a" / "b"), 1.0)
    granted(deep.acquire(make_claim("x")))
    modes = [path.stat().st_mode & 0o777 for path in (directory, directory / "a", directory / "a" / "b")]
    assert modes == [0o700] * 3
    assert _file(directory / "a" / "b").stat().st_mode & 0o777 == 0o600


def test_directory_stays_as_found(backend: FileBackend, directory: Path) -> None:
    """A directory that is there keeps its mode."""
    directory.mkdir(mode=0o755)
    granted(backend.acquire(make_claim("x")))
    assert directory.stat().st_mode & 0o777 == 0o755


def test_looking_makes_nothing(backend: FileBackend, directory: Path) -> None:
    """Reading, listing and releasing by force make no directory."""
    assert backend.read("x") is None
    assert list(backend.keys()) == []
    assert not backend.force_release("x", "somebody")
    assert not directory.exists()


def test_file_is_never_replaced(backend: FileBackend, directory: Path) -> None:
    """The key's file stays the same through runs, ends and forced releases."""
    numbers = set()
    for _ in range(3):
        grant = granted(backend.acquire(make_claim("x", hold=LONG)))
        numbers.add(_file(directory).stat().st_ino)
        backend.release(grant, make_ending(), keep_hold=True)
        backend.force_release("x", grant.claim.owner)
        numbers.add(_file(directory).stat().st_ino)
    assert len(numbers) == 1


def test_symbolic_link_is_not_followed(backend: FileBackend, directory: Path, tmp_path: Path) -> None:
    """A link in the file's place is refused, and what it leads to is left alone."""
    directory.mkdir()
    (directory / "x.lock").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("")
    with pytest.raises(ForeignValue, match="not a plain file"):
        backend.acquire(make_claim("x"))
    with pytest.raises(ForeignValue, match="not a plain file"):
        backend.read("x")
    assert (tmp_path / "victim").read_text() == ""


def test_hard_link_is_refused(backend: FileBackend, directory: Path, tmp_path: Path) -> None:
    """A second name of another file is refused: writing would change that one."""
    directory.mkdir()
    (tmp_path / "victim").write_text("")
    os.link(tmp_path / "victim", directory / "x.lock")
    with pytest.raises(ForeignValue, match="one name"):
        backend.acquire(make_claim("x"))
    assert (tmp_path / "victim").read_text() == ""


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_other_kinds_of_file_are_refused(backend: FileBackend, directory: Path, make: type) -> None:
    """A pipe or a directory in the file's place is refused, and waits for nobody."""
    directory.mkdir()
    make(directory / "x.lock")
    with pytest.raises(ForeignValue, match="plain file"):
        backend.acquire(make_claim("x"))
    with pytest.raises(ForeignValue, match="plain file"):
        backend.read("x")
    assert list(backend.keys()) == []


def test_linked_directory_is_refused(tmp_path: Path) -> None:
    """A directory that is a symbolic link is refused with what to do."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BackendError, match="symbolic link; name the directory that it leads to"):
        FileBackend(str(tmp_path / "link"), 1.0).acquire(make_claim("x"))


def test_directory_for_everybody_is_refused(backend: FileBackend, directory: Path) -> None:
    """A directory in which everyone may rename files is refused; with the sticky bit it is fine."""
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(BackendError, match="chmod o-w"):
        backend.acquire(make_claim("x"))
    directory.chmod(0o1777)
    granted(backend.acquire(make_claim("x")))


@pytest.mark.parametrize("data", [b"#!/bin/sh\n", b"\xff\xfe", b"x" * 20000, b"cronlock=2\nowner=x\n"])
def test_foreign_file_is_left_alone(backend: FileBackend, directory: Path, data: bytes) -> None:
    """A file that another program wrote is refused and not overwritten."""
    directory.mkdir()
    path = directory / "x.lock"
    path.write_bytes(data)
    for ask in (lambda: backend.acquire(make_claim("x")), lambda: backend.read("x")):
        with pytest.raises(ForeignValue, match="not a file of cronlock"):
            ask()
    assert path.read_bytes() == data
    assert list(backend.keys()) == []


@needs_root
def test_file_of_another_user_is_refused(backend: FileBackend, directory: Path) -> None:
    """A file that another user put there beforehand is refused."""
    directory.mkdir()
    directory.chmod(0o1777)
    (directory / "x.lock").touch()
    os.chown(directory / "x.lock", 65534, 65534)
    with pytest.raises(ForeignValue, match="another user"):
        backend.acquire(make_claim("x"))
    os.chown(directory, 65534, 65534)
    with pytest.raises(BackendError, match="belongs to another user"):
        backend.acquire(make_claim("x"))


# Records cut short


def test_torn_record_leaves_the_one_before(backend: FileBackend, directory: Path) -> None:
    """When the newest record was not written as a whole, the one before it counts."""
    first = granted(backend.acquire(make_claim("x", hold=LONG)))
    backend.release(first, make_ending(5), keep_hold=True)
    path = _file(directory)
    data = bytearray(path.read_bytes())
    # The release was the second record: it lies in the first slot.
    data[100:200] = b"#" * 100
    path.write_bytes(data)
    record = backend.read("x")
    assert record is not None
    assert record.run is not None
    assert record.run.owner == first.claim.owner
    refused(FileBackend(str(directory), 1.0).acquire(make_claim("x")), HOLD)


def test_first_record_is_read_while_it_is_written(
    backend: FileBackend, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees blanks where its first bytes will be looks again, and does not take the file for a stranger's."""
    backend.release(granted(backend.acquire(make_claim("x"))), make_ending(), keep_hold=False)
    _file(directory).write_bytes(b"")
    holder = granted(backend.acquire(make_claim("x")))
    seen: list[bytes] = []
    pread = os.pread

    def read(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        if not seen:
            data = data.replace(b"cronlock=", b" " * 9)
        seen.append(data)
        return data

    monkeypatch.setattr(os, "pread", read)
    conflict = refused(FileBackend(str(directory), 1.0).acquire(make_claim("x")), HELD)
    assert len(seen) > 1
    assert conflict.run is not None
    assert conflict.run.owner == holder.claim.owner


@pytest.mark.parametrize("data", [b"", b"\0" * 8192, b"\0" * 12288, b"cronlock=1\nnumber=7\nkey=", b" " * 12288])
def test_file_without_a_whole_record_is_new(backend: FileBackend, directory: Path, data: bytes) -> None:
    """Where a crash left no whole record there is none, and fences go on by the time."""
    before = granted(backend.acquire(make_claim("x", hold=LONG)))
    backend.release(before, make_ending(), keep_hold=True)
    path = _file(directory)
    path.write_bytes(data)
    assert backend.read("x") is None
    after = granted(backend.acquire(make_claim("x")))
    assert after.fence is not None
    assert before.fence is not None
    assert after.fence > before.fence
    assert path.stat().st_size == 12288
    assert list(backend.keys()) == ["x"]


def test_every_cut_of_a_write_leaves_a_usable_file(backend: FileBackend, directory: Path) -> None:
    """Wherever a write stops, the file is read as the old record or as the new one."""
    first = granted(backend.acquire(make_claim("x", hold=LONG)))
    path = _file(directory)
    old = path.read_bytes()
    backend.release(first, make_ending(), keep_hold=True)
    new = path.read_bytes()
    other = FileBackend(str(directory), 1.0)
    for cut in range(0, len(old), 61):
        path.write_bytes(new[:cut] + old[cut:])
        conflict = refused(other.acquire(make_claim("x")), HOLD)
        assert conflict.run is not None
        assert conflict.run.owner == first.claim.owner
        assert conflict.fence == first.fence


@pytest.mark.parametrize("character", ["\U0001f512", "%", "\udcff"])
def test_longest_record_fits(backend: FileBackend, character: str) -> None:
    """The longest key, owner, host and program fit, twice, a takeover's too."""
    key, wide = ("\U0001f512" if character > "\ud7ff" else character) * 200, character * 1000
    # A node's name has at most 64 bytes.
    host = wide.encode("utf-8", "ignore")[:64].decode("utf-8", "ignore")
    tick = f"{keys.escape(host)}:4194304:0123456789abcdef"
    for number in range(3):
        owner = f"{tick}-{number}" if number else tick
        claim = make_claim(key, owner=owner, host=wide, program=wide, hold=LONG, standby_for=tick if number else None)
        grant = granted(backend.acquire(claim))
        backend.release(grant, make_ending(outcome=NOT_STARTED), keep_hold=False)
    assert list(backend.keys()) == [key]
    record = backend.read(key)
    assert record is not None
    assert [run.tick for run in record.history] == [tick] * 3


def test_hold_of_an_earlier_boot_is_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boot clock of another boot says nothing of this one."""
    before = FileBackend(str(directory), 1.0)
    grant = granted(before.acquire(make_claim("x", hold=LONG)))
    before.release(grant, make_ending(), keep_hold=True)
    refused(before.acquire(make_claim("x")), HOLD)
    monkeypatch.setattr("cronlock.engines.file.backend.boot_id", lambda: "another-boot")
    after = granted(FileBackend(str(directory), 1.0).acquire(make_claim("x")))
    assert (after.fence or 0) > (grant.fence or 0)


def test_wiped_directory_respects_the_floor(backend: FileBackend) -> None:
    """Where the record is gone the key is free, and its fence above what this node saw."""
    floor = int(time.time() * 1e6) + 10**9
    assert (granted(backend.acquire(make_claim("x", sight=Sight(floor, 5.0, None)))).fence or 0) > floor


# The history


def _ran(backend: FileBackend, statuses: range) -> list[int]:
    """Run once for each of `statuses`, and return which statuses the history has then."""
    for status in statuses:
        assert backend.release(granted(backend.acquire(make_claim("x"))), make_ending(status), keep_hold=False)
    record = backend.read("x")
    assert record is not None
    return [run.status or 0 for run in record.history]


def test_history_lies_beside(backend: FileBackend, directory: Path) -> None:
    """The history has a private file of its own, which never grows; the key's file is as long as it ever was."""
    assert _ran(backend, range(1)) == [0]
    assert not _beside(directory).exists()
    for count in range(2, 3 * HISTORY):
        assert len(_ran(backend, range(count - 1, count))) == min(count, HISTORY)
        assert _beside(directory).stat().st_size == runsfile.SIZE
    assert _beside(directory).stat().st_mode & 0o777 == 0o600
    assert _file(directory).stat().st_size == 12288
    assert list(backend.keys()) == ["x"]
    assert not backend.notices


def test_dead_runs_over_and_over(directory: Path) -> None:
    """However often a takeover is given up, the dead run stands once in the history, and no other is lost for it."""
    hooks = FileHooks(directory)
    backend = hooks.open()
    _ran(backend, range(HISTORY))
    dead = granted(backend.acquire(make_claim("x")))
    hooks.lapse(backend, dead)
    for _ in range(2 * HISTORY):
        other, claim = hooks.open(), make_claim("x", standby_for=dead.claim.owner)
        assert granted(other.acquire(claim)).took_over == dead.fence
        other.abandon(claim)
    assert _ran(backend, range(99, 100)) == [99, 0, *range(HISTORY - 1, 1, -1)]


def test_torn_entry_costs_one_run(backend: FileBackend, directory: Path) -> None:
    """Where a crash left half an entry, that run is missing and all others are there, and it goes on."""
    _ran(backend, range(1, 6))
    data = bytearray(_beside(directory).read_bytes())
    data[2 * runsfile.ENTRY + 60 : 2 * runsfile.ENTRY + 90] = b"#" * 30
    _beside(directory).write_bytes(data)
    assert _ran(backend, range(6, 8)) == [7, 6, 5, 4, 2, 1]
    assert not backend.notices


def test_run_stands_in_both(backend: FileBackend, directory: Path) -> None:
    """A crash after the history was written and before the record leaves nothing twice, and nothing too early."""
    _ran(backend, range(1, 3))
    hooks = FileHooks(directory)
    dead = granted(backend.acquire(make_claim("x")))
    hooks.lapse(backend, dead)
    before = _file(directory).read_bytes()
    granted(hooks.open().acquire(make_claim("x")))
    _file(directory).write_bytes(before)
    record = backend.read("x")
    assert record is not None
    assert record.run is not None
    assert record.run.owner == dead.claim.owner
    assert [run.status for run in record.history] == [2, 1]


def test_lost_history_begins_anew(backend: FileBackend, directory: Path) -> None:
    """Who removes the history's file removes the history only; the key's record has the last run."""
    _ran(backend, range(5))
    _beside(directory).unlink()
    assert _ran(backend, range(7, 8)) == [7, 4]
    _beside(directory).write_bytes(_beside(directory).read_bytes()[:5000])
    assert _ran(backend, range(8, 9))[:2] == [8, 7]
    assert _beside(directory).stat().st_size == runsfile.SIZE


def test_two_past_runs_at_once(directory: Path) -> None:
    """Where the history knows neither the last run nor the dead one after it, it has both then."""
    hooks = FileHooks(directory)
    backend = hooks.open()
    _ran(backend, range(1, 3))
    dead = granted(backend.acquire(make_claim("x")))
    hooks.lapse(backend, dead)
    _beside(directory).unlink()
    heir = granted(backend.acquire(make_claim("x")))
    assert backend.release(heir, make_ending(5), keep_hold=False)
    record = backend.read("x")
    assert record is not None
    assert [(run.outcome, run.status) for run in record.history] == [(EXITED, 5), (DIED, None), (EXITED, 2)]


@pytest.mark.parametrize("data", [b"#!/bin/sh\n", b"x" * 40000, b"cronlock=2\n", b"cronlock=1\n" + b" " * 40000])
def test_foreign_history_is_left_alone(backend: FileBackend, directory: Path, data: bytes) -> None:
    """A strange file in the history's place is not written to; the runs go on, and say so."""
    _ran(backend, range(1))
    _beside(directory).write_bytes(data)
    assert _ran(backend, range(1, 3)) == [2]
    assert _beside(directory).read_bytes() == data
    assert set(backend.notices) == {f"no history is kept: {_beside(directory)}: not a file of cronlock; remove it"}


def test_history_follows_no_link(backend: FileBackend, directory: Path, tmp_path: Path) -> None:
    """A link in the history's place is not followed; the runs go on, and say so."""
    _ran(backend, range(1))
    (tmp_path / "victim").write_text("")
    _beside(directory).symlink_to(tmp_path / "victim")
    assert _ran(backend, range(1, 2)) == [1]
    assert (tmp_path / "victim").read_text() == ""
    assert "not a plain file" in backend.notices[0]


# The lock


def test_unlinked_file_is_a_lost_lease(backend: FileBackend, directory: Path) -> None:
    """Who removed the file made room for another: the holder finds out when it renews."""
    grant = granted(backend.acquire(make_claim("x")))
    _file(directory).unlink()
    assert not backend.renew(grant)
    heir = granted(FileBackend(str(directory), 1.0).acquire(make_claim("x")))
    assert heir.claim.owner != grant.claim.owner
    assert not backend.renew(grant)
    assert not backend.release(grant, make_ending(), keep_hold=False)
    refused(backend.acquire(make_claim("x")), HELD)


def test_removed_directory_is_a_lost_lease(backend: FileBackend, directory: Path) -> None:
    """Without its directory the lease is gone too."""
    grant = granted(backend.acquire(make_claim("x")))
    _file(directory).unlink()
    directory.rmdir()
    assert not backend.renew(grant)


def test_lock_lives_in_the_command(directory: Path) -> None:
    """The key stays taken when the wrapper is killed, until the command's last process is gone."""
    backend, key = FileBackend(str(directory), 1.0), fresh_key()
    with _python(_HOLDER, _ROOT, directory, key) as wrapper:
        assert wrapper.stdout is not None
        command = int(wrapper.stdout.readline())
        try:
            wrapper.kill()
            wrapper.wait()
            conflict = refused(backend.acquire(make_claim(key)), HELD)
            assert conflict.run is not None
            assert conflict.remaining == 60.0
        finally:
            os.kill(command, signal.SIGKILL)
        eventually(lambda: isinstance(backend.acquire(make_claim(key)), Grant), "the kernel freed the lock")


def test_release_frees_it_for_descendants_too(backend: FileBackend, directory: Path) -> None:
    """A daemon that the command left behind has the open file, and not the key."""
    grant = granted(backend.acquire(make_claim("x")))
    assert grant.descriptor is not None
    daemon = subprocess.Popen(["sleep", "1000"], pass_fds=[grant.descriptor])
    try:
        assert backend.release(grant, make_ending(), keep_hold=False)
        granted(FileBackend(str(directory), 1.0).acquire(make_claim("x")))
    finally:
        daemon.kill()
        daemon.wait()


def test_descriptor_is_not_inherited_by_itself(backend: FileBackend) -> None:
    """Only who passes the descriptor on shares the lock."""
    grant = granted(backend.acquire(make_claim("x")))
    assert grant.descriptor is not None
    assert not os.get_inheritable(grant.descriptor)


def test_command_that_unlocks_is_locked_again(backend: FileBackend, directory: Path) -> None:
    """What the command unlocked the next renewal locks, unless another was faster."""
    grant, other = granted(backend.acquire(make_claim("x"))), FileBackend(str(directory), 1.0)
    assert grant.descriptor is not None
    fcntl.flock(grant.descriptor, fcntl.LOCK_UN)
    assert backend.renew(grant)
    refused(other.acquire(make_claim("x")), HELD)
    fcntl.flock(grant.descriptor, fcntl.LOCK_UN)
    heir = granted(other.acquire(make_claim("x")))
    assert not backend.renew(grant)
    other.release(heir, make_ending(), keep_hold=False)
    assert not backend.renew(grant)
    # The command still runs, so that nobody else may.
    with pytest.raises(BackendUnavailable):
        other.acquire(make_claim("x"))
    assert not backend.release(grant, make_ending(), keep_hold=False)
    granted(other.acquire(make_claim("x")))


def test_emptied_file_is_a_lost_lease(backend: FileBackend, directory: Path) -> None:
    """Who empties the file takes the lease, and nobody gets the key before the run has stopped."""
    grant, other = granted(backend.acquire(make_claim("x"))), FileBackend(str(directory), 0.1)
    _file(directory).write_bytes(b"")
    assert not backend.renew(grant)
    with pytest.raises(BackendUnavailable):
        other.acquire(make_claim("x"))
    assert not backend.release(grant, make_ending(), keep_hold=False)
    granted(other.acquire(make_claim("x")))


def test_owner_that_ended_gets_nothing_in_another_process(backend: FileBackend, directory: Path) -> None:
    """The record remembers the owner that ended last."""
    claim = make_claim("x")
    backend.release(granted(backend.acquire(claim)), make_ending(), keep_hold=False)
    refused(FileBackend(str(directory), 1.0).acquire(claim), CANCELLED)


def test_release_tells_that_the_key_is_free_when_the_record_is_not_written(
    backend: FileBackend, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the release costs the record, not the key's freedom."""
    grant = granted(backend.acquire(make_claim("x")))

    def broken_disk(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", broken_disk)
        with pytest.raises(BackendUnavailable, match="Input/output error"):
            backend.release(grant, make_ending(), keep_hold=False)
    granted(FileBackend(str(directory), 1.0).acquire(make_claim("x")))


def test_readers_never_stand_in_the_way(directory: Path) -> None:
    """However many look at the record all the time, a free key is granted each time."""
    done = threading.Event()
    backend = FileBackend(str(directory), 60.0)
    backend.release(granted(backend.acquire(make_claim("x"))), make_ending(), keep_hold=False)

    def look() -> None:
        reader = FileBackend(str(directory), 60.0)
        while not done.is_set():
            reader.read("x")

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(200):
            grant = granted(backend.acquire(make_claim("x")))
            assert backend.release(grant, make_ending(), keep_hold=False)
    finally:
        done.set()
        for reader in readers:
            reader.join()


def test_standby_that_another_overtakes(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later run that begins while a standby looks at the dead one is not taken for that one's tick."""
    hooks = FileHooks(directory)
    backend = hooks.open()
    dead = granted(backend.acquire(make_claim("x")))
    hooks.lapse(backend, dead)
    real, looks = filestate.load, 0

    def load_slowly(descriptor: int, path: str) -> filestate.State:
        nonlocal looks
        looks += 1
        state = real(descriptor, path)
        if looks == 1:
            granted(hooks.open().acquire(make_claim("x")))
        return state

    monkeypatch.setattr("cronlock.engines.file.backend.load", load_slowly)
    refused(hooks.open().acquire(make_claim("x", standby_for=dead.claim.owner)), ENDED)


def test_racing_processes_have_one_winner(directory: Path) -> None:
    """Of eight processes that ask at once for a new key one runs, and all others hear why not."""
    racers = [_python(_RACER, _ROOT, directory) for _ in range(8)]
    try:
        for number in range(20):
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"key-{number}\n")
                racer.stdin.flush()
            answers = [racer.stdout.readline().strip() for racer in racers if racer.stdout is not None]
            assert answers.count("ran") == 1
            assert set(answers) <= {"ran", HELD, HOLD}
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_stranger_who_locks_the_file_is_named(backend: FileBackend, directory: Path) -> None:
    """Who locks the file without being cronlock keeps everyone out, and the message says how to find it."""
    backend.release(granted(backend.acquire(make_claim("x"))), make_ending(), keep_hold=False)
    with _file(directory).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BackendUnavailable, match="lslocks"):
            backend.acquire(make_claim("x"))
    granted(backend.acquire(make_claim("x")))


# Disks that take nothing


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB of its own; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@needs_root
def test_full_disk(small_disk: Path) -> None:
    """A full disk is named; a key that was taken before can be released and is free again."""
    backend = FileBackend(str(small_disk), 1.0)
    grant = granted(backend.acquire(make_claim("early", hold=LONG)))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 100_000)
    with pytest.raises(BackendUnavailable, match="No space left on device; free some space"):
        backend.acquire(make_claim("late"))
    assert backend.renew(grant)
    assert backend.release(grant, make_ending(), keep_hold=False)
    granted(backend.acquire(make_claim("early")))
    filler.unlink()
    granted(backend.acquire(make_claim("late")))


@needs_root
def test_full_disk_costs_the_history(small_disk: Path) -> None:
    """Where there is space for the key only it runs without a history, takes none of the rest, and says so."""
    backend = FileBackend(str(small_disk), 1.0)
    assert _ran(backend, range(1)) == [0]
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 32768)
    assert _ran(backend, range(1, 3)) == [2]
    assert _beside(small_disk).stat().st_blocks == 0
    assert [notice.partition("; ")[2] for notice in backend.notices] == ["free some space on its disk"] * 2
    backend.notices.clear()
    filler.unlink()
    assert _ran(backend, range(3, 5)) == [4, 3, 2]
    # Its space is its own from then on.
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 65536)
    assert _ran(backend, range(5, 10)) == list(range(9, 1, -1))
    assert not backend.notices


@needs_root
def test_read_only_disk(small_disk: Path) -> None:
    """A read-only disk is named; what is on it can still be read."""
    backend = FileBackend(str(small_disk), 1.0)
    backend.release(granted(backend.acquire(make_claim("x"))), make_ending(), keep_hold=False)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for key in ("x", "new"):
        with pytest.raises(BackendUnavailable, match="Read-only file system; make its file system writable"):
            backend.acquire(make_claim(key))
    assert backend.read("x") is not None


def test_file_in_the_directorys_place(tmp_path: Path) -> None:
    """A file where the directory or its parent should be is named."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendUnavailable, match="Not a directory; name a directory"):
            FileBackend(str(place), 1.0).acquire(make_claim("x"))


def test_forbidden_directory() -> None:
    """Who may not write there is told to be somebody else, or to go elsewhere."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
import cronlock.lease.record
from cronlock.engines.file.backend import FileBackend
from cronlock.errors import BackendUnavailable
from cronlock.testing import make_claim
if os.geteuid() == 0:
    os.setuid(65534)
try:
    FileBackend(sys.argv[2], 1.0).acquire(make_claim("x"))
except BackendUnavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, _ROOT, "/etc/cronlock-test"], capture_output=True, text=True)
    assert done.stdout == (
        "/etc/cronlock-test/x.lock: Permission denied; "
        "run as the directory's owner, or name another one (--backend file:///DIR)\n"
    ), done.stderr


@pytest.mark.parametrize("place", ["/proc/cronlock", "/proc/self/fd/cronlock/deeper"])
def test_place_that_takes_no_directory(place: str) -> None:
    """A file system in which nobody can make a directory is unavailable, whatever it says."""
    with pytest.raises(BackendUnavailable, match=f"^{place}/x.lock: "):
        FileBackend(place, 1.0).acquire(make_claim("x"))


# URLs


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("file://", "names no directory"),
        ("file:///", "names no directory"),
        ("file://var/lib/cronlock", "takes no host"),
        ("file://localhost/var/lib/cronlock", "takes no host"),
        ("file://:secret@/var/lib", "takes no host"),
        ("file:///var/lib/cronlock?prefix=x", "unknown parameter 'prefix'"),
        ("file:///var/lib/%00", "NUL"),
    ],
)
def test_bad_urls(url: str, complaint: str) -> None:
    """A URL that names no directory of this machine says what to write."""
    with pytest.raises(ConfigError, match=complaint) as caught:
        open_backend(url, 5.0)
    assert "secret" not in str(caught.value)


def test_url_names_the_directory(tmp_path: Path) -> None:
    """The URL's path is the directory, with %XX undone."""
    backend = open_backend(f"file://{tmp_path}/with%20space//x/../locks/", 5.0)
    assert backend.traits.local
    granted(backend.acquire(make_claim("x")))
    assert (tmp_path / "with space" / "locks" / "x.lock").exists()


_MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:30 / /mnt rw - tmpfs none rw
30 23 0:40 / /mnt/shared rw,relatime shared:9 master:1 - nfs4 filer:/export rw,vers=4.2
31 30 0:41 / /mnt/shared/local rw - xfs /dev/vdb rw
32 23 0:42 / /mnt/with\040space rw - fuse.sshfs host:/x rw
33 23 0:43 / /mnt/twice rw - ext4 /dev/vdc rw
34 33 0:44 / /mnt/twice rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/mnt/shared", "nfs4"),
        ("/mnt/shared/deep/down", "nfs4"),
        ("/mnt/with space/x", "fuse.sshfs"),
        ("/mnt/twice", "cifs"),
        ("/mnt/shared/local/x", None),
        ("/mnt/shared2", None),
        ("/var/lib/cronlock", None),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, place: str, kind: str | None) -> None:
    """A directory on a network file system is refused, by the table of mounts."""
    table = tmp_path / "mountinfo"
    table.write_text(_MOUNTS)
    if kind is None:
        FileBackend(place, 1.0, mountinfo=str(table))
        return
    with pytest.raises(ConfigError, match=f"network file system \\({kind} on /mnt"):
        FileBackend(place, 1.0, mountinfo=str(table))


def test_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """A link on the way to the directory hides nothing."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:9 / {tmp_path}/net rw - nfs filer:/x rw\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    with pytest.raises(ConfigError, match="nfs on"):
        FileBackend(str(tmp_path / "link" / "cronlock"), 1.0, mountinfo=str(table))


def test_no_table_of_mounts(tmp_path: Path) -> None:
    """Where there is no such table nothing is refused."""
    FileBackend(str(tmp_path), 1.0, mountinfo=str(tmp_path / "none"))


def test_revoked_run_sees_it_at_its_next_renewal(backend: FileBackend, directory: Path) -> None:
    """A forced release of a living run takes effect when that renews, and the key is free when it ended."""
    other = FileBackend(str(directory), 1.0)
    grant = granted(backend.acquire(make_claim("x", hold=LONG)))
    assert other.force_release("x", grant.claim.owner)
    answer = other.acquire(make_claim("x"))
    assert isinstance(answer, Conflict)
    assert answer.why == HELD
    assert not backend.renew(grant)
    assert not backend.release(grant, make_ending(), keep_hold=True)
    granted(other.acquire(make_claim("x")))
