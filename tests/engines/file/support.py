"""Processes on a directory of leases: stores, commands that inherit a lease, and programs."""

from __future__ import annotations

import binascii
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cronlock.engines.file.store import FileStore
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import Grant

ROOT = Path(__file__).resolve().parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a disk or gives files away")


def whole_slot(number: str, ttl: str, since: str, hold_until: str, key: str, *more: str) -> bytes:
    """Return a slot with these words, and its checksum right."""
    body = "\t".join((number, "2", ttl, since, "b", hold_until, key, *more)).encode() + b"\nx\n"
    return b"cronlock=2\tslot\t%08x\t%b" % (binascii.crc32(body), body)


def node_on(directory: Path | str, timeout: float = 1.0) -> Leases:
    """Return another process's leases."""
    return Leases(FileStore(str(directory), timeout))


def file_of(directory: Path) -> Path:
    """Return the only key's file of the directory."""
    (path,) = directory.glob("*.lock")
    return path


def start_python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python program that talks over its pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", program, str(ROOT), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_command(grant: Grant) -> subprocess.Popen[bytes]:
    """Start a command, which inherits the lease."""
    assert grant.descriptor is not None
    assert not os.get_inheritable(grant.descriptor)
    return subprocess.Popen(["sleep", "1000"], pass_fds=[grant.descriptor])


def end_command(command: subprocess.Popen[bytes]) -> None:
    """Kill it."""
    command.kill()
    command.wait()
