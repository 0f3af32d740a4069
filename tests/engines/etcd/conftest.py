"""What the tests on etcd share: a server, stores on it, and leases over these."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.lease.leases import Leases
from labs.servers.etcd import EtcdServer

from ..faults import Wire, opened


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One server for each file."""
    with EtcdServer() as one:
        yield one


@pytest.fixture
def node(server: EtcdServer) -> Iterator[Leases]:
    """A node on the shared server."""
    with opened(server.url()) as backend:
        yield backend


@pytest.fixture
def wire(server: EtcdServer) -> Iterator[Wire]:
    """A proxy before the shared server."""
    proxy = Wire(server.port)
    with proxy:
        yield proxy


@pytest.fixture
def far(server: EtcdServer, wire: Wire) -> Iterator[Leases]:
    """A node that reaches the server through the proxy."""
    with opened(server.url(port=wire.port)) as backend:
        yield backend
