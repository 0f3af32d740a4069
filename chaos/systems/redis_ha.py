"""Redis with a master that can be replaced: Sentinel and Cluster."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import redis

from labs.machines import Machine
from labs.servers.process import Server
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer

from .redis import RedisAlone


class Sentinel(RedisAlone):
    """A master, two replicas and three Sentinels, on three machines."""

    name = "redis-sentinel"
    hosts = 3
    has_leader = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.server.close()
        self.group = RedisSentinel(persistent=True, places=self.places)
        self.service = self.group
        self.servers = list(self.group.nodes)

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.group.url()

    def leader(self) -> Server:
        """Return the master."""
        return self.group.master()

    def serves(self) -> bool:
        """Whether all sentinels know one master, and that has both replicas."""
        return self.group.is_whole()

    def fail_over(self) -> None:
        """SENTINEL FAILOVER."""
        with contextlib.suppress(redis.RedisError), self.group.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self.group.service)


class Cluster(RedisAlone):
    """Three masters with a replica each, on three machines."""

    name = "redis-cluster"
    hosts = 3
    has_leader = True

    def __init__(self, machines: Sequence[Machine], clock: Path | None = None) -> None:
        super().__init__(machines, clock)
        self.server.close()
        # Each replica is on another machine than its master.
        self.group = RedisCluster(places=[*self.places, *self.places[1:], self.places[0]], persistent=True)
        self.service = self.group
        self.servers = list(self.group.nodes)
        self._random = random.Random(0)

    def url(self) -> str:
        """Return the URL for the nodes."""
        return self.group.url()

    def leader(self) -> Server:
        """Return one of the masters."""
        return self._random.choice([node for node in self.group.nodes if _role(node) == "master"])

    def serves(self) -> bool:
        """Whether every node calls the cluster whole, and each master has a replica in step."""
        nodes = self.group.nodes
        return all(map(self.group.is_whole, nodes)) and all(_role(node) == "master" or _in_step(node) for node in nodes)

    def fail_over(self) -> None:
        """CLUSTER FAILOVER on one of the replicas."""
        replica = self._random.choice([node for node in self.group.nodes if _role(node) != "master"])
        with contextlib.suppress(redis.RedisError), replica.client() as client:
            client.execute_command("CLUSTER FAILOVER")


def _role(node: RedisServer) -> str:
    with node.client() as client:
        return str(client.info("replication")["role"])


def _in_step(node: RedisServer) -> bool:
    with node.client() as client:
        return bool(client.info("replication")["master_link_status"] == "up")
