"""Fixtures of the tests on memcached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.servers.memcached import MemcachedServer

from .support import MemcachedHooks


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    """One memcached for all tests that do not harm it."""
    with MemcachedServer() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[MemcachedServer]:
    """A memcached of the test's own."""
    with MemcachedServer() as running:
        yield running


@pytest.fixture
def hooks(server: MemcachedServer) -> MemcachedHooks:
    """The shared server's hooks."""
    return MemcachedHooks(server)
