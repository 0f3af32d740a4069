"""Fixtures of the tests on SQS: an emulator of each kind, credentials, and nodes on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronlock.engines.sqs.backend import SqsBackend
from labs.proxy import Proxy
from labs.servers.aws import EMULATORS, ENVIRON, AwsServer
from labs.servers.aws_gate import Gate

from ..wire.aws_nodes import use_examples
from .sqs_nodes import open_node


@pytest.fixture(scope="module", params=sorted(EMULATORS))
def kind(request: pytest.FixtureRequest) -> str:
    """Which emulator is asked."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str) -> Iterator[AwsServer]:
    """That emulator."""
    with EMULATORS[kind]() as running:
        yield running


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the emulators' credentials, without this machine's own."""
    if not getattr(request.cls, "real", False):
        use_examples(monkeypatch)


@pytest.fixture
def node(server: AwsServer) -> Iterator[SqsBackend]:
    """A node that reaches the server without a proxy."""
    backend = open_node(server.queue_url())
    yield backend
    backend.close()


@pytest.fixture
def other(server: AwsServer) -> Iterator[SqsBackend]:
    """One more."""
    backend = open_node(server.queue_url())
    yield backend
    backend.close()


@pytest.fixture
def proxy(server: AwsServer) -> Iterator[Proxy]:
    """A proxy before the server."""
    with Proxy(server.port) as running:
        yield running


@pytest.fixture
def gate(server: AwsServer) -> Iterator[Gate]:
    """AWS's checks of signatures and permissions, before the server."""
    with Gate(server.port, ENVIRON["AWS_SECRET_ACCESS_KEY"], service="sqs") as standing:
        yield standing
