"""etcd as an ensemble of three; its leader is killed, paused or cut off while leases are out."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cronlock.errors import BackendUnavailable
from cronlock.lease.vocabulary import HELD, Claim, Grant
from cronlock.testing import StoreContract, StoreHooks, eventually, granted, make_claim, make_ending, refused
from labs.proxy import Proxy
from labs.servers.etcd import EtcdEnsemble, EtcdServer
from labs.servers.process import HOST, Group, free_port

from ..hooks import opened
from .support import EtcdHooks

if TYPE_CHECKING:
    from cronlock.lease.vocabulary import Backend


class Peer(EtcdServer):
    """A server that the others reach through a proxy, by which it can be cut off from them."""

    def __init__(self) -> None:
        super().__init__()
        self._listening = free_port()
        self.way = _Way(self._listening)
        self.way.__enter__()

    @property
    def peer_address(self) -> str:
        """Where the others believe it to be."""
        return f"http://{HOST}:{self.way.port}"

    def command(self) -> list[str]:
        """Listen behind the proxy."""
        command = super().command()
        command[command.index("--listen-peer-urls") + 1] = f"http://{HOST}:{self._listening}"
        return command

    def close(self) -> None:
        """End the proxy as well."""
        super().close()
        self.way.__exit__(None, None, None)


class _Way(Proxy):
    """The way to one server, which knows who comes by it."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        #: Whether nothing gets through to the server, and from whom nothing does.
        self.closed = False
        self.closed_for: Peer | None = None

    def _upward(self, connection: Any, data: bytes) -> None:
        if self._is_open(connection):
            super()._upward(connection, data)

    def _downward(self, connection: Any, data: bytes) -> None:
        if self._is_open(connection):
            super()._downward(connection, data)

    def _is_open(self, connection: Any) -> bool:
        closed_for = self.closed_for
        if self.closed or closed_for is None:
            return not self.closed
        if not hasattr(connection, "comes_from"):
            connection.comes_from = _socket_number(connection.client.getpeername()[1])
        return not _has_socket(closed_for, connection.comes_from)


def _socket_number(port: int) -> str:
    """Return the kernel's number of the socket that has the local port `port` of an open connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port and fields[9] != "0":
            return fields[9]
    return "none"


def _has_socket(peer: Peer, number: str) -> bool:
    for entry in Path(f"/proc/{peer.pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(entry) == f"socket:[{number}]":
                return True
    return False


class Ensemble(EtcdEnsemble):
    """Three servers, one of which can be cut off from the others; clients reach all of them."""

    nodes: list[Any]

    def __init__(self) -> None:
        self.nodes = [Peer() for _ in range(3)]
        for position, node in enumerate(self.nodes, 1):
            node.name, node.peers = f"node{position}", self.nodes
        self._password = None
        Group.__init__(self, list(self.nodes))

    @contextmanager
    def without(self, peer: Peer) -> Iterator[None]:
        """Let nothing pass between `peer` and the others."""
        for node in self.nodes:
            node.way.closed, node.way.closed_for = node is peer, peer
        try:
            yield
        finally:
            for node in self.nodes:
                node.way.closed, node.way.closed_for = False, None
                node.way.cut()  # A stream with a gap is useless.


@pytest.fixture(scope="module")
def shared() -> Iterator[Ensemble]:
    """One ensemble for the whole file."""
    with Ensemble() as running:
        yield running


@pytest.fixture
def ensemble(shared: Ensemble) -> Ensemble:
    """The ensemble, whole."""
    eventually(lambda: _is_whole(shared), "the ensemble is whole", 120)
    return shared


def _is_whole(ensemble: Ensemble) -> bool:
    try:
        return ensemble.is_whole()
    except OSError:
        return False


@contextmanager
def leader_killed(ensemble: Ensemble) -> Iterator[None]:
    """Kill the leader, and start it again at the end."""
    leader = ensemble.leader()
    leader.kill()
    try:
        yield
    finally:
        leader.start()


@contextmanager
def leader_cut_off(ensemble: Ensemble) -> Iterator[None]:
    """Cut the leader off from the others, not from clients."""
    leader = ensemble.leader()
    assert isinstance(leader, Peer)
    with ensemble.without(leader):
        yield


FAULTS: dict[str, Callable[[Ensemble], AbstractContextManager[None]]] = {
    "killed": leader_killed,
    "paused": lambda ensemble: ensemble.leader().paused(),
    "cut off": leader_cut_off,
}


class TestEnsemble(StoreContract):
    """The contract of a store, on three servers of which nodes ask any."""

    histories = 4

    @pytest.fixture
    def hooks(self, ensemble: Ensemble) -> StoreHooks:
        """The hooks of the leader, and nodes that know all three."""
        return EtcdHooks(ensemble.leader(), ensemble.url())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lease_goes_on_under_the_next_leader(ensemble: Ensemble, key: str, fault: str) -> None:
    """Until there is a new leader renewals fail or succeed, and no other node gets the key, then or later."""
    with opened(ensemble.url()) as backend, opened(ensemble.url()) as other:
        grant = granted(backend.acquire(make_claim(key, ttl=60.0)))
        first = ensemble.leader()
        with FAULTS[fault](ensemble):
            for _ in range(2):
                eventually(lambda: _renews(backend, grant), "a renewal")
                eventually(lambda: _is_held(other, key), "a refusal")
            others = [node for node in ensemble.nodes if node is not first]
            eventually(lambda: any(_leads(node) for node in others), "another leader")
        eventually(lambda: _renews(backend, grant), "a renewal")
        eventually(lambda: _is_held(other, key), "a refusal")
        assert backend.release(grant, make_ending(), keep_hold=False)
        assert (granted(other.acquire(make_claim(key))).fence or 0) > (grant.fence or 0)


def _renews(backend: Backend, grant: Grant) -> bool:
    try:
        assert backend.renew(grant)
    except BackendUnavailable:
        return False
    return True


def _is_held(backend: Backend, key: str) -> bool:
    with suppress(BackendUnavailable):
        refused(backend.acquire(make_claim(key)), HELD)
        return True
    return False


def _leads(node: Peer) -> bool:
    with suppress(OSError):
        own, leader = node.member()
        return own == leader
    return False


def test_a_leader_that_was_cut_off_renews_nothing(ensemble: Ensemble, key: str) -> None:
    """Its clients get no answer, and the key goes to another node once the lease lapsed, not before."""
    leader = ensemble.leader()
    assert isinstance(leader, Peer)
    with opened(leader.url(), 1.0) as backend, opened(ensemble.url()) as other:
        sent = time.monotonic()
        claim = make_claim(key, ttl=3.0)
        grant = granted(_patiently(lambda: backend.acquire(claim)))
        with ensemble.without(leader):
            with pytest.raises(BackendUnavailable):
                backend.renew(grant)
            with pytest.raises(BackendUnavailable):
                backend.acquire(make_claim(key))
            with pytest.raises(BackendUnavailable):
                backend.read(key)
            eventually(lambda: isinstance(_asked(other, make_claim(key)), Grant), "the lease lapsed")
            assert time.monotonic() - sent >= 3.0
        eventually(lambda: _is_lost(backend, grant), "the old leader's answer")


def _patiently(ask: Callable[[], Any]) -> Any:
    """Return what `ask` returns, on a machine that may be slow."""
    answers: list[Any] = []

    def asked() -> bool:
        with suppress(BackendUnavailable):
            answers.append(ask())
        return len(answers) > 0

    eventually(asked, "an answer")
    return answers[0]


def _asked(backend: Backend, claim: Claim) -> Any:
    with suppress(BackendUnavailable):
        return backend.acquire(claim)
    return None


def _is_lost(backend: Backend, grant: Grant) -> bool:
    with suppress(BackendUnavailable):
        return not backend.renew(grant)
    return False


def test_a_leader_that_stood_still_takes_no_lease_back(ensemble: Ensemble, key: str) -> None:
    """It believes that leases ended which others kept since, and has them revoked when it goes on."""
    others = [node for node in ensemble.nodes if node is not ensemble.leader()]
    with opened(others[0].url()) as backend:
        grants = [granted(backend.acquire(make_claim(f"{key}-{number}", ttl=5.0))) for number in range(20)]
        started = time.monotonic()
        with ensemble.leader().paused():
            while time.monotonic() - started < 9.0:
                _keep(backend, grants)
        for _ in range(10):
            _keep(backend, grants)
            time.sleep(0.1)


def _keep(backend: Backend, grants: list[Grant]) -> None:
    """Renew each of `grants`; fail if one is lost."""
    for grant in grants:
        eventually(functools.partial(_renews, backend, grant), "a renewal")
