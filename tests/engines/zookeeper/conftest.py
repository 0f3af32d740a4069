"""Fixtures of the tests on ZooKeeper."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.servers.zookeeper import ZooKeeperServer

from .support import LONG_SESSIONS


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    """One server for each file, with a short tick and long sessions."""
    with ZooKeeperServer(tick=250, settings=LONG_SESSIONS) as running:
        yield running
