"""The file engine on the real file system: the contract, files of others, and bad URLs."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import ClassVar

import pytest

from cronlock.engines.file import lockfile
from cronlock.engines.file.slots import SIZE, Slot, encode_slot
from cronlock.engines.file.store import FileStore
from cronlock.lease.clock import SystemClock
from cronlock.testing import LONG, StoreContract, StoreHooks

from ..faults import Strangers, URLs
from .support import whole_slot


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
                    whole_slot(*_WORDS[:place], word, *_WORDS[place + 1 :])
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
