"""memcached, one server and three that share the keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labs.machines import Machine
from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import ask

from .base import System

#: Of about the size of a record, more than the server has room for.
_ITEMS, _BYTES = 60000, 400


class Memcached(System):
    """One server."""

    name = "memcached"
    can_flush = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.group = MemcachedServers(places=self.places)
        self.service = self.group
        self.servers = list(self.group.nodes)

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.group.url()

    def flush(self) -> None:
        """``flush_all`` on each server."""
        for server in self._nodes():
            server.ask("flush_all")

    def squeeze(self) -> None:
        """Fill the servers until what nobody used just now is gone."""
        value = b"x" * _BYTES
        lines = b"".join(b"ms junk%d %d q\r\n%s\r\n" % (n, _BYTES, value) for n in range(_ITEMS))
        for server in self._nodes():
            ask(server.port, lines + b"mn\r\n", end=b"MN\r\n", host=server.place.host)

    def _nodes(self) -> Sequence[MemcachedServer]:
        return self.group.nodes


class MemcachedThree(Memcached):
    """Three servers that share the keys."""

    name = "memcached-three"
    hosts = 3
