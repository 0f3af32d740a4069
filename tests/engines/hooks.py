"""How tests of every engine reach its server: over a wire that loses messages, and behind the store's back."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pytest

from cronlock.engines.registry import open_backend
from cronlock.errors import BackendUnavailable
from cronlock.lease.leases import Leases
from cronlock.lease.vocabulary import HELD, HOLD
from cronlock.testing import (
    LONG,
    StoreHooks,
    eventually,
    fresh_key,
    granted,
    make_claim,
    make_ending,
    refused,
)
from labs.proxy import Proxy

#: Long enough for any request on a loaded machine, in seconds.
PATIENT = 20.0
#: Opens a node at a URL, patient unless told otherwise.
Opener = Callable[..., Leases]


def turned_away(ask: Callable[[], object], match: str, kind: type[BackendUnavailable] = BackendUnavailable) -> None:
    """Check that `ask` is turned away for the reason `match`, within its limit.

    It is repeated where a last try began too late to be answered: that is no answer in time, of whatever kind it was.
    """

    def is_refused() -> bool:
        with pytest.raises(BackendUnavailable) as refusal:
            ask()
        said = str(refusal.value)
        if isinstance(refusal.value, kind) and re.search(match, said):
            return True
        assert "no answer in time" in said
        return False

    eventually(is_refused, f"a refusal for {match!r}")


class Wire(Proxy):
    """A proxy that loses or holds requests from one of a number on.

    It closes the connection of a lost request or reply, so that no test waits for a time limit.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._at = 0
        self._act: Callable[[], None] = self.pass_all
        self._lost = ""

    def on(self, number: int, act: Callable[[], None]) -> None:
        """Do `act` at the request that is `number` requests from now."""
        self._at, self._act = self.requests + number, act

    def lose_requests(self) -> None:
        """Hang up on whoever asks something, which does not reach the server."""
        self._lost = "request"

    def lose_replies(self) -> None:
        """Hang up on whoever is answered, once the server did what was asked."""
        self._lost = "reply"

    def pass_all(self) -> None:
        """Lose nothing from now on."""
        super().pass_all()
        self._at = 0
        self._lost = ""

    def _upward(self, connection: Any, data: bytes) -> None:
        if 0 < self._at <= self.requests + 1:  # Another connection may have asked meanwhile.
            self._at = 0  # Before the client can hear of it, and ask again.
            self._act()
        if self._lost == "request":
            self.requests += 1
            connection.close()
            return
        super()._upward(connection, data)
        if connection.held:
            connection.client.shutdown(socket.SHUT_WR)

    def _downward(self, connection: Any, data: bytes) -> None:
        if self._lost == "reply":
            connection.close()
        else:
            super()._downward(connection, data)


class FaultHooks(StoreHooks):
    """How tests reach an engine's server: over a wire, and behind the store's back."""

    #: How many requests each step of a run takes; a first one and a renewal by what the last does.
    acquire, swap, renew, release = 2, 1, 1, 1
    #: How many more the first run of a key takes.
    first = 0
    #: How long, in seconds, a store tries again that was hung up on.
    hasty = PATIENT
    #: Whether the server keeps a connection behind an answer.
    keeps_connections = True
    #: More of the server's URL.
    params: Mapping[str, str] = MappingProxyType({})

    def __init__(self, server: Any) -> None:
        self.server = server

    def open_store(self) -> Any:
        """Return one more node's store on the server."""
        return self.open_at()

    def open_at(self, port: int = 0, timeout: float = PATIENT) -> Any:
        """Return a store that reaches the server by `port`."""
        return node_at(self.url_at(port), timeout).store

    def url_at(self, port: int = 0) -> str:
        """Return the server's URL, by `port` if that is not 0."""
        return str(self.server.url(port=port or self.server.port, **self.params))

    @contextmanager
    def wired(self, timeout: float = PATIENT) -> Iterator[tuple[Wire, Any]]:
        """Give a wire to the server, and a store behind it."""
        wire = Wire(self.server.port)
        with wire:
            store = self.open_at(wire.port, timeout)
            try:
                yield wire, store
            finally:
                store.close()

    def put(self, key: str, value: Any) -> None:
        """Put something in a key's place."""
        raise NotImplementedError

    def kept(self, key: str) -> Any:
        """Return what the server keeps in a key's place, to be compared."""
        raise NotImplementedError


@contextmanager
def opened(url: str, timeout: float = PATIENT) -> Iterator[Leases]:
    """Open leases on a store, and close them."""
    backend = node_at(url, timeout)
    try:
        yield backend
    finally:
        backend.close()


def node_at(url: str, timeout: float = PATIENT) -> Leases:
    """Return leases on the store of `url`."""
    backend = open_backend(url, timeout)
    assert isinstance(backend, Leases)
    return backend


def why_unavailable(node: Leases) -> str:
    """Return why an acquire fails; empty if it does not."""
    try:
        node.acquire(make_claim(fresh_key()))
    except BackendUnavailable as error:
        return str(error)
    return ""


def full_cycle(node: Leases, key: str) -> None:
    """Do everything once."""
    grant = granted(node.acquire(make_claim(key, hold=LONG)))
    refused(node.acquire(make_claim(key)), HELD)
    assert node.renew(grant)
    assert node.release(grant, make_ending(), keep_hold=True)
    refused(node.acquire(make_claim(key)), HOLD)
    assert node.read(key) is not None
    if node.traits.lists_keys:
        assert key in set(node.keys())
    assert node.force_release(key, grant.claim.owner)
    claim = make_claim(key, ttl=86400.0)
    granted(node.acquire(claim))
    node.abandon(claim)
