"""Processes of this machine, by /proc; dead ones yield nothing."""

from __future__ import annotations

import os


def pids() -> list[int]:
    """Return all processes of the machine."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def look(pid: int, name: str) -> bytes:
    """Return a file of a process; empty if it is dead or another user's."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on."""
    # The name, in parentheses, may contain ")".
    return look(pid, "stat").rpartition(b")")[2].split()


def is_alive(pid: int) -> bool:
    """Return True if a process is there and no zombie."""
    return stat(pid)[:1] not in ([], [b"Z"], [b"X"])


def is_stopped(pid: int) -> bool:
    """Return True if a process is stopped."""
    return stat(pid)[:1] == [b"T"]


def children(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    return [other for other in pids() if stat(other)[1:2] == [str(pid).encode()]]
