"""Fixtures of the tests on Redis: one plain server, and a node on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.engines.redis.store import RedisStore
from cronlock.lease.leases import Leases
from labs.servers.process import HOST, eventually
from labs.servers.redis import RedisCluster, RedisSentinel, RedisServer

from .nodes import PASSWORD


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One plain server for all tests that do not harm it."""
    with RedisServer(unix=True) as running:
        yield running


@pytest.fixture
def replica(server: RedisServer) -> Iterator[RedisServer]:
    """A replica of it in step."""
    with RedisServer(extra=["--replicaof", HOST, str(server.port)]) as running:
        with running.client() as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up", "replica in step")
        yield running


@pytest.fixture
def backend(store: RedisStore) -> Leases:
    """The rules over it."""
    return Leases(store)


@pytest.fixture(scope="module")
def sentinel() -> Iterator[RedisSentinel]:
    """A master with two replicas and three sentinels."""
    with RedisSentinel(password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Three masters."""
    with RedisCluster() as running:
        yield running
