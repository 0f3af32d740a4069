"""Fixtures of the tests on etcd: a server, and a node that reaches it through a wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.lease.leases import Leases
from labs.servers.etcd import EtcdServer

from ..hooks import Opener, Wire


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One server for each file."""
    with EtcdServer() as one:
        yield one


@pytest.fixture
def far(server: EtcdServer, wire: Wire, open_at: Opener) -> Leases:
    """A node that reaches the server through the wire."""
    return open_at(server.url(port=wire.port))
