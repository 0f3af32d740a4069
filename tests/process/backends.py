"""Nodes on every backend, with real servers: fixtures and marks for tests that must pass on each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.servers.creating import create
from labs.servers.kinds import CREATED, MAKERS
from labs.servers.process import Server

from .support import Node

#: Those that have a table of their own in the place of a prefix.
_TABLED = ("postgresql", "mysql")


class Backend:
    """A node and the server that it uses, if there is one."""

    def __init__(self, node: Node, server: Server | None) -> None:
        self.node = node
        self._server = server

    @property
    def server(self) -> Server:
        """The server, which must exist."""
        assert self._server is not None
        return self._server


@pytest.fixture(scope="session", name="servers")
def servers_fixture() -> Iterator[dict[str, Any]]:
    """Give one server of each kind, started when the first test of its kind needs it."""
    running: dict[str, Any] = {}
    yield running
    for server in running.values():
        server.close()


def _server(kind: str, running: dict[str, Any]) -> Any:
    if kind not in MAKERS:
        return None
    if kind not in running:
        running[kind] = MAKERS[kind]().start()
        if kind in CREATED:
            create(running[kind].url(), _environ(running[kind]))
    return running[kind]


def _fresh_url(kind: str, server: Any) -> str:
    """Return a URL under which no key was used before."""
    name = f"t{os.urandom(6).hex()}"
    if kind in _TABLED:
        server.make_table(name)
        return str(server.url(table=name))
    return str(server.url(prefix=name))


def _environ(server: Any) -> dict[str, str]:
    """Return what clients of a server need in their environment."""
    return dict(getattr(server, "environ", {}))


@pytest.fixture(name="backend")
def backend_fixture(request: pytest.FixtureRequest, tmp_path: Path, servers: dict[str, Any]) -> Iterator[Backend]:
    """Give a node on the backend that the test names, with keys of its own."""
    server = _server(request.param, servers)
    assert server is not None or request.param == "file", f"no server for {request.param} in labs/servers/kinds.py"
    node = Node(tmp_path, f"file://{tmp_path}/leases" if server is None else _fresh_url(request.param, server))
    node.environ.update(_environ(server))
    yield Backend(node, server)
    node.check_nothing_left()


def on(*kinds: str) -> pytest.MarkDecorator:
    """Run a test on each of these backends."""
    return pytest.mark.parametrize("backend", kinds, indirect=True)


#: All that keep a record of each key's runs, number them and say who has a key: all but SQS, where a
#: message that nobody sees is all that there is.
_RECORDING = ("file", "redis", "memcached", "zookeeper", "etcd", "postgresql", "mysql", "dynamodb", "s3")
EVERY = on(*_RECORDING, "sqs")
#: For what commands make of records; that every engine keeps them, the contract shows.
SHOWN = on("file", "redis")
#: For what is the same on all of them as long as these pass and the contract is kept.
VARIOUS = on("file", "redis", "memcached", "zookeeper")
VARIOUS_WITH_SERVER = on("redis", "memcached", "zookeeper")
RECORDING = on(*_RECORDING)
WITH_SERVER = on(*_RECORDING[1:], "sqs")
