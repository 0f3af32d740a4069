"""Fixtures of the tests on both SQL engines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.lease.leases import Leases
from labs.proxy import Proxy

from ..hooks import Opener
from .kinds import KINDS, Mysql, Postgresql, Server


@pytest.fixture(scope="module", params=[*KINDS], ids=str)
def kind(request: pytest.FixtureRequest) -> Postgresql | Mysql:
    """Both, one after the other."""
    return KINDS[request.param]


@pytest.fixture(scope="module")
def server(kind: Postgresql | Mysql) -> Iterator[Server]:
    """One server for all tests that do not harm it."""
    with kind.server() as running:
        running.run(kind.crowd)
        running.run(kind.grant)
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before the shared server."""
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def far(kind: Postgresql | Mysql, server: Server, proxy: Proxy, open_at: Opener, key: str) -> Leases:
    """A node that reaches the server through the proxy, and is connected."""
    backend = open_at(server.url(port=proxy.port, **kind.plain))
    assert backend.read(key) is None
    return backend
