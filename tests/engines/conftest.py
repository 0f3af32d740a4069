"""Fixtures of all engines: keys, nodes on a server, wires to it, and the cases that a class names.

The fixture `server` is that of the module, or of the engine's own conftest.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cronlock.lease.leases import Leases
from cronlock.testing import fresh_key

from .hooks import PATIENT, Opener, Wire, node_at


@pytest.fixture
def key() -> str:
    """An unused key."""
    return fresh_key()


@pytest.fixture
def open_at() -> Iterator[Opener]:
    """Open nodes, which are closed at the end."""
    nodes: list[Leases] = []

    def open_one(url: str, timeout: float = PATIENT) -> Leases:
        nodes.append(node_at(url, timeout))
        return nodes[-1]

    yield open_one
    for node in nodes:
        node.close()


@pytest.fixture
def node(server: Any, open_at: Opener) -> Leases:
    """A node that reaches the server."""
    return open_at(server.url())


@pytest.fixture
def store(server: Any, open_at: Opener) -> Any:
    """The store of a node that reaches the server."""
    return open_at(server.url()).store


@pytest.fixture
def wire(server: Any) -> Iterator[Wire]:
    """A wire to the server."""
    one = Wire(server.port)
    with one:
        yield one


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run an inherited test once for each of the class's cases: `foreign`, `bad_url`, `nonsense`."""
    for name in ("foreign", "bad_url", "nonsense"):
        if metafunc.cls is not None and name in metafunc.fixturenames:
            metafunc.parametrize(name, getattr(metafunc.cls, name), ids=lambda case: repr(case)[:60])
