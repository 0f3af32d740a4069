"""Records in the key's file: cut off, half written, too long, of an earlier boot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cronlock import keys
from cronlock.engines.file.slots import SIZE, SLOT, Slot, decode_slot, encode_slot
from cronlock.engines.file.store import FileStore
from cronlock.errors import ConfigError
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, HISTORY, HOLD, NOT_STARTED
from cronlock.testing import LONG, granted, make_claim, make_ending, record_of, refused, run_of
from cronlock.testing.cells import read, swap

from .support import file_of, node_on, whole_slot


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
    conflict = refused(node_on(directory).acquire(make_claim("x")), HELD)
    assert len(seen) > 1
    assert run_of(conflict).owner == holder.claim.owner


@pytest.mark.parametrize("data", [b"", b"\0" * 8192, b"\0" * SIZE, b"cronlock=2\tslot\t00000000\t7", b" " * SIZE])
def test_file_without_a_whole_record_is_new(node: Leases, directory: Path, data: bytes) -> None:
    """A record that a crash cut off counts as missing, and the time keeps fences growing."""
    before = granted(node.acquire(make_claim("x", hold=LONG)))
    node.release(before, make_ending(), keep_hold=True)
    path = file_of(directory)
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
    path = file_of(directory)
    old = path.read_bytes()
    node.release(first, make_ending(), keep_hold=True)
    new = path.read_bytes()
    other = node_on(directory)
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
    node = node_on(directory)
    for number in range(HISTORY + 3):
        owner = f"{tick}-{number}" if number else tick
        claim = make_claim(key, owner=owner, host=wide, program=wide, hold=LONG, standby_for=tick if number else None)
        grant = granted(node.acquire(claim))
        node.release(grant, make_ending(outcome=NOT_STARTED), keep_hold=False)
    assert list(node.keys()) == [key]
    record = record_of(node, key)
    assert [run.tick for run in record.history] == [tick] * HISTORY
    assert file_of(directory).stat().st_size == SIZE


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
    assert encode_slot(slot) == whole_slot("3", "1.5", "2", "7.25", "a%20b")
    assert decode_slot(whole_slot("3", "1.5", "2", "7.25", "a%20b", "more") + b"what was there before") == slot


def test_hold_of_an_earlier_boot_is_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The boot clock of another boot says nothing of this one."""
    before = node_on(directory)
    grant = granted(before.acquire(make_claim("x", hold=LONG)))
    before.release(grant, make_ending(), keep_hold=True)
    refused(before.acquire(make_claim("x")), HOLD)
    monkeypatch.setattr("cronlock.engines.file.store.boot_id", lambda: "another-boot")
    after = granted(node_on(directory).acquire(make_claim("x", hold=0.0)))
    assert (after.fence or 0) > (grant.fence or 0)
