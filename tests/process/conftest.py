"""Fixtures: shared servers, and a node for each test that must leave no process behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.impostors import impostor
from labs.servers.redis import RedisServer

from .backends import backend_fixture as backend_fixture
from .backends import servers_fixture as servers_fixture
from .support import Node
from .terminal import Shell


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Give the Redis of the session, which no test stops."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Give a Redis for one test that persists every write."""
    with RedisServer(persistent=True) as server:
        yield server


@pytest.fixture
def node(tmp_path: Path, redis_server: RedisServer) -> Iterator[Node]:
    """Give a node on Redis, with keys of its own."""
    node = Node(tmp_path, redis_server.url(prefix=f"t-{os.urandom(6).hex()}"))
    yield node
    node.check_nothing_left()


@pytest.fixture
def own_node(tmp_path: Path, own_redis: RedisServer) -> Iterator[Node]:
    """Give a node on this test's own Redis."""
    node = Node(tmp_path, own_redis.url())
    yield node
    node.check_nothing_left()


@pytest.fixture
def file_node(tmp_path: Path) -> Iterator[Node]:
    """Give a node on the file backend."""
    node = Node(tmp_path, f"file://{tmp_path}/leases")
    yield node
    node.check_nothing_left()


@pytest.fixture
def web_server() -> Iterator[int]:
    """Give the port of a server that answers everything as a web server does, and then hangs up."""
    with impostor(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", hangs_up=True) as port:
        yield port


@pytest.fixture
def shell(node: Node) -> Iterator[Shell]:
    """Give a shell at a terminal, and a script ``locked`` that calls cronlock run."""
    words = " ".join(f"'{word}'" for word in node.line())
    node.environ["CRONLOCK_MIN_HOLD"] = "0"
    (node.directory / "locked").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (node.directory / "locked").chmod(0o755)
    shell = Shell(node)
    yield shell
    shell.close()
