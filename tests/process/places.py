"""Nodes on every backend, with real servers: fixtures and marks for tests that must pass on each.

A test module imports `servers_fixture` and `place_fixture` for its tests to find them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.memcached import MemcachedServer
from tests.servers.process import Server
from tests.servers.redis import RedisServer
from tests.servers.zookeeper import ZooKeeperServer

from .support import Node


class Place:
    """A node and the server that it uses, if there is one."""

    def __init__(self, node: Node, server: Server | None) -> None:
        self.node = node
        self.server = server


@pytest.fixture(scope="module", name="servers")
def servers_fixture() -> Iterator[dict[str, Server]]:
    """Give one server of each kind, started when the first test of its kind needs it."""
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        server.close()


def _server(kind: str, running: dict[str, Server]) -> Server | None:
    makers: dict[str, Callable[[], Server]] = {
        "redis": lambda: RedisServer(persistent=True),
        "memcached": MemcachedServer,
        "zookeeper": ZooKeeperServer,
    }
    if kind not in makers:
        return None
    if kind not in running:
        running[kind] = makers[kind]().start()
    return running[kind]


@pytest.fixture(name="place")
def place_fixture(request: pytest.FixtureRequest, tmp_path: Path, servers: dict[str, Server]) -> Iterator[Place]:
    """Give a node on the backend that the test names, with keys of its own."""
    server = _server(request.param, servers)
    url = f"file://{tmp_path}/leases" if server is None else server.url(prefix=f"t{os.urandom(6).hex()}")  # type: ignore[attr-defined]
    node = Node(tmp_path, url)
    yield Place(node, server)
    node.check_nothing_left()


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on each of these backends."""
    return pytest.mark.parametrize("place", kinds, indirect=True)


EVERY = on("file", "redis", "memcached", "zookeeper")
WITH_SERVER = on("redis", "memcached", "zookeeper")
