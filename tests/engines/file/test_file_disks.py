"""Disks that take nothing: full, read-only, forbidden, no directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD
from cronlock.testing import LONG, granted, make_claim, make_ending, refused

from .support import ROOT, needs_root, node_on


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
    node = node_on(small_disk)
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
    node = node_on(small_disk)
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
    node = node_on(place)
    grant = granted(node.acquire(make_claim("x", hold=0.0)))
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        other = node_on(place)
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
            node_on(place).acquire(make_claim("x"))


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
    done = subprocess.run([sys.executable, "-c", program, ROOT, "/etc/cronlock-test"], capture_output=True, text=True)
    assert done.stdout == (
        "/etc/cronlock-test/x.lock: Permission denied; "
        "run as the directory's owner, or name another one (--backend file:///DIR)\n"
    ), done.stderr


@pytest.mark.parametrize("place", ["/proc/cronlock", "/proc/self/fd/cronlock/deeper"])
def test_place_that_takes_no_directory(place: str) -> None:
    """A file system that allows no directories is unavailable, whatever its error."""
    with pytest.raises(BackendUnavailable, match=f"^{place}/x.lock: "):
        node_on(place).acquire(make_claim("x"))
