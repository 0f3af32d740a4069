"""The kernel's lock on the key's file, which is the lease."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cronlock.engines.file import lockfile
from cronlock.engines.file.store import FileStore
from cronlock.errors import BackendUnavailable, ForeignValue
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import EXITED, HELD, HOLD, Grant
from cronlock.testing import LONG, eventually, fresh_key, granted, make_claim, make_ending, record_of, refused
from cronlock.testing.cells import a_text, read, swap

from .support import end_command, file_of, node_on, start_command, start_python

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


@pytest.mark.parametrize("with_directory", [False, True])
def test_unlinked_file_is_a_lost_lease(node: Leases, directory: Path, with_directory: bool) -> None:
    """Removing the file frees the key: the holder notices at its next renewal."""
    grant = granted(node.acquire(make_claim("x")))
    file_of(directory).unlink()
    if with_directory:
        directory.rmdir()
    assert not node.renew(grant)
    heir = granted(node_on(directory).acquire(make_claim("x")))
    assert heir.claim.owner != grant.claim.owner
    assert not node.renew(grant)
    assert not node.release(grant, make_ending(), keep_hold=False)
    refused(node.acquire(make_claim("x")), HELD)


def test_copy_in_the_files_place_is_a_lost_lease(directory: Path) -> None:
    """A copy in the file's place, by an editor or a backup, has no lock; the run's end is written into it."""
    for step in ("renew", "release"):
        node, key = node_on(directory), fresh_key()
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
    node, key = node_on(directory), fresh_key()
    with start_python(_HOLDER, directory, key) as wrapper:
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
    daemon = start_command(grant)
    try:
        assert node.release(grant, make_ending(), keep_hold=False)
        granted(node_on(directory).acquire(make_claim("x")))
    finally:
        end_command(daemon)


@pytest.mark.parametrize("step", ["renews", "ends"])
def test_forced_release_waits_for_the_command(node: Leases, directory: Path, step: str) -> None:
    """A forced release of a living run takes effect when that renews or ends, and the key is free once it stopped."""
    other = node_on(directory)
    grant = granted(node.acquire(make_claim("x", hold=LONG)))
    command = start_command(grant)
    try:
        assert other.force_release("x", grant.claim.owner)
        assert refused(other.acquire(make_claim("x")), HELD).remaining == grant.ttl
        if step == "renews":
            assert not node.renew(grant)
            refused(other.acquire(make_claim("x")), HELD)
            end_command(command)
        assert not node.release(grant, make_ending(), keep_hold=True)
        granted(other.acquire(make_claim("x")))
    finally:
        end_command(command)


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
    grant, other = granted(node.acquire(make_claim("x"))), node_on(directory, 0.1)
    assert grant.descriptor is not None
    command = start_command(grant)
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
        end_command(command)
    granted(other.acquire(make_claim("x")))


def test_emptied_file_is_a_lost_lease(node: Leases, directory: Path) -> None:
    """Emptying the file ends the lease, but no run gets the key before the holder has stopped."""
    grant, other = granted(node.acquire(make_claim("x"))), node_on(directory, 0.1)
    command = start_command(grant)
    try:
        file_of(directory).write_bytes(b"")
        assert not node.renew(grant)
        with pytest.raises(BackendUnavailable):
            other.acquire(make_claim("x"))
    finally:
        end_command(command)
    granted(other.acquire(make_claim("x")))


def test_release_frees_the_key_although_its_record_cannot_be_written(
    node: Leases, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails at the release costs the record, not the key's freedom; asked again it is written late."""
    grant = granted(node.acquire(make_claim("x")))
    command = start_command(grant)

    def broken_disk(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", broken_disk)
            with pytest.raises(BackendUnavailable, match="Input/output error"):
                node.release(grant, make_ending(), keep_hold=False)
        assert read(FileStore(str(directory), 1.0), "x").lease == 0
        assert node.release(grant, make_ending(3), keep_hold=False)
        previous = granted(node_on(directory).acquire(make_claim("x"))).previous
        assert previous is not None
        assert previous.status == 3
    finally:
        end_command(command)


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
    node = node_on(directory, 60.0)
    node.release(granted(node.acquire(make_claim("x", hold=0.0))), make_ending(), keep_hold=False)

    def look() -> None:
        reader = node_on(directory, 60.0)
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
    racers = [start_python(_RACER, directory) for _ in range(8)]
    try:
        for number in range(20):
            answers = [answer.split() for answer in _ask(racers, f"key-{number} 60.0")]
            assert [answer[0] for answer in answers].count("ran") == 1
            assert {answer[0] for answer in answers} <= {"ran", HELD, HOLD}
            fences = [int(answer[1]) for answer in map(str.split, _ask(racers, f"free-{number} 0.0")) if answer[1:]]
            record = record_of(node_on(directory), f"free-{number}")
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
    with file_of(directory).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="lslocks"):
            node.acquire(make_claim("x"))
        assert 1.0 <= time.monotonic() - began < 5.0
    granted(node.acquire(make_claim("x")))


def test_process_stopped_in_its_turn_is_named(node: Leases, directory: Path) -> None:
    """A process that was stopped while it wrote keeps others from writing, not from reading, and they wait bounded."""
    grant = granted(node.acquire(make_claim("x", hold=LONG)))
    with file_of(directory).open("rb+") as file:
        turn = lockfile.take_turn(file.fileno(), str(file_of(directory)))
        assert turn is not None
        other = node_on(directory, 0.2)
        refused(other.acquire(make_claim("x")), HELD)
        with pytest.raises(BackendUnavailable, match="lslocks"):
            other.force_release("x", grant.claim.owner)
        with pytest.raises(BackendUnavailable, match="lslocks"):
            node.renew(grant)
        lockfile.end_turn(file.fileno(), turn)
    assert node.renew(grant)
