"""The file backend: several nodes that are one machine, on a small disk of its own."""

from __future__ import annotations

from .base import System

#: Where its disk is, on the nodes' machine.
DISK = "/var/lib/cronlock"


class Files(System):
    """No servers: the nodes share a directory of one machine."""

    name = "file"
    hosts = 0
    local = True
    keeps_data = True

    def make(self) -> None:
        """Return nothing."""

    def url(self) -> str:
        """Return the URL of the directory."""
        return f"file://{DISK}/leases"
