"""The file engine on the real file system."""

from __future__ import annotations

import binascii
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from cronlock import keys
from cronlock.engines.file import lockfile
from cronlock.engines.file.slots import SIZE, SLOT, Slot, decode_slot, encode_slot
from cronlock.engines.file.store import FileStore
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendError, BackendUnavailable, ConfigError, ForeignValue
from cronlock.lease.clock import SystemClock
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import EXITED, HELD, HISTORY, HOLD, NOT_STARTED, Grant
from cronlock.testing import (
    LONG,
    StoreContract,
    StoreHooks,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    record_of,
    refused,
    run_of,
)
from cronlock.testing.cells import a_text, read, swap

from ..faults import Strangers, URLs

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a disk or gives files away")


class LateClock(SystemClock):
    """The real clock, ahead by what a test adds."""

    __slots__ = ("ahead",)

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since boot, and more."""
        return super().now() + self.ahead


class FileHooks(StoreHooks):
    """Nodes are processes of one machine: here, stores with open files of their own."""

    short_ttl = short_hold = LONG / 10
    force_waits = "the kernel's lock of a living process cannot be taken: its next renewal lets go of it"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = LateClock()
        self._stores: list[FileStore] = []

    def open_store(self) -> FileStore:
        """Return another process's store."""
        self._stores.append(FileStore(str(self.directory), 20.0, self.clock))
        return self._stores[-1]

    def pass_time(self, seconds: float) -> None:
        """Let the boot clock go on."""
        self.clock.ahead += seconds

    def lapse(self, key: str) -> None:
        """Unlock, as the death of all who have the open file does."""
        for store in self._stores:
            descriptor = store._leases.find(key, store.location(key))
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def end_hold(self, key: str) -> None:
        """Let the boot clock go on beyond the hold."""
        self.pass_time(self.short_hold)

    def put(self, key: str, value: bytes) -> None:
        """Write the key's file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / f"{key}.lock").write_bytes(value)

    def kept(self, key: str) -> object:
        """Return what the file says."""
        return (self.directory / f"{key}.lock").read_bytes()


class TestFile(StoreContract):
    """All of the contract."""

    @pytest.fixture
    def hooks(self, tmp_path: Path) -> FileHooks:
        """A directory of its own, made by the first run."""
        return FileHooks(tmp_path / "state" / "cronlock")


class TestWithoutLocksOfOpenFiles(TestFile):
    """The contract where fcntl(2) has no such locks: whoever writes has the directory's lock."""

    histories = 5

    @pytest.fixture(autouse=True)
    def other_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have another system."""
        monkeypatch.setattr(lockfile, "_TURN", None)


def _whole(number: str, ttl: str, since: str, hold_until: str, key: str, *more: str) -> bytes:
    """Return a slot with these words, and its checksum right."""
    body = "\t".join((number, "2", ttl, since, "b", hold_until, key, *more)).encode() + b"\nx\n"
    return b"cronlock=2\tslot\t%08x\t%b" % (binascii.crc32(body), body)


_RECORD = encode_slot(Slot(number=1, data=b"x"))
_OLDER = b"cronlock=1\nnumber=1\nkey=x\nfence=1\n"
#: Words of a slot that can be counted with, and others for some of them.
_WORDS = ["1", "1.0", "1", "1.0", "x"]
_WRONG = {0: ("9" * 30, "-1"), 1: ("-1.0", "x"), 2: ("",), 3: ("1e20", "nan"), 4: ("%x",)}


class TestStrangers(Strangers, URLs):
    """Foreign files, and URLs that name no directory."""

    foreign: ClassVar[list[tuple[bytes, str]]] = [
        *((start + _OLDER.ljust(12288), "a file of an older, unreleased layout") for start in (b"", b" " * 4096)),
        *(
            (data, "not a file of cronlock")
            for data in (
                *(b"#!/bin/sh\n", b"\xff\xfe", b"cronlock=2\nowner=x\n", _RECORD + b" " * SIZE),
                *(
                    _whole(*_WORDS[:place], word, *_WORDS[place + 1 :])
                    for place, found in _WRONG.items()
                    for word in found
                ),
            )
        ),
    ]
    bad_url: ClassVar[list[tuple[str, str]]] = [
        ("file://", "no directory"),
        ("file:///", "no directory"),
        ("file://var/lib/cronlock", "a host is not supported"),
        ("file://localhost/var/lib/cronlock", "a host is not supported"),
        ("file://:secret@/var/lib", "a host is not supported"),
        ("file:///var/lib/cronlock?prefix=x", "unknown parameter 'prefix'"),
        ("file:///var/lib/%00", "NUL"),
    ]

    @pytest.fixture
    def hooks(self, tmp_path: Path) -> FileHooks:
        """A directory of its own."""
        return FileHooks(tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that is not there yet."""
    return tmp_path / "locks"


@pytest.fixture
def node(directory: Path) -> Leases:
    """A node on it, which waits shortly."""
    return _node(directory)


def _node(directory: Path | str, timeout: float = 1.0) -> Leases:
    """Return another process's leases."""
    return Leases(FileStore(str(directory), timeout))


def _file(directory: Path) -> Path:
    """Return the only key's file of the directory."""
    (path,) = directory.glob("*.lock")
    return path


def _python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python program that talks over its pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(_ROOT), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _command(grant: Grant) -> subprocess.Popen[bytes]:
    """Start a command, which inherits the lease."""
    assert grant.descriptor is not None
    assert not os.get_inheritable(grant.descriptor)
    return subprocess.Popen(["sleep", "1000"], pass_fds=[grant.descriptor])


def _end(command: subprocess.Popen[bytes]) -> None:
    command.kill()
    command.wait()


_HOLDER = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from cronlock.engines.registry import open_backend
from cronlock.testing import make_claim
grant = open_backend("file://" + sys.argv[2], 5.0).acquire(make_claim(sys.argv[3], ttl=60.0, hold=0.0))
child = subprocess.Popen(["sleep", "1000"], pass_fds=[grant.descriptor], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(1000)
"""

_RACER = """
import sys
sys.path.insert(0, sys.argv[1])
from cronlock.engines.registry import open_backend
from cronlock.lease.vocabulary import Grant
from cronlock.testing import make_claim, make_ending
for line in sys.stdin:
    key, hold = line.split()
    backend = open_backend("file://" + sys.argv[2], 60.0)
    answer = backend.acquire(make_claim(key, hold=float(hold)))
    if isinstance(answer, Grant):
        backend.release(answer, make_ending(), keep_hold=True)
        print("ran", answer.fence, flush=True)
    else:
        print(answer.why, flush=True)
"""

_ROOT = Path(__file__).resolve().parents[3]


# Files and directories


def test_directory_and_file_are_private(directory: Path) -> None:
    """New files and directories are private, parents too; existing ones keep their mode."""
    deep = _node(directory / "a" / "b")
    granted(deep.acquire(make_claim("x")))
    modes = [path.stat().st_mode & 0o777 for path in (directory, directory / "a", directory / "a" / "b")]
    assert modes == [0o700] * 3
    assert _file(directory / "a" / "b").stat().st_mode & 0o777 == 0o600
    directory.chmod(0o755)
    granted(_node(directory).acquire(make_claim("x")))
    assert directory.stat().st_mode & 0o777 == 0o755


def test_reading_creates_nothing(node: Leases, directory: Path) -> None:
    """Reading, listing and releasing by force make no directory."""
    assert node.read("x") is None
    assert list(node.keys()) == []
    assert not node.force_release("x", "somebody")
    assert not directory.exists()


def test_file_is_never_replaced(node: Leases, directory: Path) -> None:
    """The key's file stays the same through runs, ends and forced releases."""
    numbers = set()
    for _ in range(3):
        grant = granted(node.acquire(make_claim("x", hold=LONG)))
        numbers.add(_file(directory).stat().st_ino)
        node.release(grant, make_ending(), keep_hold=True)
        node.force_release("x", grant.claim.owner)
        numbers.add(_file(directory).stat().st_ino)
    assert len(numbers) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda place, victim: place.symlink_to(victim),
        lambda place, victim: os.link(victim, place),
        lambda place, _: os.mkfifo(place),
        lambda place, _: place.mkdir(),
    ],
    ids=["symbolic link", "hard link", "pipe", "directory"],
)
def test_other_kinds_of_file_are_refused(
    node: Leases, directory: Path, tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """A link, pipe or directory in the file's place is refused: not followed, not waited for, its target untouched."""
    directory.mkdir()
    (tmp_path / "victim").write_text("")
    make(directory / "x.lock", tmp_path / "victim")
    for ask in (lambda: node.acquire(make_claim("x")), lambda: node.read("x")):
        with pytest.raises(ForeignValue, match="not a plain file"):
            ask()
    assert list(node.keys()) == []
    assert (tmp_path / "victim").read_text() == ""


def test_linked_directory_is_refused(tmp_path: Path) -> None:
    """A directory that is a symbolic link is refused with what to do."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BackendError, match="symbolic link; name the directory that it leads to"):
        _node(tmp_path / "link").acquire(make_claim("x"))


def test_directory_for_everybody_is_refused(node: Leases, directory: Path) -> None:
    """A directory in which everyone may rename files is refused; with the sticky bit it is fine."""
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(BackendError, match="chmod o-w"):
        node.acquire(make_claim("x"))
    directory.chmod(0o1777)
    granted(node.acquire(make_claim("x")))


@needs_root
def test_file_of_another_user_is_refused(node: Leases, directory: Path) -> None:
    """A file that another user put there beforehand is refused."""
    directory.mkdir()
    directory.chmod(0o1777)
    (directory / "x.lock").touch()
    os.chown(directory / "x.lock", 65534, 65534)
    for ask in (lambda: node.acquire(make_claim("x")), lambda: node.read("x")):
        with pytest.raises(ForeignValue, match="another user"):
            ask()
    assert list(node.keys()) == []
    os.chown(directory, 65534, 65534)
    # Root looks into a user's directory, and runs nothing by it.
    assert node.read("x") is None
    with pytest.raises(BackendError, match="belongs to another user"):
        node.acquire(make_claim("x"))


# Records


def test_first_record_is_read_while_it_is_written(
    node: Leases, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that sees blanks in place of the first bytes reads again, rather than call the file foreign."""
    holder = granted(node.acquire(make_claim("x")))
    seen: list[bytes] = []
    pread = os.pread

    def look(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        if not seen:
            data = data.replace(b"cronlock=", b" " * 9)
        seen.append(data)
        return data

    monkeypatch.setattr(os, "pread", look)
    conflict = refused(_node(directory).acquire(make_claim("x")), HELD)
    assert len(seen) > 1
    assert run_of(conflict).owner == holder.claim.owner


@pytest.mark.parametrize("data", [b"", b"\0" * 8192, b"\0" * SIZE, b"cronlock=2\tslot\t00000000\t7", b" " * SIZE])
def test_file_without_a_whole_record_is_new(node: Leases, directory: Path, data: bytes) -> None:
    """A record that a crash cut off counts as missing, and the time keeps fences growing."""
    before = granted(node.acquire(make_claim("x", hold=LONG)))
    node.release(before, make_ending(), keep_hold=True)
    path = _file(directory)
    path.write_bytes(data)
    assert node.read("x") is None
    assert list(node.keys()) == []
    after = granted(node.acquire(make_claim("x")))
    assert (after.fence or 0) > (before.fence or 0)
    assert path.stat().st_size == SIZE
    assert list(node.keys()) == ["x"]


def test_every_cut_of_a_write_leaves_a_usable_file(node: Leases, directory: Path) -> None:
    """Wherever a write stops, the file is read as the old record or as the new one."""
    first = granted(node.acquire(make_claim("x", hold=LONG)))
    path = _file(directory)
    old = path.read_bytes()
    node.release(first, make_ending(), keep_hold=True)
    new = path.read_bytes()
    other = _node(directory)
    for cut in [*range(0, 700, 7), *range(SLOT, SLOT + 700, 7)]:
        path.write_bytes(new[:cut] + old[cut:])
        conflict = refused(other.acquire(make_claim("x")), HOLD)
        assert run_of(conflict).owner == first.claim.owner
        assert conflict.fence == first.fence


@pytest.mark.parametrize("character", ["\U0001f512", "%", "\udcff"])
def test_longest_record_fits(directory: Path, character: str) -> None:
    """A whole history of the longest keys, owners, hosts and programs fits, takeovers too."""
    key, wide = ("\U0001f512" if character > "\ud7ff" else character) * 200, character * 1000
    # A node's name has at most 64 bytes.
    host = wide.encode("utf-8", "ignore")[:64].decode("utf-8", "ignore") or "h"
    tick = f"{keys.escape(host)}:4194304:0123456789abcdef"
    node = _node(directory)
    for number in range(HISTORY + 3):
        owner = f"{tick}-{number}" if number else tick
        claim = make_claim(key, owner=owner, host=wide, program=wide, hold=LONG, standby_for=tick if number else None)
        grant = granted(node.acquire(claim))
        node.release(grant, make_ending(outcome=NOT_STARTED), keep_hold=False)
    assert list(node.keys()) == [key]
    record = record_of(node, key)
    assert [run.tick for run in record.history] == [tick] * HISTORY
    assert _file(directory).stat().st_size == SIZE


def test_too_long_for_its_slot(directory: Path) -> None:
    """A record that does not fit is refused with a remedy, and the old one stays."""
    store = FileStore(str(directory), 1.0)
    cell = swap(store, "x", read(store, "x"), lease=LONG)
    for lease in (None, 0.0):
        with pytest.raises(ConfigError, match=r"has no room; shorten the names"):
            store.swap("x", cell, b"x" * SLOT, lease=lease, hold=0.0, deadline=time.monotonic() + 1)
        assert read(store, "x").data == cell.data
    assert read(store, "x").lease == 0


def test_whole_slots() -> None:
    """Fields that a later version may add are passed over."""
    slot = Slot(number=3, ttl=1.5, since=2, boot="b", hold_until=7.25, key="a b", data=b"x\n")
    assert encode_slot(slot) == _whole("3", "1.5", "2", "7.25", "a%20b")
    assert decode_slot(_whole("3", "1.5", "2", "7.25", "a%20b", "more") + b"what was there before") == slot


def test_hold_of_an_earlier_boot_is_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boot clock of another boot says nothing of this one."""
    before = _node(directory)
    grant = granted(before.acquire(make_claim("x", hold=LONG)))
    before.release(grant, make_ending(), keep_hold=True)
    refused(before.acquire(make_claim("x")), HOLD)
    monkeypatch.setattr("cronlock.engines.file.store.boot_id", lambda: "another-boot")
    after = granted(_node(directory).acquire(make_claim("x", hold=0.0)))
    assert (after.fence or 0) > (grant.fence or 0)


# The lock


@pytest.mark.parametrize("with_directory", [False, True])
def test_unlinked_file_is_a_lost_lease(node: Leases, directory: Path, with_directory: bool) -> None:
    """Removing the file frees the key: the holder notices at its next renewal."""
    grant = granted(node.acquire(make_claim("x")))
    _file(directory).unlink()
    if with_directory:
        directory.rmdir()
    assert not node.renew(grant)
    heir = granted(_node(directory).acquire(make_claim("x")))
    assert heir.claim.owner != grant.claim.owner
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=False)
    refused(node.acquire(make_claim("x")), HELD)


def test_copy_in_the_files_place_is_a_lost_lease(directory: Path) -> None:
    """A copy in the file's place, by an editor or a backup, has no lock; the run's end is written into it."""
    for step in ("renew", "release"):
        node, key = _node(directory), fresh_key()
        grant = granted(node.acquire(make_claim(key)))
        path = directory / f"{key}.lock"
        copy = directory / "copy"
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
        if step == "renew":
            with pytest.raises(ForeignValue, match="a copy is in the place of the file"):
                node.renew(grant)
        else:
            assert node.release(grant, make_ending(), keep_hold=False)
            record = record_of(node, key)
            assert record.last is not None
            assert record.last.outcome == EXITED


def test_lock_lives_in_the_command(directory: Path) -> None:
    """The key stays taken when the wrapper is killed, until the command's last process is gone."""
    node, key = _node(directory), fresh_key()
    with _python(_HOLDER, directory, key) as wrapper:
        assert wrapper.stdout is not None
        command = int(wrapper.stdout.readline())
        try:
            wrapper.kill()
            wrapper.wait()
            conflict = refused(node.acquire(make_claim(key)), HELD)
            assert conflict.remaining == 60.0
        finally:
            os.kill(command, signal.SIGKILL)
        eventually(lambda: isinstance(node.acquire(make_claim(key)), Grant), "the kernel freed the lock")


def test_release_frees_it_for_descendants_too(node: Leases, directory: Path) -> None:
    """A daemon that the command left behind has the open file, and not the key."""
    grant = granted(node.acquire(make_claim("x")))
    daemon = _command(grant)
    try:
        assert node.release(grant, make_ending(), keep_hold=False)
        granted(_node(directory).acquire(make_claim("x")))
    finally:
        _end(daemon)


@pytest.mark.parametrize("step", ["renews", "ends"])
def test_forced_release_waits_for_the_command(node: Leases, directory: Path, step: str) -> None:
    """A forced release of a living run takes effect when that renews or ends, and the key is free once it stopped."""
    other = _node(directory)
    grant = granted(node.acquire(make_claim("x", hold=LONG)))
    command = _command(grant)
    try:
        assert other.force_release("x", grant.claim.owner)
        assert refused(other.acquire(make_claim("x")), HELD).remaining == grant.ttl
        if step == "renews":
            assert not node.renew(grant)
            refused(other.acquire(make_claim("x")), HELD)
            _end(command)
        assert not node.release(grant, make_ending(), keep_hold=True)
        granted(other.acquire(make_claim("x")))
    finally:
        _end(command)


def test_write_of_another_node_keeps_the_lease(directory: Path) -> None:
    """Another node's write changes the version, not the lease: the holder's swap is refused, its lease goes on."""
    holder, other = FileStore(str(directory), 1.0), FileStore(str(directory), 1.0)
    cell = swap(holder, "x", read(holder, "x"), lease=LONG)
    for lease in (LONG, 0.0):
        written = swap(other, "x", read(other, "x"))
        done, there = holder.swap("x", cell, a_text(), lease=lease, hold=0.0, deadline=time.monotonic() + 1)
        assert (done, there.data, there.descriptor) == (False, written.data, cell.descriptor)
        assert read(other, "x").lease > 0
        cell = swap(holder, "x", there, lease=lease)
    assert read(other, "x").lease == 0


def test_command_that_unlocks_is_locked_again(node: Leases, directory: Path) -> None:
    """If the command unlocks the file, the next renewal locks it again, unless another run was faster."""
    grant, other = granted(node.acquire(make_claim("x"))), _node(directory, 0.1)
    assert grant.descriptor is not None
    command = _command(grant)
    try:
        fcntl.flock(grant.descriptor, fcntl.LOCK_UN)
        assert node.renew(grant)
        refused(other.acquire(make_claim("x")), HELD)
        fcntl.flock(grant.descriptor, fcntl.LOCK_UN)
        heir = granted(other.acquire(make_claim("x")))
        other.release(heir, make_ending(), keep_hold=False)
        assert not node.renew(grant)
        # The command still runs, so no other run may.
        with pytest.raises(BackendUnavailable, match="lslocks"):
            other.acquire(make_claim("x"))
    finally:
        _end(command)
    granted(other.acquire(make_claim("x")))


def test_emptied_file_is_a_lost_lease(node: Leases, directory: Path) -> None:
    """Emptying the file ends the lease, but no run gets the key before the holder has stopped."""
    grant, other = granted(node.acquire(make_claim("x"))), _node(directory, 0.1)
    command = _command(grant)
    try:
        _file(directory).write_bytes(b"")
        assert not node.renew(grant)
        with pytest.raises(BackendUnavailable):
            other.acquire(make_claim("x"))
    finally:
        _end(command)
    granted(other.acquire(make_claim("x")))


def test_release_frees_the_key_although_its_record_cannot_be_written(
    node: Leases, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the release costs the record, not the key's freedom; asked again it is written late."""
    grant = granted(node.acquire(make_claim("x")))
    command = _command(grant)

    def broken_disk(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", broken_disk)
            with pytest.raises(BackendUnavailable, match="Input/output error"):
                node.release(grant, make_ending(), keep_hold=False)
        assert read(FileStore(str(directory), 1.0), "x").lease == 0
        assert node.release(grant, make_ending(3), keep_hold=False)
        previous = granted(_node(directory).acquire(make_claim("x"))).previous
        assert previous is not None
        assert previous.status == 3
    finally:
        _end(command)


def test_run_that_ends_during_a_read_is_not_dead(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader reads again if the run ended between its read of the record and its test of the lock."""
    holder, reader = FileStore(str(directory), 1.0), FileStore(str(directory), 1.0)
    cell = swap(holder, "x", read(holder, "x"), lease=LONG)
    real = lockfile.is_locked

    def slowly(descriptor: int) -> bool:
        monkeypatch.setattr(lockfile, "is_locked", real)
        swap(holder, "x", cell, b"ended", lease=0.0)
        return real(descriptor)

    monkeypatch.setattr(lockfile, "is_locked", slowly)
    seen = read(reader, "x")
    assert (seen.data, seen.lease) == (b"ended", 0.0)


def test_readers_never_stand_in_the_way(directory: Path) -> None:
    """However many look at the record all the time, a free key is granted each time."""
    done = threading.Event()
    node = _node(directory, 60.0)
    node.release(granted(node.acquire(make_claim("x", hold=0.0))), make_ending(), keep_hold=False)

    def look() -> None:
        reader = _node(directory, 60.0)
        while not done.is_set():
            reader.read("x")

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(200):
            grant = granted(node.acquire(make_claim("x", hold=0.0)))
            assert node.release(grant, make_ending(), keep_hold=False)
    finally:
        done.set()
        for reader in readers:
            reader.join()


def test_racing_processes(directory: Path) -> None:
    """Of eight processes that ask at once for a new key one runs; without a hold some do, each with a fence of its own.

    All others get the reason, and the history has every run.
    """
    racers = [_python(_RACER, directory) for _ in range(8)]
    try:
        for number in range(20):
            answers = [answer.split() for answer in _ask(racers, f"key-{number} 60.0")]
            assert [answer[0] for answer in answers].count("ran") == 1
            assert {answer[0] for answer in answers} <= {"ran", HELD, HOLD}
            fences = [int(answer[1]) for answer in map(str.split, _ask(racers, f"free-{number} 0.0")) if answer[1:]]
            record = record_of(_node(directory), f"free-{number}")
            assert [run.fence for run in record.history] == sorted(fences, reverse=True)
            assert len(set(fences)) == len(fences) > 0
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def _ask(racers: list[subprocess.Popen[str]], line: str) -> list[str]:
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(f"{line}\n")
        racer.stdin.flush()
    return [racer.stdout.readline() for racer in racers if racer.stdout is not None]


def test_foreign_lock_on_the_file_is_named(node: Leases, directory: Path) -> None:
    """Another program's lock on the file keeps every run out, and the message says how to find that program."""
    node.release(granted(node.acquire(make_claim("x", hold=0.0))), make_ending(), keep_hold=False)
    with _file(directory).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="lslocks"):
            node.acquire(make_claim("x"))
        assert 1.0 <= time.monotonic() - began < 5.0
    granted(node.acquire(make_claim("x")))


def test_process_stopped_in_its_turn_is_named(node: Leases, directory: Path) -> None:
    """A process that was stopped while it wrote keeps others from writing, not from reading, and they wait bounded."""
    grant = granted(node.acquire(make_claim("x", hold=LONG)))
    with _file(directory).open("rb+") as file:
        turn = lockfile.take_turn(file.fileno(), str(_file(directory)))
        assert turn is not None
        other = _node(directory, 0.2)
        refused(other.acquire(make_claim("x")), HELD)
        with pytest.raises(BackendUnavailable, match="lslocks"):
            other.force_release("x", grant.claim.owner)
        with pytest.raises(BackendUnavailable, match="lslocks"):
            node.renew(grant)
        lockfile.end_turn(file.fileno(), turn)
    assert node.renew(grant)


# Disks that take nothing


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KB of its own; needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@needs_root
def test_full_disk(small_disk: Path) -> None:
    """A full disk is named; a key that was taken before can be released and is free again."""
    node = _node(small_disk)
    grant = granted(node.acquire(make_claim("early", hold=LONG)))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 200_000)
    with pytest.raises(BackendUnavailable, match="No space left on device; free some space"):
        node.acquire(make_claim("late"))
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=False)
    assert (small_disk / "late.lock").stat().st_blocks == 0
    granted(node.acquire(make_claim("early")))
    filler.unlink()
    granted(node.acquire(make_claim("late")))


@needs_root
def test_read_only_disk(small_disk: Path) -> None:
    """A read-only disk is named; what is on it can still be read."""
    node = _node(small_disk)
    node.release(granted(node.acquire(make_claim("x"))), make_ending(), keep_hold=False)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for key in ("x", "new"):
        with pytest.raises(BackendUnavailable, match="Read-only file system; make its file system writable"):
            node.acquire(make_claim(key))
    assert node.read("x") is not None


@needs_root
def test_disk_that_turns_read_only_under_a_run(tmp_path: Path) -> None:
    """A run with an open file renews and ends its lease; every other run gets an error."""
    place = tmp_path / "locks"
    node = _node(place)
    grant = granted(node.acquire(make_claim("x", hold=0.0)))
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        other = _node(place)
        refused(other.acquire(make_claim("x")), HELD)
        # A mount point is another way to the same file.
        assert node.renew(grant)
        assert node.release(grant, make_ending(), keep_hold=False)
        with pytest.raises(BackendUnavailable, match="Read-only"):
            other.acquire(make_claim("x"))
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_file_in_the_directorys_place(tmp_path: Path) -> None:
    """A file where the directory or its parent should be is named."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendUnavailable, match="Not a directory; name a directory"):
            _node(place).acquire(make_claim("x"))


def test_forbidden_directory() -> None:
    """A user who may not write there is told to run as the owner, or to name another directory."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
import cronlock.engines.file.store, cronlock.lease.leases  # The checkout may be root's alone.
from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable
from cronlock.testing import make_claim
if os.geteuid() == 0:
    os.setuid(65534)
try:
    open_backend("file://" + sys.argv[2], 1.0).acquire(make_claim("x"))
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
    """A file system that allows no directories is unavailable, whatever its error."""
    with pytest.raises(BackendUnavailable, match=f"^{place}/x.lock: "):
        _node(place).acquire(make_claim("x"))


# URLs


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
        FileStore(place, 1.0, mountinfo=str(table))
        return
    with pytest.raises(ConfigError, match=f"network file system \\({kind} on /mnt"):
        FileStore(place, 1.0, mountinfo=str(table))


def test_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """A link on the way to the directory hides nothing."""
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n23 22 0:9 / {tmp_path}/net rw - nfs filer:/x rw\n")
    (tmp_path / "net").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "net")
    with pytest.raises(ConfigError, match="nfs on"):
        FileStore(str(tmp_path / "link" / "cronlock"), 1.0, mountinfo=str(table))


def test_no_table_of_mounts(tmp_path: Path) -> None:
    """Where there is no such table nothing is refused."""
    FileStore(str(tmp_path), 1.0, mountinfo=str(tmp_path / "none"))
