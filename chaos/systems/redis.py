"""Redis: one server, and with a master that can be replaced, by Sentinel and in a Cluster."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator

import redis

from labs.servers.process import Server
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer

from .base import System


class RedisAlone(System):
    """Every write is on disk before it is answered."""

    name = "redis"
    keeps_data = True
    can_flush = True
    goes_by_wall_clock = True

    def make(self) -> RedisServer | RedisSentinel | RedisCluster:
        """Return the server or the group, not started yet."""
        return RedisServer(persistent=self.keeps_data, site=self.sites[0])

    def wipe(self, server: Server) -> None:
        """Remove what is on disk."""
        for path in server.data.iterdir():
            if path.name != "nodes.conf":  # Who else is in a cluster is no data of its users.
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def nodes(self) -> Iterator[RedisServer]:
        """Yield the servers that have keys."""
        for server in self.servers:
            assert isinstance(server, RedisServer)
            yield server

    def flush(self) -> None:
        """FLUSHALL on each server that takes it."""
        for server in self.nodes():
            if server.replication()["role"] == "master":
                with server.client() as client:
                    client.flushall()

    def squeeze(self) -> None:
        """Let the servers have memory for nothing, and so evict keys at random, for an instant."""
        for server in self.nodes():
            with server.client() as client:
                client.config_set("maxmemory-policy", "allkeys-random")
                client.config_set("maxmemory", 1)
                client.ping()
                client.config_set("maxmemory", 0)


class RedisInMemory(RedisAlone):
    """A restart loses everything."""

    name = "redis-memory"
    keeps_data = False


class Sentinel(RedisAlone):
    """A master, two replicas and three Sentinels, on three machines."""

    name = "redis-sentinel"
    hosts = 3
    has_leader = True

    def make(self) -> RedisSentinel:
        """Return the group, not started yet."""
        self._group = RedisSentinel(persistent=True, sites=self.sites)
        return self._group

    def leader(self) -> Server:
        """Return the master."""
        return self._group.master()

    def fail_over(self) -> None:
        """SENTINEL FAILOVER."""
        with contextlib.suppress(redis.RedisError), self._group.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self._group.service)


class Cluster(RedisAlone):
    """Three masters with a replica each, on three machines."""

    name = "redis-cluster"
    hosts = 3
    has_leader = True

    def make(self) -> RedisCluster:
        """Return the cluster, not started yet: each replica is on another machine than its master."""
        self._random = random.Random(0)
        return RedisCluster(sites=[*self.sites, *self.sites[1:], self.sites[0]], persistent=True)

    def leader(self) -> Server:
        """Return one of the masters."""
        return self._random.choice([node for node in self.nodes() if node.replication()["role"] == "master"])

    def serves(self) -> bool:
        """Return True if every node calls the cluster whole, and each master has a replica in step."""
        states = [node.replication() for node in self.nodes()] if super().serves() else []
        return bool(states) and all(one["role"] == "master" or one["master_link_status"] == "up" for one in states)

    def fail_over(self) -> None:
        """CLUSTER FAILOVER on one of the replicas."""
        replica = self._random.choice([node for node in self.nodes() if node.replication()["role"] != "master"])
        with contextlib.suppress(redis.RedisError), replica.client() as client:
            client.execute_command("CLUSTER FAILOVER")
