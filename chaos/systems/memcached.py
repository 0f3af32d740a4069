"""memcached, one server and three that share the keys."""

from __future__ import annotations

from labs.servers.memcached import MemcachedServer, MemcachedServers
from labs.servers.process import ask

from .base import System

#: Of about the size of a record, more than the server has room for.
_ITEMS, _BYTES = 60000, 400


class Memcached(System):
    """One server."""

    name = "memcached"
    can_flush = True

    def make(self) -> MemcachedServers:
        """Return the servers, not started yet."""
        return MemcachedServers(sites=self.sites)

    def flush(self) -> None:
        """``flush_all`` on each server."""
        for server in self.servers:
            assert isinstance(server, MemcachedServer)
            server.ask("flush_all")

    def squeeze(self) -> None:
        """Fill the servers until what nobody used just now is gone."""
        value = b"x" * _BYTES
        lines = b"".join(b"ms junk%d %d q\r\n%s\r\n" % (n, _BYTES, value) for n in range(_ITEMS))
        for server in self.servers:
            ask(server.port, lines + b"mn\r\n", end=b"MN\r\n", host=server.site.host)


class MemcachedThree(Memcached):
    """Three servers that share the keys."""

    name = "memcached-three"
    hosts = 3
