"""One Redis server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from labs.machines import Machine
from labs.servers.process import Server
from labs.servers.redis import RedisServer

from .base import System


class RedisAlone(System):
    """Every write is on disk before it is answered."""

    name = "redis"
    keeps_data = True
    can_flush = True
    goes_by_wall_clock = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.server = RedisServer(persistent=self.keeps_data, place=self.places[0])
        self.service = self.server
        self.servers = [self.server]

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.server.url()

    def wipe(self, server: Server) -> None:
        """Remove what is on disk."""
        for path in server.data.iterdir():
            if path.name != "nodes.conf":  # Who else is in a cluster is no data of its users.
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def flush(self) -> None:
        """FLUSHALL on each server that takes it."""
        for server in self.servers:
            assert isinstance(server, RedisServer)
            with server.client() as client:
                if client.info("replication")["role"] == "master":
                    client.flushall()

    def squeeze(self) -> None:
        """Let the servers have memory for nothing, and so evict keys at random, for an instant."""
        for server in self.servers:
            assert isinstance(server, RedisServer)
            with server.client() as client:
                client.config_set("maxmemory-policy", "allkeys-random")
                client.config_set("maxmemory", 1)
                client.ping()
                client.config_set("maxmemory", 0)


class RedisForgetful(RedisAlone):
    """A restart loses everything."""

    name = "redis-memory"
    keeps_data = False
