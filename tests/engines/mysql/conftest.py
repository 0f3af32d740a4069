"""Fixtures of the tests on MySQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.servers.mariadb import MariadbServer


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    """One server for all tests that do not stop it."""
    with MariadbServer(settings={"max-connections": "30"}) as running:
        yield running
